"""What happens to speech on its way to a microphone: room and noise."""

import math
import zlib

import numpy as np

from espnet_ensemble.extras import import_extra


def utterance_rng(seed: int, utt_id: str) -> np.random.Generator:
    """Random numbers that depend on the seed and on the utterance alone."""
    return np.random.default_rng([seed, zlib.crc32(utt_id.encode())])


def resample(wav: np.ndarray, fs: int, new_fs: int) -> np.ndarray:
    """Change the sample rate of (samples,)."""
    signal = import_extra("scipy.signal", "recipes")
    divisor = math.gcd(fs, new_fs)
    return signal.resample_poly(
        wav.astype(np.float64), new_fs // divisor, fs // divisor
    )


def reverberate(wav: np.ndarray, fs: int, rng: np.random.Generator) -> np.ndarray:
    """Put speech in a small room.

    Its impulse response is the direct sound and noise that decays exponentially, by 60 dB
    in 0.1 to 0.4 s; the direct sound is 3 to 15 dB above all that follows.

    Args:
        wav: (samples,)
        fs: Sample rate in Hz.
        rng: Draws the room.

    Returns:
        (samples,)
    """
    signal = import_extra("scipy.signal", "recipes")
    rt60 = rng.uniform(0.1, 0.4)
    direct_to_reverberant = rng.uniform(3, 15)
    time = np.arange(int(rt60 * fs)) / fs
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    tail *= 10 ** (-direct_to_reverberant / 20) / np.sqrt(np.sum(tail**2))
    return wav + signal.fftconvolve(wav, tail)[: len(wav)]


def add_noise(wav: np.ndarray, fs: int, rng: np.random.Generator) -> np.ndarray:
    """Add noise, between white and brown, 12 to 30 dB below the speech.

    Args:
        wav: (samples,)
        fs: Sample rate in Hz.
        rng: Draws the noise.

    Returns:
        (samples,)
    """
    tilt, snr = rng.uniform(0, 2), rng.uniform(12, 30)
    spectrum = np.fft.rfft(rng.standard_normal(len(wav)))
    # Power falls as 1 / frequency ** tilt, from 100 Hz: else it were all in the rumble.
    spectrum /= np.maximum(np.fft.rfftfreq(len(wav), 1 / fs), 100) ** (tilt / 2)
    noise = np.fft.irfft(spectrum, len(wav))
    gain = np.sqrt(np.mean(wav**2) / np.mean(noise**2)) * 10 ** (-snr / 20)
    return wav + gain * noise
