"""Text to speech with eSpeak NG, from the PyPI package ``espeakng-loader``.

eSpeak NG keeps its state in one set of variables per process: the phases of its tremolo
and of its noise run on from one utterance to the next. So that what a text sounds like
depends on nothing that was said before, the library is loaded anew for each utterance
(4 ms).
"""

import _ctypes
import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.extras import import_extra

# From eSpeak NG's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)

_one_at_a_time = threading.Lock()


def synthesize(
    text: str, voice: str, rate: int = 175, pitch: int = 50, pitch_range: int = 50
) -> tuple[np.ndarray, int]:
    """Speak a text.

    The same arguments give the same samples, whatever this process has spoken before.

    Args:
        text: What to say.
        voice: A language, and after a plus sign one of :func:`variants`: ``en-us+f2``.
        rate: Words per minute, 80 to 450.
        pitch: 0 to 99; 50 is the voice's own.
        pitch_range: Liveliness of the intonation, 0 to 99; 50 is the voice's own.

    Returns:
        Samples (samples,), float32 in [-1, 1], and their rate in Hz.

    Raises:
        ValueError: If the text is blank, the voice unknown, or a number out of range.
        EnsembleError: If eSpeak NG is not installed, or already in use in this process.
        RuntimeError: If it fails.

    Example:
        >>> samples, fs = synthesize("good morning", "en-us+m3")
        >>> samples.dtype.name, fs, len(samples) > fs // 2
        ('float32', 22050, True)
    """
    if not text.strip():
        raise ValueError(f"text: expected words, got {text!r}")
    _check_range("rate", rate, 80, 450)
    _check_range("pitch", pitch, 0, 99)
    _check_range("pitch_range", pitch_range, 0, 99)
    variant = voice.partition("+")[2]
    if variant and variant not in variants():
        # eSpeak NG would say nothing, and speak with the plain voice.
        raise ValueError(
            f"voice {voice!r}: expected a variant of {', '.join(variants())}; "
            f"got {variant!r}"
        )
    with _one_at_a_time, _espeak() as (library, fs):
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"voice {voice!r}: eSpeak NG has no such language")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            _must(library.espeak_SetParameter(parameter, value, 0), "parameters")
        pcm = _speak(library, text)
    return pcm.astype(np.float32) / 32768, fs


def variants() -> list[str]:
    """The voice variants (``f1``, ``m3``, ``linda``) that eSpeak NG comes with."""
    return sorted(os.listdir(Path(_loader().get_data_path(), "voices", "!v")))


def version() -> str:
    """eSpeak NG's version, as in ``1.52.0``."""
    with _one_at_a_time, _espeak() as (library, _):
        library.espeak_Info.restype = ctypes.c_char_p
        return library.espeak_Info(None).decode()


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}: expected {low} to {high}, got {value}")


def _must(status: int, what: str) -> None:
    if status != 0:
        raise RuntimeError(f"eSpeak NG: {what}: failed with status {status}")


def _loader() -> ModuleType:
    return import_extra("espeakng_loader", "recipes")


@contextmanager
def _espeak() -> Iterator[tuple[ctypes.CDLL, int]]:
    """Load eSpeak NG in its initial state; unload it at the end.

    Yields:
        The library and its sample rate in Hz.
    """
    path, data = _loader().get_library_path(), str(_loader().get_data_path())
    if _is_loaded(path):
        raise EnsembleError(
            f"{path} is in use by another part of this program, whose state would show "
            "in the speech; synthesize in a process of its own"
        )
    library = ctypes.CDLL(path)
    try:
        fs = library.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, 0, data.encode(), _DONT_EXIT
        )
        if fs <= 0:
            raise RuntimeError(f"eSpeak NG cannot read its data in {data}")
        try:
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            yield library, fs
        finally:
            library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)


def _is_loaded(path: str) -> bool:
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return False
    _ctypes.dlclose(library._handle)
    return True


def _speak(library: ctypes.CDLL, text: str) -> np.ndarray:
    """Collect the int16 chunks that eSpeak NG hands to its callback."""
    chunks = []

    @_CALLBACK
    def keep(samples, num_samples, _events):
        if samples and num_samples > 0:
            chunks.append(ctypes.string_at(samples, 2 * num_samples))
        return 0

    library.espeak_SetSynthCallback(keep)
    utf8 = text.encode() + b"\0"
    # From the start (character 0) to the end (0) of the text.
    status = library.espeak_Synth(utf8, len(utf8), 0, 1, 0, _CHARS_UTF8, None, None)
    _must(status, f"text {text!r}")
    _must(library.espeak_Synchronize(), f"text {text!r}")
    return np.frombuffer(b"".join(chunks), np.int16)
