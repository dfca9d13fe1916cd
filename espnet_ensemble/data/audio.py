"""The audio of one utterance: open, cut, resample, write."""

import io
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet_ensemble.data.tables import DataError, Segment
from espnet_ensemble.files import PathLike, atomic_write

#: Seconds by which a segment may end after its recording: times are often rounded. The
#: same as in Kaldi's extract-segments.
MAX_OVERSHOOT = 0.5
SUBTYPE = "PCM_16"
FORMATS = ("flac", "wav")
# libsndfile's length of a file whose header leaves it open, and what programs that write
# a wav file into a pipe give as its number of bytes, or more.
_UNKNOWN_LENGTH = 2**63 - 1
_STREAMED_SIZE = 0x7FFFF000
_DATA_SIZE = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)


class AudioError(DataError):
    """Audio cannot be read or made."""


@dataclass(frozen=True)
class AudioConf:
    """How audio is written.

    Attributes:
        fs: Sample rate in Hz; None: each file's own.
        audio_format: flac or wav, with 16 bits per sample in either.
        ref_channel: Which channel to take, from 0; None: audio with several is refused.

    Raises:
        DataError: If one of them is wrong.
    """

    fs: int | None = None
    audio_format: str = "flac"
    ref_channel: int | None = None

    def __post_init__(self):
        if self.fs is not None and self.fs < 1:
            raise DataError(f"fs: expected a sample rate in Hz, found {self.fs}")
        if self.audio_format not in FORMATS:
            raise DataError(
                f"audio_format: expected {' or '.join(FORMATS)}, found "
                f"{self.audio_format!r}"
            )
        if self.ref_channel is not None and self.ref_channel < 0:
            raise DataError(
                f"ref_channel: expected a channel, from 0, found {self.ref_channel}"
            )


def open_audio(entry: str) -> soundfile.SoundFile:
    """Open an entry of ``wav.scp``.

    Args:
        entry: A path, or a shell command and "|". It is run to its end here.

    Raises:
        AudioError: If there is no such file, the command fails, the audio is in no format
            that libsndfile knows, or it is cut off.
    """
    file: str | io.BytesIO = entry
    if entry.endswith("|"):
        file = io.BytesIO(_run(entry[:-1]))
    elif not Path(entry).is_file():
        raise AudioError("no such file")
    try:
        sound = soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"not an audio file: {error.error_string}") from error
    _check_not_cut_off(sound)
    return sound


def read_audio(
    sound: soundfile.SoundFile,
    segment: Segment | None = None,
    ref_channel: int | None = None,
) -> np.ndarray:
    """Read one channel of an open file, or of a part of it.

    Args:
        sound: The file.
        segment: The part; None: the whole file.
        ref_channel: Which channel; None: it must have only one.

    Returns:
        Samples in [-1, 1], (samples,), float32.

    Raises:
        AudioError: If there is no such part or channel, the file is cut off, or a sample
            is not finite.
    """
    channel = ref_channel or 0
    if ref_channel is None and sound.channels > 1:
        raise AudioError(
            f"expected one channel, found {sound.channels}; choose one with --ref_channel"
        )
    if channel >= sound.channels:
        raise AudioError(
            f"ref_channel: expected 0 to {sound.channels - 1}, found {channel}"
        )
    start, end = _span(segment or Segment(""), sound)
    try:
        sound.seek(start)
        samples = sound.read(end - start, dtype="float32", always_2d=True)[:, channel]
    except soundfile.LibsndfileError as error:
        reason = error.error_string
        raise AudioError(f"not decodable, maybe cut off: {reason}") from error
    if len(samples) < end - start:
        raise AudioError(
            f"expected {sound.frames} samples, as its header says, found "
            f"{start + len(samples)}"
        )
    if not np.isfinite(samples).all():
        raise AudioError("expected finite samples, found NaN or infinity")
    return samples


def change_speed(
    samples: np.ndarray, rate: int, fs: int, speed: Fraction
) -> np.ndarray:
    """Resample, and play faster.

    Args:
        samples: (samples,), float32.
        rate: Their sample rate, in Hz.
        fs: The result's.
        speed: Factor of tempo and pitch.

    Returns:
        (samples * fs / (rate * speed),), float32

    Example:
        >>> samples = np.zeros(9000, np.float32)
        >>> len(change_speed(samples, 8000, 16000, Fraction("0.9")))
        20000
    """
    if rate * speed == fs:
        return samples
    return soxr.resample(samples, float(rate * speed), fs)


def write_audio(
    path: PathLike, samples: np.ndarray, fs: int, audio_format: str
) -> None:
    """Write a file with 16 bits per sample, all of it or nothing.

    Args:
        path: The file.
        samples: (samples,); what is not in [-1, 1] is clipped.
        fs: Their sample rate, in Hz.
        audio_format: flac or wav.
    """
    # Converted here because libsndfile's conversion is no inverse of its reading.
    scaled = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    with atomic_write(path) as part:
        soundfile.write(part, scaled, fs, format=audio_format.upper(), subtype=SUBTYPE)


def _check_not_cut_off(sound: soundfile.SoundFile) -> None:
    if sound.frames >= _UNKNOWN_LENGTH:
        raise AudioError(
            "its header does not say how long it is; let the command write wav"
        )
    # libsndfile reads what there is of a wav file that is cut off, and notes it here.
    sizes = _DATA_SIZE.search(sound.extra_info)
    if sizes and int(sizes[2]) < int(sizes[1]) < _STREAMED_SIZE:
        raise AudioError(
            f"cut off: expected {sizes[1]} bytes of samples, found {sizes[2]}"
        )


def _run(command: str) -> bytes:
    # With pipefail: of `sph2pipe x | sox ...` also the first may fail.
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    message = result.stderr.decode(errors="replace").strip()
    if result.returncode != 0:
        raise AudioError(f"the command's status is {result.returncode}: {message}")
    if not result.stdout:
        raise AudioError(f"the command gave no output: {message}")
    return result.stdout


def _span(segment: Segment, sound: soundfile.SoundFile) -> tuple[int, int]:
    """First sample, and the one after the last."""
    rate, total = sound.samplerate, sound.frames
    start = round(segment.start * rate)
    end = total if segment.end is None else round(segment.end * rate)
    if start >= min(end, total) or end > total + MAX_OVERSHOOT * rate:
        raise AudioError(
            f"expected audio {segment}, found {total} samples in all, {total / rate} s"
        )
    return start, min(end, total)
