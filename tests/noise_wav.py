"""Audio files with noise, in memory."""

import io

import numpy as np
import soundfile


def wav(seconds, fs=16000, seed=0, channels=1):
    """The content of a file with noise."""
    noise = np.random.default_rng(seed).standard_normal((int(seconds * fs), channels))
    file = io.BytesIO()
    soundfile.write(file, 0.1 * noise, fs, format="WAV")
    return file.getvalue()
