"""Kaldi's features are torchaudio's."""

import pytest
import torch
from torchaudio.compliance import kaldi

from espnet_ensemble.upstream.kaldi import log_mel, mfcc


@pytest.mark.parametrize("fs", [16000, 8000])
@pytest.mark.parametrize("samples", [400, 7321])
def test_filterbanks(samples, fs):
    wav = torch.randn(samples, generator=torch.Generator().manual_seed(0))
    wav[: samples // 4] = 0  # as silence is
    for scale in (1, 2**15):
        expected = kaldi.fbank(scale * wav[None], num_mel_bins=40, sample_frequency=fs)
        torch.testing.assert_close(log_mel(scale * wav, 40, fs), expected)


@pytest.mark.parametrize("num_ceps", [13, 23])
def test_cepstra(num_ceps):
    wav = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    expected = kaldi.mfcc(wav[None], num_ceps=num_ceps)
    torch.testing.assert_close(mfcc(wav, num_ceps), expected, rtol=1e-4, atol=1e-4)
