"""Archives: matrices one after the other in a file, with an index of where they are."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import kaldiio
import numpy as np
import torch

from espnet_ensemble.data.tables import Table, read_table, write_table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.identity import AudioIdentity
from espnet_ensemble.files import PathLike

#: What a line of a table says.
Value = TypeVar("Value")


@dataclass(frozen=True)
class Storage:
    """A type of numbers in an archive: writes and reads a matrix of Kaldi's.

    Attributes:
        magic: What a matrix begins with. Others are not read: kaldiio would run the code
            in some.
        options: Of ``kaldiio.save_ark``.
    """

    magic: bytes
    options: Mapping[str, Any]

    def encode(self, utt_id: str, feats: np.ndarray) -> bytes:
        """Make a record: the id, a space, the matrix.

        Args:
            utt_id: The utterance.
            feats: (frames, features), float32.

        Raises:
            CacheError: If this type cannot hold the features.
        """
        record = io.BytesIO()
        kaldiio.save_ark(record, {utt_id: feats}, **self.options)
        return record.getvalue()

    def decode(self, ark: BinaryIO) -> np.ndarray:
        """Read the matrix at which a file is.

        Returns:
            (frames, features), float32

        Raises:
            ValueError: If there is none of this type; or another error of kaldiio's.
        """
        start = ark.tell()
        if ark.read(len(self.magic)) != self.magic:
            raise ValueError("no matrix of this type")
        ark.seek(start)
        # A copy: of some types, kaldiio's array is read-only.
        return np.array(kaldiio.matio.read_kaldi(ark))


class HalfStorage(Storage):
    """Numbers of 16 bits, in NumPy's format: Kaldi's matrices have no such type."""

    def encode(self, utt_id: str, feats: np.ndarray) -> bytes:
        """Make a record, as :meth:`Storage.encode` does."""
        largest = np.abs(feats).max()
        if largest > np.finfo(np.float16).max:
            raise CacheError(
                f"expected features up to 65504 for float16, found {largest:g}; use "
                "--storage float32"
            )
        # With torch: faster than numpy's astype.
        return super().encode(utt_id, torch.from_numpy(feats).half().numpy())

    def decode(self, ark: BinaryIO) -> np.ndarray:
        """Read a matrix, as :meth:`Storage.decode` does."""
        feats = super().decode(ark)
        if feats.dtype != np.float16:
            return feats
        return torch.from_numpy(feats).float().numpy()


#: Type of the numbers -> how they are stored.
STORAGES = {
    "float32": Storage(b"\0BFM ", {}),
    "float16": HalfStorage(b"NPY", {"write_function": "numpy"}),
    # Kaldi's CompressedMatrix, kSpeechFeature: 8 bits, scaled by channel.
    "int8": Storage(b"\0BCM ", {"compression_method": 2}),
}
DEFAULT_STORAGE = "float16"


@dataclass(frozen=True)
class Entry:
    """An utterance in an archive: its line in the index.

    Attributes:
        offset: Where its matrix begins, in bytes.
        num_bytes: Size of the matrix in the archive.
        checksum: CRC-32 of these bytes.
        num_frames: Number of frames.
        audio: What it was extracted from.
    """

    offset: int
    num_bytes: int
    checksum: int
    num_frames: int
    audio: AudioIdentity

    @classmethod
    def parse(cls, value: str) -> "Entry":
        """Read what ``str`` gives.

        Raises:
            ValueError: If it is something else.
        """
        offset, num_bytes, checksum, num_frames, audio = value.split(maxsplit=4)
        return cls(
            int(offset),
            int(num_bytes),
            int(checksum),
            int(num_frames),
            AudioIdentity.parse(audio),
        )

    def __str__(self) -> str:
        return (
            f"{self.offset} {self.num_bytes} {self.checksum} {self.num_frames} "
            f"{self.audio}"
        )


def append_feats(
    ark: BinaryIO, utt_id: str, feats: np.ndarray, audio: AudioIdentity, storage: str
) -> Entry:
    """Write an utterance's features to an archive.

    Args:
        ark: The archive, at its end.
        utt_id: The utterance.
        feats: (frames, features), float32.
        audio: What they were extracted from.
        storage: One of :data:`STORAGES`.

    Returns:
        What the index has to say.

    Raises:
        CacheError: If the features are not finite, or ``storage`` cannot hold them.
    """
    if not np.isfinite(feats).all():
        raise CacheError("expected finite features, found NaN or infinity")
    record = memoryview(STORAGES[storage].encode(utt_id, feats))
    start = len(utt_id.encode()) + 1
    matrix = record[start:]
    offset = ark.tell() + start
    ark.write(record)
    return Entry(offset, len(matrix), zlib.crc32(matrix), len(feats), audio)


def read_feats(
    ark: PathLike, offset: int, utt_id: str, shape: tuple[int, int], storage: str
) -> np.ndarray:
    """Read an utterance's features from an archive.

    The archive is opened for this only: worker processes share no handle.

    Args:
        ark: The archive.
        offset: Where the matrix begins, in bytes.
        utt_id: The utterance, for messages.
        shape: Its frames and features.
        storage: One of :data:`STORAGES`.

    Returns:
        (frames, features), float32

    Raises:
        CacheError: If the archive does not have them, for instance is cut off, or has
            another utterance's there.
    """
    try:
        with open(ark, "rb") as file:
            if not _go_to(file, utt_id, offset):
                raise ValueError("no record of this utterance")
            feats = STORAGES[storage].decode(file)
    except OSError as error:
        found = error.strerror
    except (AssertionError, EOFError, ValueError, UnicodeError, struct.error):
        found = "none, or those of another utterance; is the file cut off?"
    else:
        if feats.shape == shape and feats.dtype == np.float32:
            return feats
        found = f"{feats.dtype} {feats.shape}"
    raise CacheError(
        f"{ark}: expected features of {utt_id!r}, {shape[0]} frames of {shape[1]}, "
        f"at byte {offset}, found {found}. espnet-ensemble extract --verify names all that "
        "is damaged"
    )


def _go_to(ark: BinaryIO, utt_id: str, offset: int) -> bool:
    """Go to where a matrix begins; whether the record there is that utterance's."""
    key = f"{utt_id} ".encode()
    ark.seek(max(0, offset - len(key)))
    return ark.read(len(key)) == key


def read_values(
    path: PathLike, parse: Callable[[str], Value], kind: str
) -> dict[str, Value]:
    """Read a table whose values are not text.

    Args:
        path: The table.
        parse: Reads a value, or raises ValueError.
        kind: What the table has, for the message.

    Raises:
        CacheError: If it is not there or has something else.
    """
    try:
        return {utt_id: parse(value) for utt_id, value in read_table(path).items()}
    except ValueError as error:
        raise CacheError(f"{path}: expected {kind}, found {error}") from error


def read_index(path: PathLike) -> dict[str, Entry]:
    """Read an archive's index: utterance's id -> entry.

    Raises:
        CacheError: If it is none.
    """
    return read_values(path, Entry.parse, "an index")


def write_index(path: PathLike, entries: Mapping[str, Entry]) -> None:
    """Write what :func:`read_index` reads."""
    write_table(path, {utt_id: str(entry) for utt_id, entry in entries.items()})


def read_skipped(path: Path) -> Table:
    """Read which utterances have no features: utterance's id -> reason."""
    return read_table(path) if path.exists() else {}


def write_skipped(path: Path, skipped: Table) -> None:
    """Write what :func:`read_skipped` reads; no file if there is nothing to say."""
    if skipped:
        write_table(path, {key: " ".join(why.split()) for key, why in skipped.items()})
    else:
        path.unlink(missing_ok=True)


def is_whole(ark: Path, entries: Mapping[str, Entry]) -> bool:
    """Whether an archive has the size that all records of its index make."""
    num_bytes = sum(
        len(f"{utt_id} ".encode()) + entry.num_bytes
        for utt_id, entry in entries.items()
    )
    return ark.exists() and ark.stat().st_size == num_bytes


def check_records(ark: Path, entries: Mapping[str, Entry]) -> None:
    """Compare an archive's records with their keys and checksums.

    Raises:
        CacheError: If one is damaged. It names the first.
    """
    try:
        with ark.open("rb") as file:
            for utt_id, entry in entries.items():
                is_there = _go_to(file, utt_id, entry.offset)
                matrix = file.read(entry.num_bytes) if is_there else b""
                _check_record(f"{ark}: {utt_id!r}", entry, matrix)
    except OSError as error:
        raise CacheError(f"{ark}: {error.strerror}") from error


def _check_record(where: str, entry: Entry, matrix: bytes) -> None:
    found = zlib.crc32(matrix)
    if (len(matrix), found) != (entry.num_bytes, entry.checksum):
        raise CacheError(
            f"{where}: expected {entry.num_bytes} bytes with checksum "
            f"{entry.checksum:08x}, found {len(matrix)} with {found:08x}"
        )
