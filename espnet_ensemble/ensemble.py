"""Several upstreams run side by side, and their features fused: parts in, torch only.

Nothing here knows ESPnet, names or configurations.
:class:`espnet_ensemble.frontend_conf.FrontendConf` makes an ensemble from a configuration,
:class:`~espnet_ensemble.integrations.espnet2.frontend.EnsembleFrontend` is the one that
ESPnet takes.
"""

import math
import zlib
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import Module, ModuleList

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.featurizer import Featurizer, LayerStack
from espnet_ensemble.frames import FrameGrid, FrameStacking, padding_mask, to_device
from espnet_ensemble.fusion import Concat, Fusion
from espnet_ensemble.masking import BandMask, MemberDropout, MemberWarmup
from espnet_ensemble.normalization import find_normalization
from espnet_ensemble.upstream.base import Upstream
from espnet_ensemble.upstream.fingerprint import (
    probe_difference,
    to_hex,
    to_tensor,
)

#: Of each upstream, one tensor for each of its layers.
HiddenStates = list[list[Tensor]]


class Ensemble(Module):
    """Features of several self-supervised speech encoders, combined.

    Implements the ensemble features (and, over fine-tuned encoders, the ensemble model)
    of Arunkumar, Sukhadia and Umesh, "Investigation of Ensemble features of
    Self-Supervised Pretrained Models for Automatic Speech Recognition", Interspeech 2022.

    Frozen upstreams are in evaluation mode always and hidden from the model that holds
    this module: they are in no ``state_dict``, no optimizer and no DDP broadcast, and are
    initialized by nobody. They follow this module's device from the first speech on. Its
    ``state_dict`` holds a fingerprint of their weights instead, and a probe of their
    features; loading it over other weights, or over upstreams that compute something else
    with them, is refused.

    Args:
        upstreams: At least one, all of one sample rate.
        layers: For each upstream, what makes one of the hidden states of its layers, which it
            gets one after the other; None:
            :class:`~espnet_ensemble.featurizer.Featurizer`, or
            :class:`~espnet_ensemble.featurizer.LayerStack` where the fusion takes all layers.
        fusion: Combines the upstreams' features; None: concatenation.
        fs: Sample rate of the speech, in Hz; None: that of the upstreams. Speech at
            another rate is resampled (which needs torchaudio).
        frozen: Whether upstreams keep their weights. False makes them ordinary
            submodules that train.
        normalize: What brings every hidden state to one scale, before anything else is done
            with it: one of ``espnet_ensemble.normalization.NORMALIZATIONS``.
        feature_mask: Hides some of each upstream's features in training.
        member_dropout: Hides whole upstreams in training.
        member_warmup: Hides all upstreams but one in the first batches of training.
        frame_rate: Frames per second; upstreams of fewer are repeated, of more are put side
            by side. None: all are repeated to the lowest common multiple.

    Raises:
        EnsembleError: If there is no upstream, their sample rates differ, or there is no
            such normalization or frame rate.

    Example:
        >>> from espnet_ensemble.upstream import UpstreamConf, load_upstream
        >>> names = [getfixture("tiny_wavlm"), getfixture("tiny_hubert")]
        >>> ensemble = Ensemble([load_upstream(UpstreamConf(name)) for name in names])
        >>> speech, speech_lengths = torch.rand(2, 16000), torch.tensor([16000, 8000])
        >>> feats, feats_lens = ensemble(speech, speech_lengths)
        >>> feats.shape, feats_lens.tolist()
        (torch.Size([2, 49, 64]), [49, 24])
    """

    fingerprints: Tensor

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        layers: Sequence[Module] | None = None,
        fusion: Fusion | None = None,
        fs: int | None = None,
        frozen: bool = True,
        normalize: str = "none",
        feature_mask: BandMask | None = None,
        member_dropout: MemberDropout | None = None,
        member_warmup: MemberWarmup | None = None,
        frame_rate: float | None = None,
    ):
        super().__init__()
        if not upstreams:
            raise EnsembleError("upstreams: expected at least one, found none")
        check_sample_rates([u.name for u in upstreams], [u.fs for u in upstreams])
        self.fs = upstreams[0].fs if fs is None else fs
        self.frozen = frozen
        if frozen:
            for upstream in upstreams:
                # extract() runs them without gradients. Not by requires_grad_(False):
                # torch.matmul looks at it, and WavLM's attention would take a slower path.
                upstream.eval()
            # None: none of them has run yet.
            self._upstreams_device: torch.device | None = None
            self.register_buffer(
                "fingerprints",
                torch.stack([to_tensor(u.fingerprint) for u in upstreams]),
            )
        #: The upstreams. torch.nn.Module does not look into a tuple: nothing that it does
        #: reaches those that are frozen.
        self.upstreams: Sequence[Upstream] = (
            tuple(upstreams) if frozen else ModuleList(upstreams)  # type: ignore[assignment]
        )
        self._grid = FrameGrid.common([upstream.hop_length for upstream in upstreams])
        #: Samples of the speech from one frame to the next of what :meth:`extract` gives.
        self.extracted_hop_length = self._grid.hop_length * self.fs // upstreams[0].fs
        self._stacking = find_stacking(upstreams, frame_rate)
        #: The same of the features.
        self.hop_length = self._stacking.num_grid_frames * self.extracted_hop_length
        #: Feature size of every hidden state, for each upstream: those of its layers.
        self.feature_sizes = [[u.feature_size] * len(u.layers) for u in upstreams]
        stacked = zip(upstreams, self._stacking.stacks, strict=True)
        fusion = fusion or Concat([u.feature_size * stacks for u, stacks in stacked])
        if fusion.takes_layers and max(self._stacking.stacks) > 1:
            raise EnsembleError(
                "frame_rate: a fusion over all layers takes each frame by itself; choose "
                "another one, or no frame_rate"
            )
        if layers is None:
            stacks = fusion.takes_layers
            layers = [
                LayerStack() if stacks else Featurizer(len(u.layers)) for u in upstreams
            ]
        self._normalize = find_normalization(normalize)
        self._feature_mask = feature_mask
        self._member_dropout = member_dropout
        self.member_warmup = member_warmup
        #: Places of the upstreams that are used.
        self.members: tuple[int, ...] = tuple(range(len(upstreams)))
        self.layers = ModuleList(layers)
        self.fusion = fusion

    def output_size(self) -> int:
        """Number of features per frame."""
        return self.fusion.output_size

    @property
    def projected_sizes(self) -> list[int]:
        """Features per frame of what the fusion makes of each upstream by itself."""
        with torch.no_grad():
            parts = zip(
                self.layers, self.feature_sizes, self._stacking.stacks, strict=True
            )
            feats = [
                combine(
                    [torch.zeros(1, 1, n * stacks, dtype=self._dtype) for n in sizes]
                )
                for combine, sizes, stacks in parts
            ]
            return [x.size(-1) for x in self.fusion.project(feats)]

    @property
    def total_size(self) -> int:
        """Features per frame before fusion: of all layers of all upstreams."""
        return sum(map(sum, self.feature_sizes))

    def select(self, members: Collection[int]) -> None:
        """Use some of the upstreams from now on.

        The others are not run, and their features are zero, as those of a member that
        ``member_dropout`` hides. The size of the result stays.

        Args:
            members: Their places, counted from 0.

        Raises:
            EnsembleError: If there is none, or no such upstream.
        """
        known = range(len(self.upstreams))
        if not members or not set(members) <= set(known):
            raise EnsembleError(
                f"members: expected at least one of {', '.join(map(str, known))}, found "
                f"{', '.join(map(str, members)) or 'none'}"
            )
        self.members = tuple(sorted(set(members)))

    def forward(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the fused features of speech: :meth:`extract`, then :meth:`fuse`.

        Args:
            speech: Waveforms in [-1, 1] at ``fs``, (batch, samples), padded at the
                end, in any floating-point type.
            speech_lengths: Samples of each utterance, (batch,).

        Returns:
            Features, (batch, frames, output_size), zero at the padding, in the type of
            this module; and the number of frames of each utterance, (batch,).

        Raises:
            ValueError: If a shape or a length is wrong, or a sample is not finite.
        """
        hidden_states, feats_lens = self._run(speech, speech_lengths)
        feats_lens = to_device(feats_lens, speech.device)
        return self.fuse(hidden_states, feats_lens), self.fused_lens(feats_lens)

    def fused_lens(self, feats_lens: Tensor) -> Tensor:
        """Frames that :meth:`fuse` makes of those that :meth:`extract` gave, (batch,)."""
        return self._stacking.num_frames(feats_lens)

    def extract(
        self, speech: Tensor, speech_lengths: Tensor
    ) -> tuple[HiddenStates, Tensor]:
        """Run the upstreams, without normalization, layer weights and fusion.

        All are brought to one :class:`~espnet_ensemble.frames.FrameGrid`.

        Args:
            speech: Waveforms in [-1, 1] at ``fs``, (batch, samples).
            speech_lengths: Samples of each utterance, (batch,).

        Returns:
            For each upstream and each of its layers, (batch, frames, feature_size) in
            float32, undefined at the padding, zero of those that are not used; and the
            number of frames of each utterance, (batch,), on the host.

        Raises:
            ValueError: If a shape or a length is wrong, or a sample is not finite.
        """
        hidden_states, feats_lens = self._run(speech, speech_lengths)
        return [[s.float() for s in states] for states in hidden_states], feats_lens

    def _run(
        self, speech: Tensor, speech_lengths: Tensor
    ) -> tuple[HiddenStates, Tensor]:
        """As :meth:`extract`, in the types that the upstreams compute in."""
        if speech.dim() != 2:
            raise ValueError(
                "speech: expected waveforms, (batch, samples); found "
                f"{tuple(speech.shape)}"
            )
        check_batch(speech, speech_lengths)
        if self.frozen:
            self._move_upstreams(speech.device)
        padding = padding_mask(speech_lengths, speech.size(1), speech.device)
        wavs = speech.float().masked_fill(padding, 0)
        on_host = None
        if wavs.device.type != "cpu" and any(
            self.upstreams[index].on_host for index in self.members
        ):
            # They are there when the lengths are.
            on_host = to_device(wavs, torch.device("cpu"))
        lengths = read_lengths(speech, speech_lengths, wavs.isfinite().all(dim=1))
        rates = self.fs, self.upstreams[0].fs
        if on_host is not None:
            on_host, _ = _resample(on_host, lengths, *rates)
        wavs, lengths = _resample(wavs, lengths, *rates)

        states, num_frames = {}, {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            for index in self.members:
                upstream = self.upstreams[index]
                takes_copy = on_host is not None and upstream.on_host
                given = on_host if takes_copy else wavs
                found, frames = upstream(given, lengths)
                num_frames[index] = frames.cpu()
                states[index] = [self._grid.repeat(s, index) for s in found]
        feats_lens = self._grid.num_frames(num_frames)
        shape = (len(wavs), int(feats_lens.max()))
        for index, sizes in enumerate(self.feature_sizes):
            if index not in states:
                states[index] = [wavs.new_zeros(*shape, size) for size in sizes]
        return [
            [s[:, : shape[1]] for s in states[index]] for index in sorted(states)
        ], feats_lens

    def fuse(self, hidden_states: HiddenStates, feats_lens: Tensor) -> Tensor:
        """Make one feature sequence of what the upstreams gave.

        Args:
            hidden_states: As :meth:`extract` gives them, or :meth:`split`.
            feats_lens: Frames of each utterance, (batch,), on any device.

        Returns:
            (batch, frames, output_size), zero at the padding, in the type of this module
        """
        feats_lens = to_device(feats_lens, hidden_states[0][0].device)
        feats = [
            combine(self._prepare(s, index, feats_lens) for s in states)
            for index, (combine, states) in enumerate(
                zip(self.layers, hidden_states, strict=True)
            )
        ]
        feats_lens = self.fused_lens(feats_lens)
        if self._feature_mask and self.training:
            feats = [self._feature_mask(x) for x in feats]
        fused = self.fusion(self._hide_members(feats), feats_lens)
        padding = padding_mask(feats_lens, fused.size(1))
        return fused.masked_fill(padding.unsqueeze(-1), 0)

    def _prepare(self, state: Tensor, upstream: int, feats_lens: Tensor) -> Tensor:
        """Bring a hidden state to its scale and frame rate."""
        normalized = self._normalize(state.to(self._dtype), feats_lens)
        return self._stacking.stack(normalized, upstream, feats_lens)

    def _hide_members(self, feats: list[Tensor]) -> list[Tensor]:
        """Set the features of upstreams to zero that are not used, or are left out."""
        dropout = self._member_dropout if self.training else None
        if not (dropout or self.member_warmup) and len(self.members) == len(feats):
            return feats
        used = torch.tensor([index in self.members for index in range(len(feats))])
        kept = to_device(used, feats[0].device).expand(len(feats[0]), -1)
        if self.member_warmup is not None:
            kept = self.member_warmup(kept)
        if dropout is not None:
            kept = dropout(kept)
        # Not multiplied: what is not finite would stay.
        return [
            x.masked_fill(~own.view(-1, 1, 1), 0)
            for x, own in zip(feats, kept.unbind(dim=1), strict=True)
        ]

    def split(self, feats: Tensor) -> HiddenStates:
        """Take apart the features of all upstreams, one after the other.

        Args:
            feats: (batch, frames, features): what :meth:`extract` gave, concatenated.

        Returns:
            What :meth:`extract` gave.

        Raises:
            ValueError: If their number is another one.
        """
        if feats.size(-1) != self.total_size:
            raise ValueError(
                "feats: expected the upstreams' features, (batch, frames, "
                f"{self.total_size}); found {tuple(feats.shape)}"
            )
        sizes = [sum(sizes) for sizes in self.feature_sizes]
        return [
            list(upstream.split(sizes, dim=-1))
            for upstream, sizes in zip(
                feats.split(sizes, dim=-1), self.feature_sizes, strict=True
            )
        ]

    @property
    def _dtype(self) -> torch.dtype:
        if self.frozen:
            return self.fingerprints.dtype
        # Filterbanks and their like have no parameters.
        return next((p.dtype for p in self.parameters()), torch.get_default_dtype())

    def _move_upstreams(self, device: torch.device) -> None:
        """Bring frozen upstreams to this module's device, where the speech must be, too.

        Not before there is speech: who trains from features on disk never runs them.
        """
        if getattr(self, "_is_replica", False):
            raise RuntimeError(
                "DataParallel cannot replicate frozen upstreams; with several GPUs, use "
                "--multiprocessing_distributed true"
            )
        if self.fingerprints.device != device:
            raise RuntimeError(
                f"speech is on {device} but the model on {self.fingerprints.device}"
            )
        if self._upstreams_device != device:
            for upstream in self.upstreams:
                upstream.to(device)
            self._upstreams_device = device

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        if self.frozen and self._upstreams_device is not None:
            self._move_upstreams(self.fingerprints.device)
        return self

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.frozen:
            # No buffer: it takes the upstreams to run.
            destination[prefix + "probes"] = torch.stack(
                [_with_layers(u.probe(), u) for u in self.upstreams]
            )

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors
    ):
        key = prefix + "fingerprints"
        # Checkpoints of version 0.1 have none.
        probes = state_dict.pop(prefix + "probes", None) if self.frozen else None
        if self.frozen and key in state_dict:
            errors.extend(self._differences(state_dict[key], probes))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing, unexpected, errors
        )

    def _differences(
        self, fingerprints: Tensor, probes: Tensor | None
    ) -> Iterator[str]:
        if len(fingerprints) != len(self.upstreams):
            yield (
                f"the checkpoint was made over {len(fingerprints)} upstreams, this "
                f"frontend has {len(self.upstreams)}"
            )
            return
        for index, upstream in enumerate(self.upstreams):
            theirs = to_hex(fingerprints[index])
            if upstream.fingerprint.hex() != theirs:
                yield (
                    f"upstream {upstream.name!r} has other weights (fingerprint "
                    f"{upstream.fingerprint.hex()[:16]}) than the one that the checkpoint "
                    f"was made over ({theirs[:16]})"
                )
            elif probes is not None and (
                more := _other_features(upstream, probes[index])
            ):
                yield more


def _with_layers(probe: Tensor, upstream: Upstream) -> Tensor:
    """Add to a probe a number, exact in any type, that says which layers it is of."""
    code = zlib.crc32(repr(upstream.layers).encode()) % 251
    return torch.cat([probe, torch.tensor([float(code)])])


def _other_features(upstream: Upstream, expected: Tensor) -> str | None:
    probe = _with_layers(upstream.probe(), upstream)
    if probe[-1] != expected[-1].cpu():
        return None  # of other layers: they say nothing of one another
    percent = probe_difference(probe[:-1], expected[:-1])
    return percent and (
        f"upstream {upstream.name!r} has the weights that the checkpoint was made over, "
        f"but its features differ by {percent}: its configuration (config.json, "
        "extra_conf) or preprocessing (do_normalize) has changed; restore it, or train anew"
    )


def find_stacking(
    upstreams: Sequence[Upstream], frame_rate: float | None
) -> FrameStacking:
    """Find what brings upstreams from their common grid to a frame rate.

    Args:
        upstreams: All of one sample rate.
        frame_rate: Frames per second; None: the grid's.

    Raises:
        EnsembleError: If their sample rates differ, or their frames cannot be brought to it.
    """
    check_sample_rates([u.name for u in upstreams], [u.fs for u in upstreams])
    fs, hops = upstreams[0].fs, [upstream.hop_length for upstream in upstreams]
    hop_length = None if frame_rate is None else fs / frame_rate
    try:
        if hop_length is not None and not hop_length.is_integer():
            raise ValueError(f"{hop_length} samples")
        return FrameStacking.of(
            FrameGrid.common(hops), None if hop_length is None else int(hop_length)
        )
    except ValueError as error:
        rates = ", ".join(f"{u.name} {fs / u.hop_length:g}" for u in upstreams)
        raise EnsembleError(
            f"frame_rate: expected frames per second of which each upstream's ({rates}) are "
            f"a whole multiple or share, found {frame_rate}"
        ) from error


def check_sample_rates(names: Sequence[str], rates: Sequence[int]) -> None:
    """Check that upstreams expect one sample rate.

    Args:
        names: What they are called.
        rates: What they expect, in Hz.

    Raises:
        EnsembleError: If not.
    """
    if len(set(rates)) > 1:
        found = ", ".join(
            f"{name} {fs} Hz" for name, fs in zip(names, rates, strict=True)
        )
        raise EnsembleError(f"upstreams expect different sample rates: {found}")


def check_batch(speech: Tensor, lengths: Tensor) -> None:
    """Check that a batch has a length for each utterance.

    Args:
        speech: Floating-point, (batch, time, ...).
        lengths: (batch,)

    Raises:
        ValueError: If not.
    """
    if not speech.is_floating_point():
        raise ValueError(f"speech: expected floating point, found {speech.dtype}")
    if lengths.shape != speech.shape[:1]:
        raise ValueError(
            f"speech_lengths: expected ({len(speech)},), found {tuple(lengths.shape)}"
        )


def read_lengths(
    speech: Tensor, lengths: Tensor, finite: Tensor | None = None
) -> Tensor:
    """Check the lengths of a batch, and that it is finite.

    This is where the host waits for the device, once, for both.

    Args:
        speech: (batch, time, ...)
        lengths: (batch,)
        finite: Whether utterances are, bool, (batch,); None: it does not matter.

    Returns:
        The lengths, on the host.

    Raises:
        ValueError: If a length is not within the size of the batch, or an utterance is not
            finite.
    """
    asked = [to_device(lengths, speech.device)]
    if finite is not None:
        asked.append(finite.to(lengths.dtype))
    found = torch.stack(asked).cpu()
    for item, length in enumerate(found[0].tolist()):
        if not 1 <= length <= speech.size(1):
            raise ValueError(
                f"speech_lengths: utterance {item} of the batch has length {length}; "
                f"expected 1 to {speech.size(1)}, the size of speech"
            )
    if finite is not None and not found[1].all():
        items = (found[1] == 0).nonzero().flatten().tolist()
        raise ValueError(
            f"speech: NaN or infinite samples in utterance(s) {items} of the batch"
        )
    return found[0]


def _resample(
    wavs: Tensor, lengths: Tensor, fs: int, new_fs: int
) -> tuple[Tensor, Tensor]:
    if fs == new_fs:
        return wavs, lengths
    # Imported where it is needed: torch is all that the rest takes.
    from torchaudio.functional import resample

    divisor = math.gcd(fs, new_fs)
    old, new = fs // divisor, new_fs // divisor
    # Each utterance gets the samples that it has when resampled alone. torchaudio counts in
    # float32, which gives one too few of millions: it gets more to resample, to cut.
    samples = -(-wavs.size(1) * new // old)
    wavs = resample(torch.nn.functional.pad(wavs, (0, old)), fs, new_fs)[:, :samples]
    lengths = -(-lengths * new // old)
    padding = padding_mask(lengths, samples, wavs.device)
    return wavs.masked_fill(padding, 0), lengths
