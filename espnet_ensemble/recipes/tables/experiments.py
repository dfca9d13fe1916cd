"""What follows from a system: its configuration, its command and its folders."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import write_yaml
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.layers import Layer, layer_indices
from espnet_ensemble.recipes.names import AsrNames, NamingOptions, tag_of
from espnet_ensemble.recipes.tables.systems import System
from espnet_ensemble.recipes.tables.variants import (
    DEFAULT_VARIANT,
    VARIANTS,
    Variant,
    count_batches,
)
from espnet_ensemble.recipes.training_config import TrainingConfig
from espnet_ensemble.upstream.checkpoints import CHECKPOINTS, CUSTOM_LOADERS

# Name in ESPnet -> what a reader calls it.
ENCODERS = {
    "transformer": "transformer",
    "conformer": "conformer",
    "e_branchformer": "E-Branchformer",
}
LOADERS = ("transformers", "s3prl")
# Options that the table sets, and others that asr.sh names an experiment by.
_TAKEN = set(
    "asr_config asr_exp asr_tag cleaner expdir feats_normalize frontend_config fs "
    "g2p inference_args inference_asr_model inference_config inference_tag lang nbpe "
    "pretrained_model speed_perturb_factors test_sets token_type train_set "
    "upstreams".split()
)
_NAMING = {field.name for field in fields(NamingOptions)}
_PUBLISHED = {checkpoint.huggingface: checkpoint for checkpoint in CHECKPOINTS}


@dataclass(frozen=True)
class Setup:
    """How all systems of a table are made, where there is a choice.

    Attributes:
        variant: What the paper leaves open, one of :data:`.variants.VARIANTS`.
        layer: Of every upstream: "last", "weighted_sum" or an index. "last" is also what
            a head asks for that has another.
        layers: Families and layers of those that have another, such as
            (("wav2vec2", 7),).
        fusion: How several upstreams are combined; one alone has nothing to combine.
        encoder: In place of the transformer, where the downstream model has one.
        loader: What loads the upstreams; those that S3PRL has no name for are left to
            transformers.
        seed: Of weights and batches.
        asr_args: More options of training, as ``asr.sh`` takes them.
    """

    variant: str = DEFAULT_VARIANT
    layer: str | int = "last"
    layers: tuple[tuple[str, str | int], ...] = ()
    fusion: str = "concat"
    encoder: str = "transformer"
    loader: str = "transformers"
    seed: int = 0
    asr_args: str = ""

    @property
    def name(self) -> str:
        """What is not default, for names of files, but for the seed; "" where all is.

        Example:
            >>> Setup(layers=(("wav2vec2", 7),), encoder="conformer").name
            'wav2vec2-layer7_conformer'
        """
        parts = [] if self.variant == DEFAULT_VARIANT else [self.variant]
        parts += [] if self.layer == "last" else [f"layer{self.layer}"]
        parts += [f"{family}-layer{layer}" for family, layer in self.layers]
        parts += [] if self.fusion == "concat" else [self.fusion]
        parts += [] if self.encoder == "transformer" else [self.encoder]
        parts += [] if self.loader == "transformers" else [self.loader]
        parts += [tag_of(self.asr_args).strip("_")] if self.asr_args else []
        return "_".join(parts)

    @property
    def options(self) -> str:
        """The options of ``espnet-ensemble table`` that make it, but for the seeds.

        Example:
            >>> Setup(layers=(("wav2vec2", 7),), encoder="conformer").options
            '--layer wav2vec2=7 --encoder conformer'
        """
        words = []
        if self.variant != DEFAULT_VARIANT:
            words.append(f"--variant {self.variant}")
        layers = [] if self.layer == "last" else [str(self.layer)]
        layers += [f"{family}={layer}" for family, layer in self.layers]
        if layers:
            words.append(f"--layer {','.join(layers)}")
        given, default = vars(self), vars(Setup())
        for key in ("fusion", "encoder", "loader"):
            if given[key] != default[key]:
                words.append(f"--{key} {given[key]}")
        if self.asr_args:
            words.append(f"--run_args '--asr_args \"{self.asr_args}\"'")
        return " ".join(words)


@dataclass(frozen=True)
class Experiment:
    """A system as an experiment of its recipe.

    Attributes:
        root: The checkout with the recipe.
        system: What is trained, on which features.
        setup: How, where there is a choice.
    """

    root: Path
    system: System
    setup: Setup = Setup()

    def __str__(self) -> str:
        seed = f" seed {self.setup.seed}" if self.setup.seed else ""
        return f"{self.system}{seed}"

    @property
    def recipe_dir(self) -> Path:
        """The folder of the recipe."""
        return self.root / "egs2" / self.system.corpus.recipe / "asr1"

    @property
    def variant(self) -> Variant:
        """What the paper leaves open."""
        return VARIANTS[self.setup.variant]

    @property
    def recipe_config(self) -> str:
        """The recipe's training configuration of the downstream model, in its folder.

        Another encoder has as many layers as its own file says.
        """
        head, encoder = self.system.head.name, self.setup.encoder
        if encoder != "transformer":
            head = re.sub(r"^transformer\d+(?=_ctc$)", encoder, head)
        return f"conf/train_asr_{head}.yaml"

    @property
    def head_title(self) -> str:
        """What a reader calls the downstream model, by the encoder that it has."""
        head = self.system.head
        if self.recipe_config == f"conf/train_asr_{head.name}.yaml":
            return head.title
        blocks = self._derived.content["encoder_conf"]["num_blocks"]
        return f"{blocks} {ENCODERS[self.setup.encoder]} layers + CTC"

    @cached_property
    def _derived(self) -> TrainingConfig:
        """The recipe's configuration as the variant has it, with its own frontend."""
        config = TrainingConfig.read(self.recipe_dir / self.recipe_config)
        content = dict(config.content)
        for key, value in self.system.corpus.asr_conf.items():
            old = content.get(key)
            content[key] = {**old, **value} if isinstance(old, dict) else value
        if self.system.max_epoch is not None:
            content["max_epoch"] = self.system.max_epoch
        name = f"{config.stem}_{self.variant.name}"
        return TrainingConfig(
            name, self.variant.derive(content, self.system.corpus.hours)
        )

    @cached_property
    def training_config(self) -> TrainingConfig:
        """The configuration with the system's frontend, as ``asr.sh`` makes it.

        Raises:
            EnsembleError: If the recipe has no such configuration, or an upstream no such
                layer.
        """
        config = self._derived.with_upstreams(self.upstreams).with_fs(NamingOptions.fs)
        if len(self.upstreams) == 1:
            return config
        conf = {**config.content["frontend_conf"], "fusion": self.setup.fusion}
        if self.variant.alone_share:
            conf["member_warmup"] = self._member_warmup(FrontendConf.parse(conf))
        return replace(config, content={**config.content, "frontend_conf": conf})

    def _member_warmup(self, conf: FrontendConf) -> dict[str, Any]:
        """For how long training shows the best upstream alone, and which one it is."""
        num_batches = count_batches(self._derived.content, self.system.corpus.hours)
        return {
            "num_batches": round(num_batches * self.variant.alone_share),
            "first": conf.member_names[self.system.families.index(self.system.first)],
        }

    @property
    def upstreams(self) -> list[str | dict[str, Any]]:
        """The entries of ``frontend_conf``: names, or mappings with more.

        Raises:
            EnsembleError: If an upstream has no such layer.
        """
        pairs = zip(self.system.families, self.system.upstreams, strict=True)
        return [self._upstream(family, name) for family, name in pairs]

    def _upstream(self, family: str, name: str) -> str | dict[str, Any]:
        layer: Layer = dict(self.setup.layers).get(family, self.setup.layer)
        layer = self.system.head.layer if layer == "last" else layer
        entry: str | dict[str, Any] = name
        if self.setup.loader == "s3prl":
            entry = _s3prl_entry(family, name)
        if layer == "last":
            return entry
        _check_layer(name, layer)
        return {
            **({"name": entry} if isinstance(entry, str) else entry),
            "layer": layer,
        }

    @property
    def _frontend_option(self) -> str:
        """The frontend's file, from the recipe's folder; "" where names say all of it."""
        fuses = self.setup.fusion != "concat" or self.variant.alone_share
        if not (fuses and len(self.upstreams) > 1) and all(
            isinstance(entry, str) for entry in self.upstreams
        ):
            return ""
        return str(self.frontend_config.relative_to(self.recipe_dir))

    @property
    def max_epoch(self) -> int:
        """Epochs that training has."""
        given = re.findall(r"--max_epoch[ =](\d+)", self.asr_args)
        return int(given[-1]) if given else self.training_config.content["max_epoch"]

    @property
    def asr_args(self) -> str:
        """Options of training that override the configuration."""
        words = []
        if self.system.max_epoch is not None:
            words.append(f"--max_epoch {self.system.max_epoch}")
        if self.setup.seed:
            words.append(f"--seed {self.setup.seed}")
        return " ".join([*words, *filter(None, [self.setup.asr_args])])

    @property
    def options(self) -> dict[str, str]:
        """The options of ``run.sh`` that make the experiment, without their hyphens."""
        system = self.system
        options = {
            "train_set": system.corpus.train_set,
            "test_sets": " ".join(system.corpus.sets),
            "asr_config": str(self.asr_config.relative_to(self.recipe_dir)),
        }
        # Also what is empty: run.sh of a recipe has defaults of its own.
        options["frontend_config"] = self._frontend_option
        if not self._frontend_option:
            options["upstreams"] = " ".join(map(str, self.upstreams))
        options["asr_args"] = self.asr_args
        if system.corpus.lang:
            options["lang"] = system.corpus.lang
        options["inference_config"] = system.inference_config
        options["inference_asr_model"] = self.variant.asr_model
        return options

    @cached_property
    def names(self) -> AsrNames:
        """What ``asr.sh`` calls its folders."""
        given = {k: v for k, v in self.options.items() if k in _NAMING}
        return AsrNames.of(NamingOptions(**given), self.training_config)

    @property
    def _keep_posteriors(self) -> dict[str, str]:
        """Options of ``run.sh`` that do it; transcripts, and so the name, are the same."""
        if not self.system.save_posteriors:
            return {}
        return {
            "inference_args": "--save_posteriors true",
            "inference_tag": self.names.inference_tag,
        }

    @property
    def exp_dir(self) -> Path:
        """Where ``asr.sh`` puts the experiment."""
        return self.recipe_dir / self.names.asr_exp

    @property
    def _conf_dir(self) -> Path:
        """Where files for the experiments of a corpus are."""
        folder = self.recipe_dir / NamingOptions.expdir / "conf"
        return folder / "tables" / self.system.corpus.name

    @property
    def asr_config(self) -> Path:
        """The file for ``--asr_config``: the recipe's, as the variant has it."""
        return self._conf_dir / f"{self._derived.stem}.yaml"

    @property
    def frontend_config(self) -> Path:
        """The file for ``--frontend_config``, where upstreams are more than names."""
        config = self.training_config
        return self._conf_dir / "frontends" / f"{config.name}.yaml"

    def write_configs(self) -> None:
        """Write the files that the command names."""
        _write(self.asr_config, self._derived.content)
        if self._frontend_option:
            content = self.training_config.content
            keys = ("frontend", "frontend_conf")
            _write(self.frontend_config, {key: content[key] for key in keys})

    def command(self, run_args: list[str]) -> list[str]:
        """What trains, decodes and scores the system, to be run in the checkout.

        Args:
            run_args: More options of ``run.sh``; those of training are the setup's
                ``asr_args``.

        Raises:
            EnsembleError: If ``run_args`` has an option that the table sets, or one that
                the folder of the experiment depends on.
        """
        for option in run_args[::2]:
            name = option.removeprefix("--").replace("-", "_")
            if name in _TAKEN or name == "asr_args":
                raise EnsembleError(f"--run_args: {option} is for the table to set")
        run = (self.recipe_dir / "run.sh").relative_to(self.root)
        words = [
            w
            for name, value in {**self.options, **self._keep_posteriors}.items()
            for w in (f"--{name}", value)
        ]
        return [str(run), *words, *run_args]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_yaml(path, content)


def _s3prl_entry(family: str, name: str) -> str | dict[str, Any]:
    """What S3PRL loads a checkpoint by; the name itself where it has none."""
    published = _PUBLISHED.get(name)
    if published is not None:
        return published.s3prl_entry
    loader = CUSTOM_LOADERS.get(family)
    return name if loader is None else {"name": loader, "path_or_url": name}


def _check_layer(name: str, layer: Layer) -> None:
    published = _PUBLISHED.get(name)
    if published is None:
        return
    try:
        layer_indices(layer, published.num_layers)
    except ValueError as error:
        raise EnsembleError(f"{name}: {error}") from error
