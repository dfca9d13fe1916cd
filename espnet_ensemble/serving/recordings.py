"""Recordings as people have them: any container, codec, sample rate, number of channels.

FFmpeg decodes them (PyAV brings it along), and soxr resamples them. Channels are mixed to
one, and a recording is never in memory at its own rate as a whole.
"""

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import soxr

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike

_log = logging.getLogger(__name__)

#: What ends the names of files that a folder is searched for: audio, and video.
SUFFIXES = frozenset(
    ".3gp .aac .ac3 .aif .aiff .amr .au .avi .caf .flac .flv .m4a .m4b .m4v .mka .mkv .mov "
    ".mp2 .mp3 .mp4 .mpeg .mpg .oga .ogg .ogv .opus .sph .spx .ts .wav .wave .weba .webm "
    ".wma .wmv".split()
)

# Later versions decode metadata when it is asked for, and do not have this option.
_OPEN: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
)


class AudioTooLongError(AudioError):
    """A recording is longer than is wanted."""


@dataclass(frozen=True)
class Recording:
    """Speech, as a model takes it.

    Attributes:
        name: What people call it: a path, or the name of an upload.
        samples: In [-1, 1], (samples,), float32.
        fs: Their rate, in Hz.
        hotwords: Words and phrases that are raised in it.
    """

    name: str
    samples: np.ndarray
    fs: int
    hotwords: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Its length in seconds."""
        return len(self.samples) / self.fs


def read_recording(
    source: PathLike | bytes | BinaryIO,
    fs: int,
    name: str | None = None,
    max_seconds: float | None = None,
) -> Recording:
    """Read the first audio stream of a file, of bytes or of an open binary file.

    Args:
        source: Its path or content: audio, or a video's sound, in any format that FFmpeg
            knows. Of an open file, such as ``sys.stdin.buffer``, all is read first.
        fs: Sample rate to resample to, in Hz.
        name: What it is called; None: as the file is, or else "audio".
        max_seconds: What is longer is refused, and not read to its end; None: nothing.

    Returns:
        The mean of its channels.

    Raises:
        AudioTooLongError: If it is longer than ``max_seconds``.
        AudioError: If there is no such file, it has no audio, or that is not decodable, is
            empty, or has a sample that is not finite.

    Example:
        >>> import soundfile
        >>> path = getfixture("tmp_path") / "speech.wav"
        >>> soundfile.write(path, np.zeros((44100, 2)), 44100)
        >>> recording = read_recording(path, fs=16000)
        >>> len(recording.samples), recording.duration
        (16000, 1.0)
    """
    if isinstance(source, (bytes, bytearray)):
        file: str | BinaryIO = io.BytesIO(source)
    elif hasattr(source, "read"):
        file = io.BytesIO(source.read())
    else:
        file, name = _existing(source), name or str(source)
    name = name or "audio"
    parts = list(_limited(_read(file, fs, name), fs, max_seconds))
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not len(samples):
        raise AudioError("expected audio, found no sample")
    if not np.isfinite(samples).all():
        raise AudioError("expected finite samples, found NaN or infinity")
    return Recording(name, samples, fs)


def find_audio(folder: PathLike) -> list[Path]:
    """Find all audio and video in a folder, at any depth, by the names of the files.

    Returns:
        Their paths, sorted; they begin with the folder. Hidden files are left out.

    Raises:
        EnsembleError: If there is none.
    """
    found = sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        known = ", ".join(sorted(SUFFIXES))
        raise EnsembleError(f"{folder}: expected audio or video ({known}), found none")
    return found


def recorded_seconds(source: PathLike | BinaryIO) -> float:
    """How long a file says that it is, without decoding it; 0: it does not say.

    Nothing is read of an open file.
    """
    if not isinstance(source, PathLike):
        return 0.0
    path = source
    try:
        with av.open(_existing(path), **_OPEN) as container:
            return (container.duration or 0) / av.time_base
    except (AudioError, av.FFmpegError, OSError):
        return 0.0


def _limited(
    parts: Iterator[np.ndarray], fs: int, max_seconds: float | None
) -> Iterator[np.ndarray]:
    num_samples = 0
    for part in parts:
        num_samples += len(part)
        if max_seconds is not None and num_samples > max_seconds * fs:
            raise AudioTooLongError(f"expected at most {max_seconds:g} s, found more")
        yield part


def _existing(path: PathLike) -> str:
    # FFmpeg would take "http://..." or "concat:..." for something to fetch.
    path = Path(path).absolute()
    if not path.exists():
        raise AudioError("no such file")
    if not path.is_file():
        raise AudioError("not a file")
    return str(path)


def _read(file: str | BinaryIO, fs: int, name: str) -> Iterator[np.ndarray]:
    # Content from elsewhere must not make FFmpeg open anything: it may be a playlist.
    protocols = "file" if isinstance(file, str) else ""
    options = {"protocol_whitelist": protocols}
    try:
        with av.open(file, options=options, **_OPEN) as container:
            if not container.streams.audio:
                raise AudioError("expected audio, found none in it")
            yield from _resample(_frames(container, name), fs)
    except av.FFmpegError as error:
        raise AudioError(f"not audio that can be decoded: {error.strerror}") from error


def _frames(
    container: av.container.InputContainer, name: str
) -> Iterator[av.AudioFrame]:
    """Frames of floats, a plane for each channel; broken packets are left out."""
    to_floats = av.AudioResampler(format="fltp")
    num_frames, broken = 0, []
    for packet in container.demux(audio=0):
        try:
            decoded = packet.decode()
        except av.InvalidDataError as error:
            broken.append(error)
            continue
        for frame in decoded:
            num_frames += 1
            yield from to_floats.resample(frame)
    if broken and not num_frames:
        raise broken[0]
    if broken:
        _log.warning("%s: %d broken packets are left out", name, len(broken))


def _resample(frames: Iterator[av.AudioFrame], fs: int) -> Iterator[np.ndarray]:
    stream, rate = None, None
    for frame in frames:
        mono = frame.to_ndarray().mean(axis=0, dtype=np.float32)
        if frame.sample_rate != rate:
            if stream is not None:
                yield stream.resample_chunk(mono[:0], last=True)
            rate = frame.sample_rate
            stream = soxr.ResampleStream(rate, fs, 1) if rate != fs else None
        yield mono if stream is None else stream.resample_chunk(mono)
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
