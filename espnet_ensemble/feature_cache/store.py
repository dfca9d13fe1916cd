"""The feature cache on disk.

::

    <cache_dir>/
        <upstream>-<layer>-<weights>/<data set>/    a member
            shards/0000.ark     Kaldi archive of float32 matrices, (frames, features)
            shards/0000.index   where in it an utterance is, its frames and its audio
            utt2audio           what the features were extracted from
            utt2num_frames
            feats.scp
            cache.yaml          what the features are
        combinations/<member>+<member>/<data set>/members.yaml

All are written to a temporary name and renamed. An archive is complete when it has its
index, a member when it has its ``cache.yaml``.
"""

import os
import re
import struct
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, NamedTuple, Optional

import kaldiio
import numpy as np
import yaml

from espnet_ensemble.data.sound import AudioError
from espnet_ensemble.data.tables import (
    DataError,
    PathLike,
    Table,
    read_table,
    write_table,
    write_text,
)
from espnet_ensemble.feature_cache.audio import Audio, Corpus, is_same
from espnet_ensemble.layers import Layer

STORAGE = "float32"
INFO = "cache.yaml"
UNFINISHED_INFO = "cache.yaml.part"


class CacheError(DataError):
    """A feature cache cannot be made or used."""


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
        storage: Type that the features are stored in.
        creator: Program and version that wrote this.
    """

    upstream: str
    layer: Layer
    layers: List[int]
    extra_conf: Optional[Dict[str, Any]]
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
        """A readable name that tells upstream, layer and weights apart."""
        # Through abspath: a folder may be given as "." or with a slash at the end.
        name = os.path.basename(os.path.abspath(self.upstream))
        layer = self.layer if isinstance(self.layer, (str, int)) else self.layers
        if isinstance(layer, list):
            layer = "_".join(map(str, layer))
        return re.sub(r"[^\w.-]", "_", f"{name}-{layer}-{self.fingerprint[:8]}")

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
        num_frames: Number of frames.
        audio: What it was extracted from.
    """

    offset: int
    num_frames: int
    audio: Audio

    @classmethod
    def parse(cls, value: str) -> "Entry":
        """Read what ``str`` gives."""
        offset, num_frames, audio = value.split(maxsplit=2)
        return cls(int(offset), int(num_frames), Audio.parse(audio))

    def __str__(self) -> str:
        return " ".join(map(str, self))


class Shard(NamedTuple):
    """The utterances of an archive.

    Attributes:
        ark: Path of the archive.
        paths: utterance -> audio file.
        num_samples: utterance -> its number of samples.
    """

    ark: Path
    paths: Dict[str, str]
    num_samples: Dict[str, int]

    @property
    def index(self) -> Path:
        """Path of the index."""
        return self.ark.with_suffix(".index")

    def is_complete(self) -> bool:
        """Whether the archive is there, and of the audio that is there now."""
        if not self.index.exists():
            return False
        entries = self.entries()
        return list(entries) == sorted(self.paths) and all(
            is_same(entry.audio, self.paths[key]) for key, entry in entries.items()
        )

    def entries(self) -> Dict[str, Entry]:
        """Read the index: utterance -> entry."""
        return {k: Entry.parse(v) for k, v in read_table(self.index).items()}


def plan_shards(folder: Path, corpus: Corpus, shard_utts: int) -> List[Shard]:
    """Divide a data set into consecutive shards of at most so many utterances."""
    keys = list(corpus.paths)
    parts = [keys[i : i + shard_utts] for i in range(0, len(keys), shard_utts)]
    return [
        Shard(
            folder / "shards" / f"{number:04}.ark",
            {key: corpus.paths[key] for key in part},
            {key: corpus.num_samples[key] for key in part},
        )
        for number, part in enumerate(parts)
    ]


def append_feats(ark: BinaryIO, utterance: str, feats: np.ndarray) -> int:
    """Write an utterance's features, (frames, features), float32, to an archive.

    Returns:
        Where its matrix begins, in bytes.
    """
    offset = ark.tell() + len(utterance.encode()) + 1
    kaldiio.save_ark(ark, {utterance: feats})
    return offset


def read_feats(ark: PathLike, offset: int, utterance: str, shape: tuple) -> np.ndarray:
    """Read an utterance's features from an archive.

    The archive is opened for this only: worker processes share no handle.

    Returns:
        (frames, features), float32, read-only

    Raises:
        CacheError: If the archive does not have them, for instance is cut off.
    """
    try:
        feats = kaldiio.load_mat(f"{ark}:{offset}")
    except OSError as error:
        found = error.strerror
    except (AssertionError, ValueError, UnicodeError, struct.error):
        found = "none; is the file cut off?"
    else:
        if getattr(feats, "shape", None) == shape and feats.dtype == np.float32:
            return feats
        found = "something else"
    raise CacheError(
        f"{ark}: expected features of {utterance!r}, {shape[0]} frames of {shape[1]}, "
        f"at byte {offset}, found {found}"
    )


def finish(folder: Path, shards: List[Shard]) -> None:
    """Write what makes a member of shards that are complete."""
    entries, scp = {}, {}
    for shard in shards:
        for utterance, entry in shard.entries().items():
            entries[utterance] = entry
            scp[utterance] = f"{shard.ark}:{entry.offset}"
    audio = {key: str(entry.audio) for key, entry in entries.items()}
    num_frames = {key: str(entry.num_frames) for key, entry in entries.items()}
    write_table(folder / "utt2audio", audio)
    write_table(folder / "utt2num_frames", num_frames)
    write_table(folder / "feats.scp", scp)
    os.replace(folder / UNFINISHED_INFO, folder / INFO)


def check_corpus(folder: Path, corpus: Corpus) -> None:
    """Check that a member has exactly the utterances of a data set, of the same audio.

    Raises:
        CacheError: If not. It names the first utterance that differs.
    """
    path = folder / "utt2audio"
    table = read_table(path)
    _check_utterances(path, table, corpus)
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


def _check_utterances(path: Path, table: Table, corpus: Corpus) -> None:
    missing = sorted(set(corpus.paths).difference(table))
    surplus = sorted(set(table).difference(corpus.paths))
    if missing or surplus:
        found = f"no {name_keys(missing)}" if missing else f"also {name_keys(surplus)}"
        raise CacheError(
            f"{path}: expected the utterances of {corpus.data_dir}, found {found}; "
            f"{_advice(path.parent)}"
        )


def name_keys(keys: List[str]) -> str:
    """Name the first, and how many more there are.

    Example:
        >>> name_keys(["utt1", "utt2", "utt3"])
        "'utt1' and 2 more"
    """
    return repr(keys[0]) + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")


def write_combination(cache_dir: Path, name: str, members: List[Path]) -> Path:
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


def read_combination(path: PathLike) -> List[Path]:
    """Read the members' folders from a ``members.yaml``.

    Raises:
        CacheError: If it is not there or not what it should be.
    """
    members = read_yaml(path, ["members"])["members"]
    if not isinstance(members, list) or not members:
        raise CacheError(f"{path}: expected a list of members, found {members!r}")
    folder = Path(path).parent
    return [Path(os.path.normpath(folder / str(member))) for member in members]


def read_yaml(path: PathLike, keys: List[str]) -> Dict[str, Any]:
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
