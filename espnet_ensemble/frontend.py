"""The frontend ``ensemble``: several upstreams, then fusion."""

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import humanfriendly
import torch
import torchaudio
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from torch import Tensor
from torch.nn import ModuleList

from espnet_ensemble.fingerprint import to_hex, to_tensor
from espnet_ensemble.fusion import build_fusion
from espnet_ensemble.layers import LayerWeightedSum
from espnet_ensemble.upstream import Upstream, UpstreamConf, load_upstream
from espnet_ensemble.upstream.padding import padding_mask

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class EnsembleFrontend(AbsFrontend):
    """Features of several self-supervised speech encoders, combined.

    Implements the ensemble features (and, over fine-tuned encoders, the ensemble model)
    of Arunkumar, Sukhadia and Umesh, "Investigation of Ensemble features of
    Self-Supervised Pretrained Models for Automatic Speech Recognition", Interspeech 2022.

    Frozen upstreams are in evaluation mode always and hidden from the model that holds
    this frontend: they are in no ``state_dict``, no optimizer and no DDP broadcast, and
    ESPnet's initialization leaves them alone. They follow this module's device. A
    checkpoint holds a fingerprint of their weights instead, and loading it over other
    weights is refused.

    Args:
        upstreams: For each upstream its name, or a mapping with ``name`` and the other
            options of :class:`espnet_ensemble.upstream.UpstreamConf`.
        fusion: How to combine them, one of :data:`espnet_ensemble.fusion.FUSIONS`.
        fusion_conf: Options of the fusion.
        fs: Sample rate of the speech, in Hz (or "16k"). Speech at another rate than the
            upstreams' is resampled.
        frozen: Whether upstreams keep their weights. False makes them ordinary
            submodules, ``frontend.upstreams``, that train with the model.
        dtype: Type that frozen upstreams compute in: float32, bfloat16, float16. The
            features are float32 in any case.
        download_dir: Where to keep downloaded checkpoints; None: the default of S3PRL
            or transformers.

    Raises:
        ValueError: If an option is wrong; :class:`espnet_ensemble.upstream.UpstreamError`,
            one of its subclasses, if an upstream cannot be loaded.

    Example:
        >>> frontend = EnsembleFrontend(upstreams=[getfixture("tiny_wavlm")])
        >>> speech, speech_lengths = torch.rand(2, 16000), torch.tensor([16000, 8000])
        >>> feats, feats_lens = frontend(speech, speech_lengths)
        >>> feats.shape, feats_lens.tolist()
        (torch.Size([2, 49, 32]), [49, 24])
    """

    def __init__(
        self,
        upstreams: Sequence[Union[str, Dict[str, Any]]],
        fusion: str = "concat",
        fusion_conf: Optional[Dict[str, Any]] = None,
        fs: Union[int, str] = 16000,
        frozen: bool = True,
        dtype: str = "float32",
        download_dir: Optional[str] = None,
    ):
        super().__init__()
        if isinstance(upstreams, (str, dict)) or len(upstreams) < 1:
            raise ValueError(
                f"upstreams: expected a list of at least one upstream, got {upstreams!r}"
            )
        if dtype not in DTYPES:
            raise ValueError(f"dtype: expected {', '.join(DTYPES)}, got {dtype!r}")
        if not frozen and dtype != "float32":
            raise ValueError(
                f"dtype: {dtype} is for frozen upstreams; to train them in mixed "
                "precision, use ESPnet's use_amp"
            )
        self.fs = humanfriendly.parse_size(fs) if isinstance(fs, str) else fs
        if self.fs < 1:
            raise ValueError(f"fs: expected a sample rate in Hz, got {fs}")
        self.frozen = frozen
        self._confs = [UpstreamConf.parse(entry) for entry in upstreams]
        self._download_dir = download_dir

        loaded = [load_upstream(conf, download_dir) for conf in self._confs]
        if len({upstream.fs for upstream in loaded}) > 1:
            raise ValueError(
                "upstreams expect different sample rates: "
                + ", ".join(f"{u.name} {u.fs} Hz" for u in loaded)
            )
        if frozen:
            for upstream in loaded:
                # extract() runs them without gradients. Not by requires_grad_(False):
                # torch.matmul looks at it, and WavLM's attention would take a slower path.
                upstream.eval().to(DTYPES[dtype])
            #: The upstreams, if frozen. torch.nn.Module does not look into a tuple:
            #: nothing it does reaches them.
            self.frozen_upstreams = tuple(loaded)
            self.register_buffer(
                "fingerprints", torch.stack([to_tensor(u.fingerprint) for u in loaded])
            )
        else:
            self.upstreams = ModuleList(loaded)

        hop_lengths = [upstream.hop_length for upstream in loaded]
        hop_length = math.gcd(*hop_lengths)
        self._repeats = [hop // hop_length for hop in hop_lengths]
        #: Samples of the speech from one frame of the features to the next.
        self.hop_length = hop_length * self.fs // loaded[0].fs
        self.layers = ModuleList(LayerWeightedSum(len(u.layers)) for u in loaded)
        #: Feature size of every hidden state, for each upstream: those of its layers.
        self.feature_sizes = [[u.feature_size] * len(u.layers) for u in loaded]
        self.fusion = build_fusion(
            fusion, [u.feature_size for u in loaded], **(fusion_conf or {})
        )

    def output_size(self) -> int:
        """Number of features per frame."""
        return self.fusion.output_size

    def forward(self, speech: Tensor, speech_lengths: Tensor) -> Tuple[Tensor, Tensor]:
        """Compute the fused features of speech, or fuse features computed before.

        Args:
            speech: Waveforms in [-1, 1] at :attr:`fs`, (batch, samples), padded at the
                end; or the features of all upstreams, (batch, frames, features), which go
                straight to fusion: what :meth:`extract` gives, concatenated.
            speech_lengths: Samples, or frames, of each utterance, (batch,).

        Returns:
            Features, (batch, frames, output_size), zero at the padding, and the number of
            frames of each utterance, (batch,).

        Raises:
            ValueError: If a shape or a length is wrong, or a sample is not finite.
        """
        _check_batch(speech, speech_lengths)
        if speech.dim() == 2:
            hidden_states, feats_lens = self.extract(speech, speech_lengths)
        else:
            hidden_states, feats_lens = self._split(speech), speech_lengths
        feats = self.fusion(
            [combine(states) for combine, states in zip(self.layers, hidden_states)]
        )
        padding = padding_mask(feats_lens, feats.size(1))
        return feats.masked_fill(padding.unsqueeze(-1), 0), feats_lens

    def extract(
        self, speech: Tensor, speech_lengths: Tensor
    ) -> Tuple[List[List[Tensor]], Tensor]:
        """Run the upstreams, without layer weights and fusion.

        Upstreams with different hops are brought to the frame rate of their greatest
        common divisor by repeating frames. Where they differ in the number of frames, an
        utterance gets the smallest.

        Args:
            speech: Waveforms in [-1, 1] at :attr:`fs`, (batch, samples).
            speech_lengths: Samples of each utterance, (batch,).

        Returns:
            For each upstream and each of its layers, (batch, frames, feature_size) in
            float32, undefined at the padding; and the number of frames of each
            utterance, (batch,).

        Raises:
            ValueError: If a sample is not finite.
        """
        upstreams = self._upstreams()
        if self.frozen:
            self._check_device(speech.device)
        padding = padding_mask(speech_lengths, speech.size(1))
        wavs = speech.masked_fill(padding, 0)
        _check_finite(wavs)
        wavs, lengths = self._resample(wavs, speech_lengths, upstreams[0].fs)

        hidden_states, num_frames = [], []
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            for upstream, repeats in zip(upstreams, self._repeats):
                states, frames = upstream(wavs, lengths)
                hidden_states.append(
                    [_repeat(state.float(), repeats) for state in states]
                )
                num_frames.append(frames * repeats)
        feats_lens = torch.stack(num_frames).amin(dim=0)
        longest = int(feats_lens.max())
        return [
            [s[:, :longest] for s in states] for states in hidden_states
        ], feats_lens

    def reload_pretrained_parameters(self) -> None:
        """Give trainable upstreams their weights back; ESPnet calls this after ``init``."""
        if self.frozen:
            return
        for upstream, conf in zip(self.upstreams, self._confs):
            source = load_upstream(conf, self._download_dir)
            upstream.load_state_dict(source.state_dict())

    def _upstreams(self) -> Sequence[Upstream]:
        return self.frozen_upstreams if self.frozen else self.upstreams

    def _check_device(self, device: torch.device) -> None:
        parameters = (p for u in self.frozen_upstreams for p in u.parameters())
        theirs = next(parameters, self.fingerprints).device
        if theirs != device:
            raise RuntimeError(
                f"speech is on {device} but the frozen upstreams on {theirs}. With several "
                "GPUs, use --multiprocessing_distributed true: DataParallel cannot "
                "replicate them."
            )

    def _resample(
        self, wavs: Tensor, lengths: Tensor, fs: int
    ) -> Tuple[Tensor, Tensor]:
        if self.fs == fs:
            return wavs, lengths
        wavs = torchaudio.functional.resample(wavs, self.fs, fs)
        # Each utterance gets the samples that it has when resampled alone.
        divisor = math.gcd(self.fs, fs)
        lengths = -(-lengths * (fs // divisor) // (self.fs // divisor))
        return wavs.masked_fill(padding_mask(lengths, wavs.size(1)), 0), lengths

    def _split(self, feats: Tensor) -> List[List[Tensor]]:
        sizes = [sum(sizes) for sizes in self.feature_sizes]
        if feats.size(2) != sum(sizes):
            raise ValueError(
                "speech: expected mono waveforms, (batch, samples), or the upstreams' "
                f"features, (batch, frames, {sum(sizes)}); got {tuple(feats.shape)}. Of "
                "multi-channel speech, choose one channel."
            )
        return [
            list(upstream.split(sizes, dim=2))
            for upstream, sizes in zip(feats.split(sizes, dim=2), self.feature_sizes)
        ]

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        if self.frozen:
            for upstream in self.frozen_upstreams:
                upstream.to(self.fingerprints.device)
        return self

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors
    ):
        key = prefix + "fingerprints"
        if self.frozen and key in state_dict:
            errors.extend(self._differences(state_dict[key]))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing, unexpected, errors
        )

    def _differences(self, fingerprints: Tensor) -> List[str]:
        if len(fingerprints) != len(self.frozen_upstreams):
            return [
                f"the checkpoint was made over {len(fingerprints)} upstreams, this "
                f"frontend has {len(self.frozen_upstreams)}"
            ]
        return [
            f"upstream {upstream.name!r} has other weights (fingerprint "
            f"{upstream.fingerprint.hex()[:16]}) than the one that the checkpoint was "
            f"made over ({to_hex(theirs)[:16]})"
            for upstream, theirs in zip(self.frozen_upstreams, fingerprints)
            if upstream.fingerprint.hex() != to_hex(theirs)
        ]


def _repeat(states: Tensor, repeats: int) -> Tensor:
    return states if repeats == 1 else states.repeat_interleave(repeats, dim=1)


def _check_batch(speech: Tensor, lengths: Tensor) -> None:
    if speech.dim() not in (2, 3) or not speech.is_floating_point():
        raise ValueError(
            "speech: expected floating-point waveforms, (batch, samples), or features, "
            f"(batch, frames, features); got {speech.dtype}, {tuple(speech.shape)}"
        )
    if lengths.shape != speech.shape[:1]:
        raise ValueError(
            f"speech_lengths: expected ({len(speech)},), got {tuple(lengths.shape)}"
        )
    for item, length in enumerate(lengths.tolist()):
        if not 1 <= length <= speech.size(1):
            raise ValueError(
                f"speech_lengths: utterance {item} of the batch has length {length}; "
                f"expected 1 to {speech.size(1)}, the size of speech"
            )


def _check_finite(wavs: Tensor) -> None:
    finite = wavs.isfinite().all(dim=1)
    if not finite.all():
        items = (~finite).nonzero().flatten().tolist()
        raise ValueError(
            f"speech: NaN or infinite samples in utterance(s) {items} of the batch"
        )
