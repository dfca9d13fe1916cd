"""The audio that features are extracted from."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from espnet_ensemble.data.audio import AudioError, open_audio, read_audio
from espnet_ensemble.data.datadir import validate
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.files import PathLike


@dataclass(frozen=True)
class Corpus:
    """A data directory as training reads it: one file per utterance.

    Attributes:
        data_dir: The directory.
        paths: utterance -> audio file.
        num_samples: utterance -> its number of samples.
    """

    data_dir: Path
    paths: dict[str, str]
    num_samples: dict[str, int]

    @property
    def name(self) -> str:
        """What the data set is called: the last part of its path."""
        return self.data_dir.absolute().name

    @classmethod
    def read(cls, data_dir: PathLike) -> "Corpus":
        """Read a data directory such as ``dump/raw/train``.

        Raises:
            DataError: If it is not valid, or not made by
                :func:`espnet_ensemble.data.formatting.format_audio` or like that.
        """
        data_dir = Path(data_dir)
        tables = validate(data_dir, need_text=False)
        for name in ("wav.scp", "utt2num_samples"):
            if name not in tables:
                raise DataError(
                    f"{data_dir / name}: expected this file, found none; "
                    "format_wav_scp makes it"
                )
        commands = [key for key, path in tables["wav.scp"].items() if path[-1] == "|"]
        if "segments" in tables or commands:
            found = f"a command: {commands[0]!r}" if commands else "segments"
            raise DataError(
                f"{data_dir}: expected a file per utterance, found {found}; "
                "format_wav_scp makes the files"
            )
        num_samples = {k: int(v) for k, v in tables["utt2num_samples"].items()}
        return cls(data_dir, tables["wav.scp"], num_samples)


class Audio(NamedTuple):
    """What an utterance's audio is recognised by.

    Attributes:
        digest: Hash of the samples and their rate.
        num_bytes: Size of the file.
        mtime_ns: When the file was changed, in ns. A file of the same size and time is
            not read again to see that it is the same.
    """

    digest: str
    num_bytes: int
    mtime_ns: int

    @classmethod
    def parse(cls, value: str) -> "Audio":
        """Read what ``str`` gives.

        Example:
            >>> audio = Audio("5b1d", 32044, 1700000000000000000)
            >>> Audio.parse(str(audio)) == audio
            True
        """
        digest, num_bytes, mtime_ns = value.split()
        return cls(digest, int(num_bytes), int(mtime_ns))

    def __str__(self) -> str:
        return " ".join(map(str, self))


def read_utterance(path: PathLike) -> tuple[np.ndarray, int, Audio]:
    """Read a mono file.

    Returns:
        Samples in [-1, 1], (samples,), float32; their rate, in Hz; what to know them by.

    Raises:
        AudioError: If it cannot be read, has several channels, or a sample is not finite.
    """
    try:
        with open_audio(str(path)) as sound:
            samples, rate = read_audio(sound), sound.samplerate
        stat = os.stat(path)
    except OSError as error:
        raise AudioError(f"expected a file, found {error.strerror}") from error
    digest = hashlib.sha256(f"{rate} ".encode())
    digest.update(np.ascontiguousarray(samples, "<f4"))
    return samples, rate, Audio(digest.hexdigest()[:32], stat.st_size, stat.st_mtime_ns)


def is_same(audio: Audio, path: PathLike) -> bool:
    """Whether a file has still the audio that it had.

    Raises:
        AudioError: If it cannot be read.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise AudioError(f"expected a file, found {error.strerror}") from error
    if audio[1:] == (stat.st_size, stat.st_mtime_ns):
        return True
    return read_utterance(path)[2].digest == audio.digest
