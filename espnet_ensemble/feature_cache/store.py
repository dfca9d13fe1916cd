"""The feature cache on disk.

::

    <cache_dir>/
        <upstream>-<layer>-<weights>-<storage>/<data set>/      a member
            shards/0000.ark      Kaldi archive of matrices, (frames, features)
            shards/0000.index    where in it an utterance is, its frames and its audio
            shards/0000.skipped  utterances that have no features, and why: if there are any
            utt2audio            what the features were extracted from
            utt2num_frames
            feats.scp
            skipped              as in the shards
            cache.yaml           what the features are
        combinations/<member>+<member>/<data set>/members.yaml

All are written to a temporary name and renamed. An archive is complete when it has its
index, a member when it has its ``cache.yaml``.
"""

import io
import os
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import kaldiio
import numpy as np
import torch
import yaml
from filelock import FileLock, Timeout

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.tables import Table, read_table, write_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.identity import Audio, Corpus, is_same
from espnet_ensemble.files import PathLike, write_text
from espnet_ensemble.layers import Layer

INFO = "cache.yaml"
UNFINISHED_INFO = "cache.yaml.part"


class CacheError(EnsembleError):
    """A feature cache cannot be made or used."""


class Storage(NamedTuple):
    """How a matrix is written in an archive.

    Attributes:
        options: Of ``kaldiio.save_ark``.
        magic: What a record begins with. Others are not read: kaldiio would run the code
            in some.
    """

    options: dict[str, Any]
    magic: bytes


STORAGES = {
    "float32": Storage({}, b"\0BFM "),
    # Kaldi's matrices have no such type: kaldiio puts numpy's format into the archive.
    "float16": Storage({"write_function": "numpy"}, b"NPY"),
    # Kaldi's CompressedMatrix, kSpeechFeature: 8 bits, scaled by channel.
    "int8": Storage({"compression_method": 2}, b"\0BCM "),
}
DEFAULT_STORAGE = "float16"


@dataclass(frozen=True)
class MemberInfo:
    """What a member's features are: the content of ``cache.yaml``.

    Attributes:
        upstream: Name of the upstream.
        layer: Its ``layer``, as in ``frontend_conf``.
        layers: The hidden states that this means; they are concatenated.
        extra_conf: As in ``frontend_conf``.
        fingerprint: Hash of the upstream's weights.
        feature_size: Features per frame, of all layers together.
        fs: Sample rate that the upstream expects, in Hz.
        hop_length: Samples at that rate from one frame to the next.
        speech_fs: Sample rate of the audio, in Hz.
        dtype: Type that the upstream computed in.
        storage: Type that the features are stored in, one of :data:`STORAGES`.
        creator: Program and version that wrote this.
    """

    upstream: str
    layer: Layer
    layers: list[int]
    extra_conf: dict[str, Any] | None
    fingerprint: str
    feature_size: int
    fs: int
    hop_length: int
    speech_fs: int
    dtype: str
    storage: str
    creator: str

    @property
    def folder_name(self) -> str:
        """A readable name that tells upstream, layer, weights and storage apart."""
        # Through abspath: a folder may be given as "." or with a slash at the end.
        name = os.path.basename(os.path.abspath(self.upstream))
        layer = self.layer if isinstance(self.layer, (str, int)) else self.layers
        if isinstance(layer, list):
            layer = "_".join(map(str, layer))
        name = f"{name}-{layer}-{self.fingerprint[:8]}-{self.storage}"
        return re.sub(r"[^\w.-]", "_", name)

    @classmethod
    def read(cls, path: PathLike) -> "MemberInfo":
        """Read a ``cache.yaml``.

        Raises:
            CacheError: If it is not there or not what it should be.
        """
        return cls(**read_yaml(path, [field.name for field in fields(cls)]))

    def write(self, path: PathLike) -> None:
        """Write a ``cache.yaml``."""
        write_text(path, yaml.safe_dump(asdict(self), sort_keys=False))

    def check(self, path: PathLike) -> None:
        """Compare with what a ``cache.yaml`` says.

        The names of the upstream and the layer may differ: the weights and the resolved
        layers say what they are.

        Raises:
            CacheError: If the features are others. It names the difference.
        """
        theirs = asdict(self.read(path))
        for key, value in asdict(self).items():
            if key not in ("upstream", "layer", "creator") and theirs[key] != value:
                raise CacheError(
                    f"{path}: {key}: expected {value!r}, found {theirs[key]!r}; "
                    f"{_advice(Path(path).parent)}"
                )


class Entry(NamedTuple):
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
    audio: Audio

    @classmethod
    def parse(cls, value: str) -> "Entry":
        """Read what ``str`` gives."""
        *numbers, audio = value.split(maxsplit=4)
        return cls(*map(int, numbers), Audio.parse(audio))

    def __str__(self) -> str:
        return " ".join(map(str, self))


class Shard(NamedTuple):
    """The utterances of an archive.

    Attributes:
        ark: Path of the archive.
        paths: utterance -> audio file.
        num_samples: utterance -> its number of samples.
        fs: Their rate, in Hz.
    """

    ark: Path
    paths: dict[str, str]
    num_samples: dict[str, int]
    fs: int

    @property
    def seconds(self) -> float:
        """Duration of the speech."""
        return sum(self.num_samples.values()) / self.fs

    @property
    def index(self) -> Path:
        """Path of the index."""
        return self.ark.with_suffix(".index")

    @property
    def skipped(self) -> Path:
        """Path of the list of utterances without features."""
        return self.ark.with_suffix(".skipped")

    def is_complete(self, skip: bool) -> bool:
        """Whether the archive is there, whole, and of the audio that is there now.

        Args:
            skip: Whether it may lack utterances that were skipped.
        """
        if not self.index.exists():
            return False
        entries, skipped = read_index(self.index), read_skipped(self.skipped)
        return (
            sorted([*entries, *skipped]) == sorted(self.paths)
            and (skip or not skipped)
            and is_whole(self.ark, entries)
            and all(is_same(e.audio, self.paths[key]) for key, e in entries.items())
        )


def read_index(path: PathLike) -> dict[str, Entry]:
    """Read an archive's index: utterance -> entry.

    Raises:
        CacheError: If it is none.
    """
    try:
        return {key: Entry.parse(value) for key, value in read_table(path).items()}
    except (TypeError, ValueError) as error:
        raise CacheError(f"{path}: expected an index, found {error}") from error


def read_skipped(path: Path) -> Table:
    """Read which utterances have no features: utterance -> reason."""
    return read_table(path) if path.exists() else {}


def is_whole(ark: Path, entries: dict[str, Entry]) -> bool:
    """Whether an archive has the size that its index says."""
    size = max(
        (entry.offset + entry.num_bytes for entry in entries.values()), default=0
    )
    return ark.exists() and ark.stat().st_size == size


def plan_shards(folder: Path, corpus: Corpus, fs: int, shard_utts: int) -> list[Shard]:
    """Divide a data set, of this sample rate, into shards of at most so many utterances."""
    keys = list(corpus.paths)
    parts = [keys[i : i + shard_utts] for i in range(0, len(keys), shard_utts)]
    return [
        Shard(
            folder / "shards" / f"{number:04}.ark",
            {key: corpus.paths[key] for key in part},
            {key: corpus.num_samples[key] for key in part},
            fs,
        )
        for number, part in enumerate(parts)
    ]


def append_feats(
    ark: BinaryIO, utterance: str, feats: np.ndarray, storage: str
) -> tuple[int, int, int]:
    """Write an utterance's features to an archive.

    Args:
        ark: The archive, at its end.
        utterance: Its id.
        feats: (frames, features), float32.
        storage: One of :data:`STORAGES`.

    Returns:
        Where its matrix begins, its size, both in bytes, and its checksum.

    Raises:
        CacheError: If ``storage`` cannot hold the features.
    """
    if storage == "float16":
        largest = np.abs(feats).max()
        if largest > np.finfo(np.float16).max:
            raise CacheError(
                f"expected features up to 65504 for float16, found {largest:g}; use "
                "--storage float32"
            )
        feats = torch.from_numpy(feats).half().numpy()  # faster than numpy's astype
    record = io.BytesIO()
    kaldiio.save_ark(record, {utterance: feats}, **STORAGES[storage].options)
    offset = len(utterance.encode()) + 1
    matrix = record.getbuffer()[offset:]
    offset += ark.tell()
    ark.write(record.getbuffer())
    return offset, len(matrix), zlib.crc32(matrix)


def read_feats(
    ark: PathLike, offset: int, utterance: str, shape: tuple, storage: str
) -> np.ndarray:
    """Read an utterance's features from an archive.

    The archive is opened for this only: worker processes share no handle.

    Returns:
        (frames, features), float32, read-only for some types of storage

    Raises:
        CacheError: If the archive does not have them, for instance is cut off.
    """
    try:
        with open(ark, "rb") as f:
            f.seek(offset)
            magic = f.read(len(STORAGES[storage].magic))
            if magic != STORAGES[storage].magic:
                raise ValueError
            f.seek(offset)
            feats = kaldiio.matio.read_kaldi(f)
    except OSError as error:
        found = error.strerror
    except (AssertionError, EOFError, ValueError, UnicodeError, struct.error):
        found = "none; is the file cut off?"
    else:
        if feats.shape == shape and feats.dtype == np.float16:
            return torch.from_numpy(feats).float().numpy()
        if feats.shape == shape and feats.dtype == np.float32:
            return feats
        found = f"{feats.dtype} {feats.shape}"
    raise CacheError(
        f"{ark}: expected features of {utterance!r}, {shape[0]} frames of {shape[1]}, "
        f"at byte {offset}, found {found}"
    )


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let one process at a time write a member; the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another extraction to {folder}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def finish(folder: Path, shards: list[Shard]) -> None:
    """Write what makes a member of shards that are complete."""
    entries, scp, skipped = {}, {}, {}
    for shard in shards:
        skipped.update(read_skipped(shard.skipped))
        for utterance, entry in read_index(shard.index).items():
            entries[utterance] = entry
            scp[utterance] = f"{shard.ark}:{entry.offset}"
    audio = {key: str(entry.audio) for key, entry in entries.items()}
    num_frames = {key: str(entry.num_frames) for key, entry in entries.items()}
    write_table(folder / "utt2audio", audio)
    write_table(folder / "utt2num_frames", num_frames)
    write_table(folder / "feats.scp", scp)
    write_skipped(folder / "skipped", skipped)
    if skipped:
        print(
            f"{len(skipped)} of {len(skipped) + len(entries)} utterances skipped: see "
            f"{folder / 'skipped'}",
            file=sys.stderr,
        )
    os.replace(folder / UNFINISHED_INFO, folder / INFO)


def write_skipped(path: Path, skipped: Table) -> None:
    """Write what :func:`read_skipped` reads; no file if there is nothing to say."""
    if skipped:
        write_table(
            path, {k: " ".join(reason.split()) for k, reason in skipped.items()}
        )
    else:
        path.unlink(missing_ok=True)


def is_finished(folder: Path, corpus: Corpus, skip: bool) -> bool:
    """Whether a member has all that it should have, and only this.

    Args:
        folder: The member.
        corpus: Of whose utterances it is.
        skip: Whether it may lack utterances that were skipped.

    Returns:
        False if it is not complete, an archive is not whole, or utterances were skipped
        that should not be: extraction can mend it.

    Raises:
        CacheError: If it is complete, but of another corpus or of other audio. It names
            the first utterance that differs.
    """
    if not (folder / INFO).exists():
        return False
    path, skipped = folder / "utt2audio", read_skipped(folder / "skipped")
    table = read_table(path)
    missing = sorted(set(corpus.paths).difference(table).difference(skipped))
    surplus = sorted(set(table).difference(corpus.paths))
    if missing or surplus:
        found = f"no {name_keys(missing)}" if missing else f"also {name_keys(surplus)}"
        raise CacheError(
            f"{path}: expected the utterances of {corpus.data_dir}, found {found}; "
            f"{_advice(folder)}"
        )
    for utterance, value in table.items():
        source = corpus.paths[utterance]
        try:
            same = is_same(Audio.parse(value), source)
        except AudioError as error:
            raise CacheError(f"{utterance}: {source}: {error}") from error
        if not same:
            raise CacheError(
                f"{path}: {utterance!r}: expected features of {source}, found those of "
                f"other audio, before that file was changed; {_advice(folder)}"
            )
    if not skip and set(corpus.paths).intersection(skipped):
        return False
    paths = (folder / "shards").glob("*.index")
    indices = {path.with_suffix(".ark"): read_index(path) for path in paths}
    return sum(map(len, indices.values())) == len(table) and all(
        is_whole(ark, entries) for ark, entries in indices.items()
    )


def name_keys(keys: list[str]) -> str:
    """Name the first, and how many more there are.

    Example:
        >>> name_keys(["utt1", "utt2", "utt3"])
        "'utt1' and 2 more"
    """
    return repr(keys[0]) + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")


def write_combination(cache_dir: Path, name: str, members: list[Path]) -> Path:
    """Write which members' features, one after the other, a frontend takes.

    Args:
        cache_dir: The cache.
        name: Of the data set.
        members: Their folders.

    Returns:
        Path of the ``members.yaml``, for training.
    """
    combination = "+".join(folder.parent.name for folder in members)
    folder = cache_dir / "combinations" / combination / name
    folder.mkdir(parents=True, exist_ok=True)
    # Relative to the file: the cache may be moved.
    paths = [os.path.relpath(member, folder) for member in members]
    write_text(folder / "members.yaml", yaml.safe_dump({"members": paths}))
    return folder / "members.yaml"


def read_combination(path: PathLike) -> list[Path]:
    """Read the members' folders from a ``members.yaml``.

    Raises:
        CacheError: If it is not there or not what it should be.
    """
    members = read_yaml(path, ["members"])["members"]
    if not isinstance(members, list) or not members:
        raise CacheError(f"{path}: expected a list of members, found {members!r}")
    folder = Path(path).parent
    return [Path(os.path.normpath(folder / str(member))) for member in members]


def read_yaml(path: PathLike, keys: list[str]) -> dict[str, Any]:
    """Read a mapping that has exactly these keys.

    Raises:
        CacheError: If the file is not there or not that.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CacheError(
            f"{path}: expected this file, found none; the extraction that makes it is "
            "not complete"
        ) from error
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise CacheError(f"{path}: expected YAML, found {error}") from error
    if not isinstance(content, dict) or set(content) != set(keys):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else content
        raise CacheError(f"{path}: expected {', '.join(keys)}, found {found}")
    return content


def _advice(folder: Path) -> str:
    return f"remove {folder} to extract anew, or choose another --cache_dir"
