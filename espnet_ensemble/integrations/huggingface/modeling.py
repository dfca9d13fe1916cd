"""An ensemble that transformers saves and loads as it does any model."""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, PreTrainedModel, Wav2Vec2FeatureExtractor
from transformers.utils import ModelOutput

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, atomic_write
from espnet_ensemble.frames import padding_mask
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2.contents import Contents
from espnet_ensemble.integrations.espnet2.manifest import Manifest
from espnet_ensemble.integrations.espnet2.members import Member
from espnet_ensemble.integrations.espnet2.packed_config import check_packed_upstream
from espnet_ensemble.integrations.huggingface.card import encoder_card
from espnet_ensemble.integrations.huggingface.configuration import EnsembleConfig
from espnet_ensemble.upstream.registry import UpstreamConf

WEIGHTS, CARD = "model.safetensors", "README.md"
#: Where in a folder the upstreams are that no other machine has.
UPSTREAMS = "upstreams"
_PREFIX = "ensemble."


@dataclass
class EnsembleOutput(ModelOutput):
    """What :class:`EnsembleModel` gives.

    Attributes:
        last_hidden_state: Features, (batch, frames, hidden_size), zero at the padding.
        attention_mask: 1 where there is a frame, 0 at the padding, (batch, frames).
    """

    last_hidden_state: Tensor | None = None
    attention_mask: Tensor | None = None


class EnsembleModel(PreTrainedModel):
    """An ensemble as one encoder, for whatever takes a model of transformers.

    ``save_pretrained`` writes what was trained (fusion, weights of layers, upstreams with
    ``frozen: false``) and names upstreams: published ones by id and commit, as archives of
    models do; those of this machine are copied into the folder. ``AutoModel`` loads it where
    this package has been imported.

    Args:
        config: Its upstreams are loaded.

    Attributes:
        ensemble: The :class:`~espnet_ensemble.ensemble.Ensemble`.

    Raises:
        EnsembleError: If the configuration is wrong, or an upstream cannot be loaded.

    Example:
        >>> upstreams = [getfixture("tiny_wavlm"), getfixture("tiny_hubert")]
        >>> conf = {"upstreams": upstreams, "fusion": "sum"}
        >>> model = EnsembleModel(EnsembleConfig(frontend_conf=conf))
        >>> folder = getfixture("tmp_path") / "encoder"
        >>> model.save_pretrained(folder)
        >>> model = AutoModel.from_pretrained(folder)
        >>> attention_mask = torch.ones(2, 16000)
        >>> attention_mask[1, 8000:] = 0
        >>> output = model(torch.rand(2, 16000), attention_mask)
        >>> output.last_hidden_state.shape, output.attention_mask.sum(dim=1).tolist()
        (torch.Size([2, 49, 32]), [49, 24])
    """

    config_class = EnsembleConfig
    base_model_prefix = ""
    main_input_name = "input_values"

    def __init__(self, config: EnsembleConfig):
        if config.frontend_conf is None:
            raise EnsembleError("config: expected frontend_conf, found none")
        super().__init__(config)
        # Who makes this inside a model of his own may be loading that without memory.
        with torch.device("cpu"):
            self.ensemble = FrontendConf.parse(config.frontend_conf).build()
        config.hidden_size = self.ensemble.output_size()
        config.sampling_rate = self.ensemble.fs
        # transformers looks for a parameter or buffer of each name.
        self.register_state_dict_post_hook(_leave_out_probes)
        self.post_init()
        self.eval()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave everything as its class, or its checkpoint, has made it."""

    def _initialize_weights(self, module: torch.nn.Module, *args: Any) -> None:
        """Likewise."""

    def init_weights(self) -> None:
        """Likewise: those of upstreams are trained."""

    @property
    def output_dim(self) -> int:
        """Features per frame."""
        return self.ensemble.output_size()

    @property
    def sampling_rate(self) -> int:
        """Of the speech that it takes, in Hz."""
        return self.ensemble.fs

    @property
    def hop_size_in_ms(self) -> float:
        """Milliseconds from one frame to the next."""
        return self.ensemble.hop_length * 1000 / self.ensemble.fs

    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None
    ) -> EnsembleOutput:
        """Compute features.

        Args:
            input_values: Waveforms in [-1, 1] at ``sampling_rate``, (batch, samples), padded
                at the end.
            attention_mask: 1 where there is speech, 0 at the padding, (batch, samples);
                None: there is no padding.

        Raises:
            ValueError: If a shape is wrong, an utterance is empty, padding is not at the end
                alone, or a sample is not finite.
        """
        lengths = _lengths(input_values, attention_mask)
        feats, feats_lens = self.ensemble(input_values, lengths)
        mask = ~padding_mask(feats_lens, feats.size(1))
        return EnsembleOutput(feats, mask.to(feats.device).long())

    @property
    def dtype(self) -> torch.dtype:
        """Type of what was trained, and of the features."""
        return self._weight.dtype

    @property
    def device(self) -> torch.device:
        """Where it is, and speech must be."""
        return self._weight.device

    @property
    def _weight(self) -> Tensor:
        """Any: without parameters, there are fingerprints; without these, parameters."""
        return next(chain(self.buffers(), self.parameters()))

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: PathLike,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs,
    ) -> None:
        """Write what makes this model again, on any machine.

        Args:
            save_directory: Folder for ``config.json``, the weights, ``preprocessor_config.json``
                of a feature extractor that pads waveforms, upstreams of this machine, and a
                model card (``README.md``; one that is there is kept).
            is_main_process: Whether this process writes; others do nothing.
            state_dict: The weights; None: those of this model.
            push_to_hub: Must be false: its upload leaves out folders.
            kwargs: About other formats of weights; they are in one file, of safetensors.

        Raises:
            EnsembleError: If an upstream of this machine lacks something.
        """
        if push_to_hub:
            raise EnsembleError(
                "push_to_hub: save_pretrained(DIR) first, then `hf upload USER/MODEL DIR`"
            )
        if not is_main_process:
            return
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        config = copy.deepcopy(self.config)
        config.architectures = [type(self).__name__]
        config.frontend_conf = self._lay_out(folder)
        config.save_pretrained(folder)
        Wav2Vec2FeatureExtractor(
            sampling_rate=self.sampling_rate,
            do_normalize=False,
            return_attention_mask=True,
        ).save_pretrained(folder)
        weights = self.ensemble.state_dict()
        for key, value in (state_dict or {}).items():
            weights[key.removeprefix(_PREFIX)] = value
        # What is tied is there twice.
        copied = {k: v.detach().cpu().clone().contiguous() for k, v in weights.items()}
        with atomic_write(folder / WEIGHTS) as part:
            save_file(copied, part, metadata={"format": "pt"})

    def _lay_out(self, folder: Path) -> dict[str, Any]:
        """Copy upstreams of this machine; ``frontend_conf`` as others can use it."""
        conf = FrontendConf.parse(self.config.frontend_conf)
        for upstream in conf.upstreams:
            if upstream.trust_remote_code and upstream.local_option:
                raise EnsembleError(
                    f"upstream {upstream.name!r}: a folder with code of its own is not "
                    "handed on; publish it on the Hugging Face hub, and give its id and "
                    "revision"
                )
        contents = Contents()
        members = [
            Member.add(u, contents, conf.download_dir, bundle=False)
            for u in conf.upstreams
        ]
        contents.check()
        contents.lay_out(folder)
        packed = tuple(member.packed for member in members)
        conf = replace(conf, upstreams=packed, download_dir=None)
        if not (folder / CARD).exists():
            self._write_card(folder, conf, members)
        return _plain(conf)

    def _write_card(
        self, folder: Path, conf: FrontendConf, members: Sequence[Member]
    ) -> None:
        described = [
            replace(
                member.describe(None),
                fingerprint=upstream.fingerprint.hex() if conf.frozen else None,
            )
            for member, upstream in zip(members, self.ensemble.upstreams, strict=True)
        ]
        manifest = Manifest(self.sampling_rate, tuple(described))
        text = encoder_card(
            folder.absolute().name,
            conf,
            manifest,
            self.output_dim,
            self.hop_size_in_ms,
        )
        with atomic_write(folder / CARD) as part:
            Path(part).write_text(text, encoding="utf-8")

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: PathLike,
        config: EnsembleConfig | None = None,
        cache_dir: str | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        revision: str | None = None,
        token: str | bool | None = None,
        dtype: torch.dtype | str | None = None,
        trust_remote_code: bool | None = False,
        **kwargs,
    ) -> "EnsembleModel":
        """Load what :meth:`save_pretrained` has written.

        Args:
            pretrained_model_name_or_path: Its folder, or id on the Hugging Face hub.
            config: Its configuration; None: that of the folder.
            cache_dir: Where downloads are kept, those of upstreams, too.
            force_download: Whether to download it anew.
            local_files_only: Whether to download nothing of it.
            revision: Commit, tag or branch of the id.
            token: For the hub.
            dtype: Type of what was trained; that of frozen upstreams is the configuration's.
            trust_remote_code: Whether upstreams may run code of their own from the hub, of
                the commit that the configuration names.
            kwargs: None, but for what ``AutoModel`` adds.

        Raises:
            EnsembleError: If it is not found, is incomplete, names what is not in its folder
                and not published, or its upstreams are not those that it was trained over.
        """
        _refuse_unknown(kwargs)
        name = os.fspath(pretrained_model_name_or_path)
        folder = Path(name)
        if not folder.is_dir():
            options = dict(
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                revision=revision,
                token=token,
            )
            folder = _download(name, options)
        config = copy.deepcopy(config or EnsembleConfig.from_pretrained(folder))
        config.frontend_conf = _resolve(
            config, folder, cache_dir, bool(trust_remote_code)
        )
        model = cls(config)
        try:
            weights = load_file(folder / WEIGHTS)
            with torch.device("cpu"):  # as in the constructor
                model.ensemble.load_state_dict(weights)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise EnsembleError(
                f"{folder / WEIGHTS}: expected the weights of this ensemble: {error}"
            ) from error
        if isinstance(dtype, str):
            dtype = None if dtype == "auto" else getattr(torch, dtype)
        return model if dtype is None else torch.nn.Module.to(model, dtype)


def _lengths(wavs: Tensor, mask: Tensor | None) -> Tensor:
    if wavs.dim() != 2 or (mask is not None and mask.shape != wavs.shape):
        raise ValueError(
            "expected waveforms and their mask, (batch, samples); found "
            f"{tuple(wavs.shape)} and {None if mask is None else tuple(mask.shape)}"
        )
    if mask is None:
        return torch.full((len(wavs),), wavs.size(1), device=wavs.device)
    kept = mask.bool().cpu()
    lengths = kept.sum(dim=1)
    if not torch.equal(kept, ~padding_mask(lengths, wavs.size(1))):
        raise ValueError("attention_mask: expected zeros at the end alone")
    return lengths.to(wavs.device)


def _plain(conf: FrontendConf) -> dict[str, Any]:
    """What JSON holds, without what is default."""
    conf = replace(conf, feature_cache=None)  # of a training on this machine
    default = asdict(FrontendConf(conf.upstreams))
    upstreams = []
    for upstream in conf.upstreams:
        usual = asdict(UpstreamConf(upstream.name))
        changed = {k: v for k, v in asdict(upstream).items() if v != usual[k]}
        upstreams.append({"name": upstream.name, **changed})
    found = {k: v for k, v in asdict(conf).items() if v != default[k]}
    return {**found, "upstreams": upstreams}


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    # What AutoModel passes on of its own work.
    own = ("_from_auto", "adapter_kwargs", "_commit_hash")
    unknown = [k for k, v in options.items() if k not in own and v is not None]
    if unknown:
        raise EnsembleError(
            f"from_pretrained: {unknown[0]}: not an option of an ensemble; move the loaded "
            "model with to(device), and say in frontend_conf what upstreams compute in"
        )


def _download(name: str, options: Mapping[str, Any]) -> Path:
    patterns = ["config.json", WEIGHTS, f"{UPSTREAMS}/**"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, **options))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise EnsembleError(
            f"{name}: expected a folder, or an id on the Hugging Face hub: {error}"
        ) from error


def _resolve(
    config: EnsembleConfig, folder: Path, cache_dir: str | None, trust: bool
) -> dict[str, Any]:
    """``frontend_conf`` with upstreams of the folder named so that they are found."""
    conf = FrontendConf.parse(config.frontend_conf or {})
    here = folder / UPSTREAMS
    names = {f"{UPSTREAMS}/{path.name}" for path in here.glob("*")}
    upstreams = []
    for upstream in conf.upstreams:
        problems = list(check_packed_upstream(upstream, names, trust))
        if problems:
            advice = (
                "; from_pretrained(..., trust_remote_code=True) lets it, of a model that "
                "you trust"
            )
            raise EnsembleError(
                f"{folder}/config.json: {'; '.join(problems)}"
                + (advice if upstream.trust_remote_code and not trust else "")
            )
        if upstream.name in names:
            upstream = replace(upstream, name=str(folder.absolute() / upstream.name))
        if upstream.path_or_url in names:
            path = str(folder.absolute() / str(upstream.path_or_url))
            upstream = replace(upstream, path_or_url=path)
        upstreams.append(upstream)
    return _plain(replace(conf, upstreams=tuple(upstreams), download_dir=cache_dir))


def _leave_out_probes(module, state_dict, prefix, metadata) -> None:
    state_dict.pop(f"{prefix}{_PREFIX}probes", None)


AutoModel.register(EnsembleConfig, EnsembleModel, exist_ok=True)
