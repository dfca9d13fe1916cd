"""An upstream against the bare model of its library: errors, speed, memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from espnet_ensemble.upstream.attention import layer_mask
from espnet_ensemble.upstream.base import Upstream
from espnet_ensemble.upstream.registry import UpstreamConf, load_upstream

#: Of the utterances that are compared; the last is shorter than most windows.
SECONDS = (7.3, 4.1, 1.62, 0.3)
#: The greatest relative error, in float32, that is none.
TOLERANCE = 1e-4

#: From one waveform, (samples,), to hidden states, each (frames, features).
Bare = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Comparison:
    """How an upstream compares with the bare model.

    Attributes:
        name: What was loaded.
        loader: "transformers", "s3prl", or "" of registered ones.
        upstream: What was loaded, with all its layers.
        bare_error: The greatest relative error of any layer of any utterance in a batch,
            against the bare model on the utterance alone; None: there is no bare model.
        batch_error: The same, against this upstream on the utterance alone.
        speed: Seconds of speech per second, in a batch.
        bare_speed: The same of the bare model, one utterance at a time.
        megabytes: Of the weights.
        peak_megabytes: The most that was allocated on the GPU, weights included; None: on a
            CPU, it is not known.
    """

    name: str
    loader: str
    upstream: Upstream
    bare_error: float | None
    batch_error: float
    speed: float
    bare_speed: float | None
    megabytes: float
    peak_megabytes: float | None

    @property
    def is_right(self) -> bool:
        """Whether errors are within :data:`TOLERANCE`."""
        return max(self.bare_error or 0.0, self.batch_error) <= TOLERANCE


@torch.no_grad()
def compare_with_bare(
    conf: UpstreamConf,
    download_dir: str | None = None,
    device: torch.device | str = "cpu",
    seconds: Sequence[float] = SECONDS,
) -> Comparison:
    """Load an upstream, download it where need be, and compare it with the bare model.

    Args:
        conf: Which; all its layers are compared.
        download_dir: Where downloads are; None: the library's default.
        device: Where it shall run.
        seconds: Lengths of the utterances, which are noise.

    Raises:
        EnsembleError: If it cannot be loaded.
    """
    upstream = load_upstream(conf, download_dir).to(device).eval()
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([int(s * upstream.fs) for s in seconds])
    wavs = 0.05 * torch.randn(len(lengths), int(lengths.max()), generator=generator)
    wavs[torch.arange(wavs.size(1)) >= lengths.unsqueeze(1)] = 0
    wavs, on_device = wavs.to(device), lengths.to(device)
    parts = [wav[:n] for wav, n in zip(wavs, lengths.tolist(), strict=True)]
    if wavs.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    together, speed = _timed(partial(upstream, wavs, on_device), sum(seconds), wavs)
    peak = torch.cuda.max_memory_allocated() / 1e6 if wavs.is_cuda else None
    states, num_frames = together
    ours = [
        [state[item, :frames] for state in states]
        for item, frames in enumerate(num_frames.tolist())
    ]
    alone = [
        [state[0] for state in upstream(part[None], on_device[i : i + 1])[0]]
        for i, part in enumerate(parts)
    ]
    bare, bare_error, bare_speed = _load_bare(conf, download_dir, device), None, None
    if bare is not None:
        run = bare
        expected, bare_speed = _timed(
            lambda: [run(part) for part in parts], sum(seconds), wavs
        )
        bare_error = _error(ours, [[x[i] for i in upstream.layers] for x in expected])
    weights = upstream.state_dict().values()
    return Comparison(
        name=conf.name,
        loader=""
        if conf.is_registered
        else "s3prl" * conf.uses_s3prl or "transformers",
        upstream=upstream,
        bare_error=bare_error,
        batch_error=_error(ours, alone),
        speed=speed,
        bare_speed=bare_speed,
        megabytes=sum(w.numel() * w.element_size() for w in weights) / 1e6,
        peak_megabytes=peak,
    )


def _timed(run: Callable[[], Any], seconds: float, wavs: Tensor) -> tuple[Any, float]:
    """What it gives, and seconds of speech per second, after one run to warm up."""
    run()
    _wait(wavs)
    begin = time.perf_counter()
    found = run()
    _wait(wavs)
    return found, seconds / (time.perf_counter() - begin)


def _wait(wavs: Tensor) -> None:
    if wavs.is_cuda:
        torch.cuda.synchronize()


def _error(ours: list[list[Tensor]], expected: list[list[Tensor]]) -> float:
    """The greatest relative error; infinite if one has frames that the other lacks."""
    errors = []
    for found, reference in zip(ours, expected, strict=True):
        for x, y in zip(found, reference, strict=True):
            if len(x) > len(y):
                return float("inf")
            y = y[: len(x)]  # those of padding are left out
            errors.append(float((x - y).norm() / y.norm()))
    return max(errors)


def _load_bare(conf: UpstreamConf, download_dir: str | None, device) -> Bare | None:
    if conf.is_registered or conf.trust_remote_code:
        return None
    if conf.uses_s3prl:
        return _load_bare_s3prl(conf, device)
    return _BareEncoder(conf, download_dir, device)


def _load_bare_s3prl(conf: UpstreamConf, device) -> Bare:
    from espnet_ensemble.upstream.s3prl_hub import import_s3prl_nn, safe_loading

    # Where it was downloaded, the upstream has told S3PRL.
    nn = import_s3prl_nn()
    with safe_loading():
        model = nn.S3PRLUpstream(
            conf.name, conf.path_or_url, extra_conf=conf.extra_conf
        )
    model = model.to(device).eval()

    def run(wav: Tensor) -> list[Tensor]:
        length = torch.tensor([len(wav)], device=wav.device)
        states, num_frames = model(wav[None], length)
        return [h[0, :n] for h, n in zip(states, num_frames, strict=True)]

    return run


class _BareEncoder:
    """A model of transformers, loaded and called by it alone."""

    def __init__(self, conf: UpstreamConf, download_dir: str | None, device):
        from transformers import AutoConfig, AutoFeatureExtractor

        from espnet_ensemble.upstream.adapters import load_adapter
        from espnet_ensemble.upstream.families import FAMILIES
        from espnet_ensemble.upstream.huggingface import quiet, set_for_inference

        given = dict(revision=conf.revision, cache_dir=download_dir)
        config = AutoConfig.from_pretrained(conf.name, **given)
        self.family = family = FAMILIES[config.model_type]
        self.extractor = AutoFeatureExtractor.from_pretrained(conf.name, **given)
        set_for_inference(family.encoder_config(config))
        with quiet():
            model = family.encoder_class().from_pretrained(
                conf.name,
                config=family.loaded_config(config),
                dtype=torch.float32,
                key_mapping={f"^{family.weights}": ""} if family.weights else None,
                **given,
            )
        self.model = family.set_up(model, self.extractor)
        language = (conf.extra_conf or {}).get("language")
        if language is not None:
            load_adapter(conf.name, self.model, language, download_dir, conf.revision)
        self.model.to(device).eval()
        self.states: list[Tensor] = []
        options = family.options
        for layer in attrgetter(options.get("stack", "encoder.layers"))(self.model):
            layer.register_forward_pre_hook(self._keep, with_kwargs=True)
        self.last: list[Tensor] = []
        if "last" in options:
            module = attrgetter(options["last"])(self.model)
            module.register_forward_hook(lambda *x: self.last.append(x[-1]))
        elif "dropped" in options:  # what is behind the last hidden state
            module = attrgetter(options["dropped"][0])(self.model)
            module.register_forward_pre_hook(lambda _, x: self.last.append(x[0]))

    def _keep(self, layer, args, kwargs) -> None:
        self.states.append(args[0] if args else kwargs["hidden_states"])

    def __call__(self, wav: Tensor) -> list[Tensor]:
        self.states, self.last = [], []
        last = self.model(**self._inputs(wav)).last_hidden_state
        states = [*self.states, *(self.last or [last])]
        states = [x[0] if not isinstance(x, Tensor) else x for x in states]
        squeezed = getattr(self.model.config, "squeeze_factor", 1)
        if squeezed > 1:
            places = torch.arange(last.size(1), device=wav.device) // squeezed
            states = [
                *(h[:, places.clamp(max=h.size(1) - 1)] for h in states[:-1]),
                last,
            ]
        if "averaged" in self.family.options:
            each = self.family.options["averaged"](self.model.config)
            states = [
                h.unfold(1, n, n).mean(dim=-1)
                for h, n in zip(states, each, strict=True)
            ]
        return [state[0] for state in states]

    def _inputs(self, wav: Tensor) -> dict[str, Tensor]:
        from espnet_ensemble.upstream import extracted

        options, kind = self.family.options, self.family.upstream
        asked = extracted.extraction_options(self.extractor, options.get("asked"))
        found = self.extractor([wav.cpu().numpy()], **asked)
        inputs = {
            key: torch.as_tensor(found[key])
            for key in (*_VALUES, *extracted.MASKS, "padding_mask")
            if key in found
        }
        if isinstance(kind, type) and issubclass(kind, extracted.ExtractedUpstream):
            values = next(inputs[k] for k in _VALUES if k in inputs)
            is_window = kind is extracted.WindowUpstream
            mask = options.get("mask", None if is_window else _MASK)
            masks = {}
            if mask is not None:
                content = next(inputs[key] for key in extracted.MASKS if key in inputs)
                if is_window:
                    per_frame = (
                        content.size(1) // self.model.config.max_source_positions
                    )
                    content = content[:, ::per_frame].bool()
                    content = layer_mask(content, self.model, torch.float32)
                masks = {mask: content}
            inputs = {options.get("feats", "input_features"): values, **masks}
        if hasattr(self.model.config, "squeeze_factor"):
            inputs.pop(_MASK, None)
        return {key: value.to(wav.device) for key, value in inputs.items()}


_VALUES, _MASK = ("input_features", "input_values"), "attention_mask"
