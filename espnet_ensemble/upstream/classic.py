"""Classic features as upstreams: Kaldi's filterbanks and cepstra, with deltas, normalised."""

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.files import check_keys
from espnet_ensemble.layers import Layer, layer_indices
from espnet_ensemble.upstream.base import Upstream, pad_to
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.fingerprint import fingerprint
from espnet_ensemble.upstream.kaldi import log_mel, mfcc

if TYPE_CHECKING:
    from espnet_ensemble.upstream.registry import UpstreamConf

_FS = 16000
_HOP = 160  # 10 ms
_SHORTEST = 800  # as S3PRL's: a variance needs frames


class ClassicUpstream(Upstream):
    """Features that nothing was trained for, as S3PRL's names ``fbank`` and ``mfcc`` have them.

    Each utterance is computed by itself. As S3PRL does, a frame is counted for every started
    10 ms (what Kaldi's windows do not reach is filled with the last one), and an utterance of
    less than 0.05 s is padded with zeros to that.

    Args:
        name: "fbank" (80 log-mel filterbanks) or "mfcc" (13 cepstra).
        layer: "last" or 0: there is one hidden state.
        num_mel_bins: Number of filterbanks.
        num_ceps: Number of cepstra.
        delta_order: How many times differences over five frames are put beside.
        cmvn: Whether each feature gets mean 0 and variance 1 over the utterance.

    Raises:
        EnsembleError: If an option is wrong.

    Example:
        >>> upstream = ClassicUpstream("fbank", delta_order=0)
        >>> (feats,), num_frames = upstream(torch.rand(2, 1600), torch.tensor([1600, 900]))
        >>> feats.shape, num_frames.tolist()
        (torch.Size([2, 10, 80]), [10, 6])
    """

    def __init__(
        self,
        name: str,
        layer: Layer = "last",
        num_mel_bins: int = 80,
        num_ceps: int = 13,
        delta_order: int = 2,
        cmvn: bool = True,
    ):
        size = num_ceps if name == "mfcc" else num_mel_bins
        if size < 1 or delta_order < 0:
            raise UpstreamError(
                f"upstream {name!r}: expected at least one feature, and a delta_order of at "
                f"least 0; found {size} and {delta_order}"
            )
        super().__init__(
            name=name,
            fs=_FS,
            hop_length=_HOP,
            feature_size=size * (1 + delta_order),
            layers=layer_indices(layer, num_layers=0),
            fingerprint=fingerprint({}),
        )
        self._compute = partial(mfcc if name == "mfcc" else log_mel, fs=_FS)
        self._size, self._delta_order, self._cmvn = size, delta_order, cmvn

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute the features, see :meth:`.Upstream.forward`."""
        num_frames = (lengths - 1) // _HOP + 1
        samples = lengths.clamp(min=_SHORTEST).tolist()
        wavs = pad_to(wavs.float(), _SHORTEST)
        feats = [
            self._features(wav[:length], number)
            for wav, length, number in zip(
                wavs, samples, num_frames.tolist(), strict=True
            )
        ]
        return [pad_sequence(feats, batch_first=True)], num_frames

    def _features(self, wav: Tensor, num_frames: int) -> Tensor:
        """From one waveform, (samples,), to (num_frames, features)."""
        # Imported where it is needed: torch is all that the waveform families take.
        from torchaudio.functional import compute_deltas

        feats = [self._compute(wav, self._size).T]
        for _ in range(self._delta_order):
            feats.append(compute_deltas(feats[-1].unsqueeze(0)).squeeze(0))
        found = torch.cat(feats).T
        if self._cmvn:
            deviation, mean = torch.std_mean(found, dim=0)
            found = (found - mean) / (deviation + 1e-10)
        places = torch.arange(num_frames, device=wav.device)
        return found[places.clamp(max=len(found) - 1)]


def load_classic(conf: "UpstreamConf", download_dir: str | None) -> ClassicUpstream:
    """Make one of what a configuration says.

    Args:
        conf: Its options are in ``extra_conf``.
        download_dir: Nothing is downloaded.

    Raises:
        EnsembleError: If it has a checkpoint, or an option is unknown or wrong.
    """
    if conf.path_or_url is not None:
        raise UpstreamError(
            f"upstream {conf.name!r} is computed: it has no path_or_url"
        )
    options = dict(conf.extra_conf or {})
    size = "num_ceps" if conf.name == "mfcc" else "num_mel_bins"
    known = [size, "delta_order", "cmvn"]
    check_keys(f"upstream {conf.name!r}: extra_conf", options, [], known)
    return ClassicUpstream(conf.name, conf.layer, **options)
