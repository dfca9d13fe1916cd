"""ESPnet3's ASR system, with the features of frozen upstreams computed once."""

import logging
from pathlib import Path
from typing import Any, ClassVar, cast

from espnet2.bin import tokenize_text
from espnet3.components.data.dataset_module import instantiate_dataset_reference
from espnet3.contract.stages import StageSpec
from espnet3.systems.esp2_asr.system import ASRSystem
from omegaconf import DictConfig, OmegaConf

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.extract import ExtractConf, extract_sets
from espnet_ensemble.feature_cache.workers import Workers
from espnet_ensemble.files import atomic_write, check_keys
from espnet_ensemble.integrations.espnet3.datasets import TranscribedDataset

_log = logging.getLogger(__name__)

#: The module of ESPnet3's default configurations of ASR.
CONF_PACKAGE = "egs3.TEMPLATE.esp2_asr"
_FEATURE_CACHE = "espnet_ensemble.integrations.espnet3.feature_cache"
_EXTRACT_OPTIONS = (
    "storage",
    "shard_seconds",
    "batch_seconds",
    "nj",
    "ngpu",
    "dask",
)


class EnsembleASRSystem(ASRSystem):
    """ESPnet3's ASR system with one more stage, and tokens of single characters.

    - ``extract_feats`` computes the features of the frozen upstreams once, of the datasets in
      ``dataset.train`` and ``dataset.valid``, and ``train`` trains from them, where the
      training configuration has a section ``feature_cache`` (``cache_dir``, and options of
      ``espnet-ensemble extract``). Without it, training is from audio.
    - ``train_tokenizer``, with ``tokenizer.token_type: char``, lists the characters of
      ``tokenizer.text``, a table of transcripts, as ESPnet2's recipes do:
      ``<tokenizer.save_path>/tokens.txt``.

    A recipe's ``run.py``:

    .. code-block:: python

        from espnet3.systems.launch import launch
        from espnet_ensemble.integrations.espnet3.system import (
            CONF_PACKAGE,
            EnsembleASRSystem,
        )

        if __name__ == "__main__":
            launch(EnsembleASRSystem, conf_package=CONF_PACKAGE)
    """

    stages: ClassVar[tuple[StageSpec, ...]] = tuple(
        stage
        for known in ASRSystem.stages
        for stage in (
            (
                known,
                StageSpec(name="extract_feats", config="training", log_dir="exp_dir"),
            )
            if known.name == "collect_stats"
            else (known,)
        )
    )

    def extract_feats(self, *args: Any, **kwargs: Any) -> None:
        """Compute features of the frozen upstreams, or find that they are there.

        Raises:
            EnsembleError: If something is wrong with the section ``feature_cache``, a
                dataset or an upstream.
        """
        self._reject_stage_args("extract_feats", args, kwargs)
        if self._cache_conf() is None:
            _log.info("no feature_cache in the training configuration: nothing to do")
            return
        for data_dir, path in self._extract().items():
            _log.info("features of %s: %s", data_dir, path)

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Train from features that were computed before, or from audio."""
        self._reject_stage_args("train", args, kwargs)
        if self._cache_conf() is not None:
            paths = self._extract()
            for split in ("train", "valid"):
                self.training_config.dataset[split] = [
                    _cached(entry, paths[data_dir], data_dir)
                    for entry, data_dir in self._entries(split)
                ]
        return super().train()

    def train_tokenizer(self, *args: Any, **kwargs: Any) -> None:
        """List the characters of the transcripts, or train a SentencePiece model."""
        self._reject_stage_args("train_tokenizer", args, kwargs)
        conf = self.training_config.tokenizer
        if not _is_char(conf):
            super().train_tokenizer()
        elif not self._has_tokenizer():
            with atomic_write(Path(conf.save_path, "tokens.txt")) as part:
                options = ["--token_type", "char", "--field", "2-"]
                options += ["--write_vocabulary", "true"]
                for symbol in ("<blank>:0", "<unk>:1", "<sos/eos>:-1"):
                    options += ["--add_symbol", symbol]
                options += ["--input", str(conf.text), "--output", str(part)]
                tokenize_text.main(options)

    def _has_tokenizer(self) -> bool:
        conf = self.training_config.tokenizer
        if _is_char(conf):
            return Path(conf.save_path, "tokens.txt").exists()
        return super()._has_tokenizer()

    def _cache_conf(self) -> dict[str, Any] | None:
        section = self.training_config.get("feature_cache")
        if section is None:
            return None
        if not OmegaConf.is_dict(section):
            raise EnsembleError(f"feature_cache: expected options, found {section!r}")
        conf = _plain(section)
        check_keys("feature_cache", conf, ["cache_dir"], _EXTRACT_OPTIONS)
        return conf

    def _extract(self) -> dict[Path, Path]:
        """Extract what is not there yet: data directory -> members.yaml."""
        conf = self._cache_conf() or {}
        cache_dir = conf.pop("cache_dir")
        workers = {key: conf.pop(key) for key in ("nj", "ngpu", "dask") if key in conf}
        # Each of them once.
        data_dirs = {
            data_dir: None
            for split in ("train", "valid")
            for _, data_dir in self._entries(split)
        }
        frontend_conf = _plain(self.training_config.model.frontend_conf)
        extract_conf = ExtractConf(workers=Workers(**workers), **conf)
        paths = extract_sets([*data_dirs], frontend_conf, cache_dir, extract_conf)
        return dict(zip(data_dirs, paths, strict=True))

    def _entries(self, split: str) -> list[tuple[DictConfig, Path]]:
        """Datasets of a split: their entries, and their data directories."""
        entries = []
        for entry in self.training_config.dataset[split] or []:
            dataset = instantiate_dataset_reference(
                entry, recipe_dir=self.training_config.get("recipe_dir")
            )
            if not isinstance(dataset, TranscribedDataset):
                raise EnsembleError(
                    f"feature_cache: dataset.{split}: expected datasets of data "
                    "directories, such as data_src: "
                    "espnet_ensemble.integrations.espnet3.data_dir; found "
                    f"{type(dataset).__name__}"
                )
            entries.append((entry, dataset.data_dir))
        return entries


def _plain(conf: DictConfig) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(conf, resolve=True))


def _is_char(conf: DictConfig) -> bool:
    return conf.get("token_type") == "char"


def _cached(entry: DictConfig, path: Path, data_dir: Path) -> dict[str, Any]:
    """The entry of the same dataset, from features."""
    return {
        **_plain(OmegaConf.create(entry)),
        "data_src": _FEATURE_CACHE,
        "data_src_args": {"path": str(path), "data_dir": str(data_dir)},
    }
