"""Kaldi's filterbanks and cepstra, without a wait for the device that the waveform is on.

They are those of ``torchaudio.compliance.kaldi`` with its defaults, whose constants go to the
device at each call; here they stay there.
"""

from functools import cache

import torch
from torch import Tensor

_FRAME, _SHIFT = 0.025, 0.010  # seconds
_PREEMPHASIS, _LIFTER = 0.97, 22.0
#: Of the filterbanks that cepstra are made of.
_CEPSTRAL_BINS = 23


def log_mel(wav: Tensor, num_mel_bins: int, fs: int = 16000) -> Tensor:
    """Compute log-mel filterbanks, of 25 ms every 10 ms.

    Args:
        wav: Waveform, (samples,), at least one window; float32.
        num_mel_bins: Number of filterbanks.
        fs: Sample rate, in Hz.

    Returns:
        (frames, num_mel_bins)

    Example:
        >>> log_mel(torch.rand(800), num_mel_bins=80).shape
        torch.Size([3, 80])
    """
    window, mel = _constants(num_mel_bins, fs, wav.device)
    frames = wav.unfold(0, len(window), int(fs * _SHIFT))
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    frames = (frames - _PREEMPHASIS * before) * window
    spectrum = torch.fft.rfft(frames, n=2 * len(mel)).abs().square()
    energies = spectrum[:, :-1] @ mel
    return energies.clamp(min=torch.finfo(wav.dtype).eps).log()


def mfcc(wav: Tensor, num_ceps: int, fs: int = 16000) -> Tensor:
    """Compute cepstra.

    Args:
        wav: See :func:`log_mel`.
        num_ceps: Number of cepstra, at most 23.
        fs: Sample rate, in Hz.

    Returns:
        (frames, num_ceps)
    """
    return log_mel(wav, _CEPSTRAL_BINS, fs) @ _cosines(num_ceps, wav.device)


@cache
def _constants(
    num_mel_bins: int, fs: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The window, (samples,), and the filters, (frequencies, num_mel_bins)."""
    # Imported where it is needed: torch is all that the waveform families take.
    from torchaudio.compliance.kaldi import get_mel_banks

    samples = int(fs * _FRAME)
    padded = 1 << (samples - 1).bit_length()
    mel, _ = get_mel_banks(num_mel_bins, padded, fs, 20.0, 0.0, 100.0, -500.0, 1.0)
    window = torch.hann_window(samples, periodic=False).pow(0.85)
    return window.to(device), mel.T.contiguous().to(device)


@cache
def _cosines(num_ceps: int, device: torch.device) -> Tensor:
    """A cosine transform with its liftering, (filterbanks, num_ceps)."""
    from torchaudio.functional import create_dct

    cosines = create_dct(_CEPSTRAL_BINS, _CEPSTRAL_BINS, "ortho")[:, :num_ceps]
    cosines[:, 0] = _CEPSTRAL_BINS**-0.5
    lifter = torch.sin(torch.pi * torch.arange(num_ceps) / _LIFTER)
    return (cosines * (1 + 0.5 * _LIFTER * lifter)).to(device)
