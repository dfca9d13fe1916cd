"""Archives: the features of some utterances in a safetensors file.

``safetensors.safe_open(path, "pt").get_tensor(utt_id)`` reads an utterance; of ``int8``, what
``get_tensor(f"{utt_id} scale")`` has is, for each channel, the least value and the step, so that
the features are ``least + step * levels``. The file's metadata say what audio they are of, the
checksums, and which utterances were left out.
"""

import errno
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from espnet_ensemble.data.tables import Table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.identity import AudioIdentity
from espnet_ensemble.files import PathLike, atomic_write

SUFFIX = ".safetensors"
# The one key of the metadata: safetensors writes several in any order.
_CONTENTS = "contents"
_LENGTH_BYTES = 8

#: Frames and features.
Shape = tuple[int, int]


@dataclass(frozen=True)
class Storage:
    """A type of numbers in an archive.

    Attributes:
        dtype: Type of an utterance's tensor, (frames, features).
        code: What safetensors calls it.
    """

    dtype: torch.dtype
    code: str

    def encode(self, feats: Tensor) -> list[Tensor]:
        """Make the tensors to be stored.

        Args:
            feats: (frames, features), float32.

        Raises:
            CacheError: If this type cannot hold the features.
        """
        largest = feats.abs().amax().item()
        if largest > torch.finfo(self.dtype).max:
            raise CacheError(
                f"expected features up to {torch.finfo(self.dtype).max:g} for "
                f"{str(self.dtype).removeprefix('torch.')}, found {largest:g}; use "
                "--storage float32"
            )
        return [feats.to(self.dtype, copy=True)]

    def layout(self, num_frames: int, size: int) -> list[tuple[Shape, torch.dtype]]:
        """Tensors of an utterance of so many frames of so many features."""
        return [((num_frames, size), self.dtype)]

    def decode(self, tensors: Sequence[Tensor], out: Tensor) -> None:
        """Undo :meth:`encode`.

        Args:
            tensors: What it made.
            out: Where the features go, (frames, features), float32: the first frames.
        """
        out.copy_(tensors[0][: len(out)])


class ScaledStorage(Storage):
    """256 levels between the least and the largest value of each channel of an utterance."""

    def encode(self, feats: Tensor) -> list[Tensor]:
        """Make levels, and (2, features), float32: the least values, and the steps."""
        least, largest = feats.aminmax(dim=0)
        step = (largest - least) / 255
        levels = (feats - least) / step.where(step > 0, 1)
        return [levels.round_().to(self.dtype), torch.stack([least, step])]

    def layout(self, num_frames: int, size: int) -> list[tuple[Shape, torch.dtype]]:
        """Levels and scale, as :meth:`Storage.layout` says."""
        return [((num_frames, size), self.dtype), ((2, size), torch.float32)]

    def decode(self, tensors: Sequence[Tensor], out: Tensor) -> None:
        """Undo :meth:`encode`, as :meth:`Storage.decode` does."""
        levels, (least, step) = tensors
        out.copy_(levels[: len(out)])
        out.mul_(step).add_(least)


#: Type of the numbers -> how they are stored.
STORAGES = {
    "float32": Storage(torch.float32, "F32"),
    "float16": Storage(torch.float16, "F16"),
    "int8": ScaledStorage(torch.uint8, "U8"),
}
DEFAULT_STORAGE = "float16"


@dataclass(frozen=True)
class Entry:
    """An utterance in an archive.

    Attributes:
        offsets: Where its tensors begin in the file, in bytes.
        num_bytes: Their sizes.
        checksum: CRC-32 of their bytes, one after the other.
        num_frames: Number of frames.
        audio: What it was extracted from.
    """

    offsets: tuple[int, ...]
    num_bytes: tuple[int, ...]
    checksum: int
    num_frames: int
    audio: AudioIdentity


@dataclass(frozen=True)
class Archive:
    """What an archive has, as its header says: no features.

    Attributes:
        path: The file.
        num_bytes: Its size.
        storage: Which of :data:`STORAGES` it has; None: it has no utterance.
        entries: utterance's id -> where it is.
        skipped: utterance's id -> why it has no features.
    """

    path: Path
    num_bytes: int
    storage: str | None
    entries: dict[str, Entry]
    skipped: Table

    @classmethod
    def read(cls, path: PathLike) -> "Archive":
        """Read the header of an archive.

        Raises:
            CacheError: If it is not there, cut off, or something else.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                num_bytes = os.fstat(file.fileno()).st_size
                return cls._parse(path, num_bytes, *_read_header(file, num_bytes))
        except OSError as error:
            found = error.strerror
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            found = "something else; is the file cut off?"
        raise CacheError(f"{path}: expected an archive of features, found {found}")

    @classmethod
    def _parse(cls, path, num_bytes: int, header: dict, data_start: int) -> "Archive":
        contents = json.loads(header.pop("__metadata__")[_CONTENTS])
        places = sorted(tensor["data_offsets"] for tensor in header.values())
        ends = [0, *(end for _, end in places)]
        if ends[-1] + data_start != num_bytes or any(
            place[0] != end for place, end in zip(places, ends, strict=False)
        ):
            raise ValueError("tensors that do not fill the file")
        kinds, entries = set(), {}
        for utt_id, (checksum, *audio) in contents["utterances"].items():
            tensors = [header.pop(utt_id)]
            kinds.add(tensors[0]["dtype"])
            if _scale(utt_id) in header:
                tensors.append(header.pop(_scale(utt_id)))
            spans = [tensor["data_offsets"] for tensor in tensors]
            entries[utt_id] = Entry(
                tuple(data_start + start for start, _ in spans),
                tuple(end - start for start, end in spans),
                int(checksum),
                int(tensors[0]["shape"][0]),
                AudioIdentity.parse(" ".join(map(str, audio))),
            )
        storages = [n for n, s in STORAGES.items() if {s.code} == kinds]
        if header or len(storages) != len(kinds):
            raise ValueError("other tensors")
        storage = storages[0] if storages else None
        return cls(path, num_bytes, storage, entries, dict(contents["skipped"]))

    def check(self) -> None:
        """Compare its features with their checksums.

        Raises:
            CacheError: If some are damaged. It names the first utterance.
        """
        try:
            with self.path.open("rb") as file:
                for utt_id, entry in self.entries.items():
                    found = _checksum(file, entry)
                    if found != entry.checksum:
                        raise CacheError(
                            f"{self.path}: {utt_id!r}: expected "
                            f"{sum(entry.num_bytes)} bytes with checksum "
                            f"{entry.checksum:08x}, found {found:08x}"
                        )
        except OSError as error:
            raise CacheError(f"{self.path}: {error.strerror}") from error


class ArchiveWriter:
    """Collects features, and writes them as an archive."""

    def __init__(self):
        self._tensors: dict[str, Tensor] = {}
        self._utterances: dict[str, list[int | str]] = {}

    def add(self, utt_id: str, tensors: Sequence[Tensor], audio: AudioIdentity) -> None:
        """Add an utterance.

        Args:
            utt_id: Its id.
            tensors: What :func:`encode` made of its features.
            audio: What they were extracted from.
        """
        checksum = 0
        for name, tensor in zip((utt_id, _scale(utt_id)), tensors, strict=False):
            self._tensors[name] = tensor
            checksum = zlib.crc32(tensor.numpy().data, checksum)
        self._utterances[utt_id] = [checksum, *str(audio).split()]

    def write(self, path: Path, skipped: Table) -> None:
        """Write the archive, all of it or nothing; its folder is made if need be.

        Args:
            path: Where.
            skipped: utterance's id -> why it has no features.

        Raises:
            CacheError: If it cannot be written.
        """
        # In one order, whatever order they were made in.
        contents = {"utterances": self._utterances, "skipped": skipped}
        metadata = {_CONTENTS: json.dumps(contents, sort_keys=True)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as part:
                save_file(self._tensors, part, metadata)
        except OSError as error:
            raise CacheError(f"{path}: {error.strerror}") from error
        except SafetensorError as error:
            raise CacheError(f"{path}: {error}") from error


def encode(feats: Tensor, storage: str) -> list[Tensor]:
    """Make the tensors that an archive stores.

    Args:
        feats: (frames, features), float32.
        storage: One of :data:`STORAGES`.

    Raises:
        CacheError: If the features are not finite, or ``storage`` cannot hold them.
    """
    if not feats.isfinite().all():
        raise CacheError("expected finite features, found NaN or infinity")
    return STORAGES[storage].encode(feats.contiguous())


def read_feats(
    path: PathLike,
    num_bytes: int,
    offsets: Sequence[int],
    storage: Storage,
    shape: Shape,
    out: Tensor,
) -> None:
    """Read an utterance's features from an archive.

    The file is opened for this only: worker processes share no handle, and what is cut off
    meanwhile is an error rather than the end of the process, as with a mapped file.

    Args:
        path: The archive.
        num_bytes: The size that it must have.
        offsets: Where the utterance's tensors begin, in bytes; others after these.
        storage: How they are stored.
        shape: Frames and features.
        out: Where the features go, (frames, features), float32: the first frames.

    Raises:
        CacheError: If the archive does not have them, for instance is cut off.
    """
    tensors = []
    try:
        # Without Python's buffers, which cost as much as reading does.
        file = os.open(path, os.O_RDONLY)
        try:
            found = os.fstat(file).st_size
            if found == num_bytes:
                layout = storage.layout(*shape)
                for offset, (tensor_shape, dtype) in zip(offsets, layout, strict=False):
                    tensors.append(_read_tensor(file, offset, tensor_shape, dtype))
        finally:
            os.close(file)
    except OSError as error:
        raise CacheError(
            f"{path}: expected an archive of features, found {error.strerror}"
        ) from error
    if found != num_bytes:
        raise CacheError(
            f"{path}: expected {num_bytes} bytes, found {found}; is the file cut off? Run "
            "the same extraction again, which mends it"
        )
    storage.decode(tensors, out)


def _read_tensor(file: int, offset: int, shape: Shape, dtype: torch.dtype) -> Tensor:
    tensor = torch.empty(shape, dtype=dtype)
    left = memoryview(tensor.numpy()).cast("B")  # type: ignore[arg-type]
    while left:
        num_bytes = os.preadv(file, [left], offset)
        if not num_bytes:
            raise OSError(errno.EIO, "its end")
        left, offset = left[num_bytes:], offset + num_bytes
    return tensor


def _read_header(file: BinaryIO, num_bytes: int) -> tuple[dict, int]:
    """What is in which bytes, and where these begin, as safetensors has it."""
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > num_bytes:
        raise ValueError("a header that is longer than the file")
    return json.loads(file.read(length)), _LENGTH_BYTES + length


def _scale(utt_id: str) -> str:
    # No utterance is called so: ids have no space.
    return f"{utt_id} scale"


def _checksum(file: BinaryIO, entry: Entry) -> int:
    checksum = 0
    for offset, num_bytes in zip(entry.offsets, entry.num_bytes, strict=True):
        file.seek(offset)
        checksum = zlib.crc32(file.read(num_bytes), checksum)
    return checksum
