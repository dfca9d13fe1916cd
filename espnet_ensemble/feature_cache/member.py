"""A member: one upstream's features of a data set, in a folder of the cache."""

import errno
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.tables import DataError, Table, read_table, write_table
from espnet_ensemble.errors import EnsembleError, name_keys
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import (
    Entry,
    is_whole,
    read_index,
    read_skipped,
    read_values,
    write_skipped,
)
from espnet_ensemble.feature_cache.identity import (
    AudioIdentity,
    DataSet,
    FeatureIdentity,
)
from espnet_ensemble.feature_cache.index import index_damage, make_index
from espnet_ensemble.files import (
    PathLike,
    check_keys,
    read_yaml,
    write_yaml,
)
from espnet_ensemble.upstream.fingerprint import PROBE_SIZE
from espnet_ensemble.version import __version__

INFO = "cache.yaml"
UNFINISHED_INFO = "cache.yaml.part"
AUDIO = "utt2audio"
NUM_FRAMES = "utt2num_frames"
FEATS = "feats.scp"
#: Tables of which the index says the same.
INDEXED = [FEATS, NUM_FRAMES]
SKIPPED = "skipped"
#: Errors of a file system, or a folder, that cannot be written.
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemberInfo:
    """The content of ``cache.yaml``.

    Attributes:
        features: What the features are.
        storage: Type that they are stored in, one of
            :data:`espnet_ensemble.feature_cache.archive.STORAGES`.
        creator: Program and version that wrote this.
    """

    features: FeatureIdentity
    storage: str
    creator: str = f"espnet_ensemble {__version__}"

    @classmethod
    def read(cls, path: PathLike) -> "MemberInfo":
        """Read a ``cache.yaml``.

        Raises:
            EnsembleError: If it is not there or not what it should be.
        """
        own = ["storage", "creator"]
        optional = ["probe", "revision"]  # version 0.1 wrote neither
        known = [f.name for f in fields(FeatureIdentity) if f.name not in optional]
        content = read_complete(path, [*known, *own], optional)
        values = {key: content.pop(key) for key in own}
        probe = content.get("probe")
        if probe is not None and [type(x) for x in probe] != [float] * PROBE_SIZE:
            raise CacheError(f"{path}: probe: expected {PROBE_SIZE} numbers")
        return cls(FeatureIdentity(**content), **values)

    def difference(self, found: "MemberInfo") -> str | None:
        """The first difference to another one, for a message; None if there is none."""
        if found.storage != self.storage:
            return f"storage: expected {self.storage!r}, found {found.storage!r}"
        return self.features.difference(found.features)

    def write(self, path: PathLike) -> None:
        """Write a ``cache.yaml``."""
        content = asdict(self)
        features = content.pop("features")
        more = {key: features.pop(key) for key in ("probe", "revision")}
        more = {key: value for key, value in more.items() if value is not None}
        write_yaml(path, {**features, **content, **more})


def read_complete(
    path: PathLike, keys: list[str], optional: Sequence[str] = ()
) -> dict[str, Any]:
    """Read a YAML file of these keys, which an extraction writes last.

    Raises:
        EnsembleError: If it is not there or not that.
    """
    if not Path(path).exists():
        raise CacheError(
            f"{path}: expected this file, found none; the extraction that makes it is "
            "not complete"
        )
    content = read_yaml(path)
    check_keys(str(path), content, keys, optional)
    return content


class Member:
    """One upstream's features of a data set.

    Args:
        folder: Where they are, or will be.
        info: What they are.
    """

    def __init__(self, folder: Path, info: MemberInfo):
        self.folder = folder
        self.info = info

    @classmethod
    def of(cls, cache_dir: Path, info: MemberInfo, data: DataSet) -> "Member":
        """Name the member of a cache that has, or will have, these features."""
        return cls(cache_dir / f"{info.features.tag}-{info.storage}" / data.name, info)

    @classmethod
    def open(cls, folder: Path) -> "Member":
        """Open a member that is complete.

        Raises:
            EnsembleError: If it is not.
        """
        return cls(folder, MemberInfo.read(folder / INFO))

    @property
    def name(self) -> str:
        """What tells it from others of the same data set."""
        return self.folder.parent.name

    @property
    def shards(self) -> Path:
        """The folder of the archives."""
        return self.folder / "shards"

    def skipped(self) -> Table:
        """Read which utterances have no features: id -> reason."""
        return read_skipped(self.folder / SKIPPED)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time write the member; the others wait.

        Where nothing can be written, what is complete can be used without.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.info("waiting for another extraction to %s", self.folder)
            lock.acquire()
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
        try:
            yield
        finally:
            lock.release()

    def is_complete(self, data: DataSet, skip: bool) -> bool:
        """Whether the member has all that it should have, and only this.

        Args:
            data: Of whose utterances it should be.
            skip: Whether it may lack utterances that were skipped.

        Returns:
            False if it is not complete, something is damaged, or utterances were skipped
            that should not be: extraction can mend it.

        Raises:
            CacheError: If what is there is of other features, of another data set or of
                other audio. It names the difference.
        """
        for name in (INFO, UNFINISHED_INFO):
            if (self.folder / name).exists():
                self._check_info(name)
        if not (self.folder / INFO).exists():
            return False
        contents = Contents.read(self.folder)
        is_whole = not contents.damages
        self._check_utterances(data, contents, is_whole)
        if not is_whole:
            return False
        self.check_audio(data.paths)
        return skip or not set(data.paths).intersection(contents.skipped)

    def check_audio(self, paths: Mapping[str, str]) -> None:
        """Compare the audio that the features are of with files.

        Args:
            paths: utterance's id -> audio file. Utterances without features are left out.

        Raises:
            CacheError: If one has other audio, or cannot be read.
        """
        path = self.folder / AUDIO
        audio = read_values(path, AudioIdentity.parse, "hashes of audio")
        for utt_id, identity in audio.items():
            if utt_id in paths:
                self._check_audio(utt_id, identity, paths[utt_id])

    @contextmanager
    def being_made(self) -> Iterator[None]:
        """Make the member: in the block, its archives are made, and then the rest is.

        If the block fails, the archives stay, and the member is not complete.
        """
        self.shards.mkdir(exist_ok=True)
        self.info.write(self.folder / UNFINISHED_INFO)
        (self.folder / INFO).unlink(missing_ok=True)
        yield
        self._write_tables()
        os.replace(self.folder / UNFINISHED_INFO, self.folder / INFO)

    def _write_tables(self) -> None:
        contents = Contents.read(self.folder)
        for name, table in contents.tables(self.shards).items():
            write_table(self.folder / name, table)
        make_index(self.folder, contents.entries, INDEXED)
        write_skipped(self.folder / SKIPPED, contents.skipped)
        if contents.skipped:
            _log.warning(
                "%d of %d utterances skipped: see %s",
                len(contents.skipped),
                len(contents.skipped) + len(contents.entries),
                self.folder / SKIPPED,
            )

    def _check_info(self, name: str) -> None:
        try:
            found = MemberInfo.read(self.folder / name)
        except EnsembleError as error:
            raise CacheError(
                f"{error}; it is damaged: remove {self.folder} to extract anew"
            ) from error
        self._refuse(name, self.info.difference(found))

    def _check_utterances(
        self, data: DataSet, contents: "Contents", is_whole: bool
    ) -> None:
        missing = set(data.paths).difference(contents.entries, contents.skipped)
        surplus = sorted(set(contents.entries).difference(data.paths))
        # Of what is not whole, extraction makes those that are missing.
        if surplus or (missing and is_whole):
            found = (
                f"also {name_keys(surplus)}"
                if surplus
                else f"no {name_keys(sorted(missing))}"
            )
            expected = f"the utterances of {data.data_dir}"
            self._refuse(AUDIO, f"expected {expected}, found {found}")

    def _check_audio(self, utt_id: str, identity: AudioIdentity, path: str) -> None:
        try:
            same = identity.is_of(path)
        except AudioError as error:
            raise CacheError(f"{utt_id}: {path}: {error}") from error
        if not same:
            self._refuse(
                AUDIO,
                f"{utt_id!r}: expected features of {path}, found those of other audio, "
                "before that file was changed",
            )

    def _refuse(self, name: str, difference: str | None) -> None:
        if difference:
            raise CacheError(
                f"{self.folder / name}: {difference}; remove {self.folder} to extract "
                "anew, or choose another --cache_dir"
            )


@dataclass(frozen=True)
class Contents:
    """What the archives of a member have, as their indices say.

    Attributes:
        entries: utterance's id -> archive and entry.
        skipped: utterance's id -> why it has no features.
        damages: What is damaged, a message for each: indices and tables that are not as
            they were written, archives of another size. Records are not read.
    """

    entries: dict[str, tuple[str, Entry]]
    skipped: Table
    damages: list[str]

    @classmethod
    def read(cls, folder: Path) -> "Contents":
        """Read the indices of a member, and compare its tables if it is complete."""
        contents = cls({}, {}, [])
        for index in sorted((folder / "shards").glob("*.index")):
            contents._add(index)
        if (folder / INFO).exists() and not contents.damages:
            contents._compare_tables(folder)
        return contents

    def tables(self, shards: Path) -> dict[str, Table]:
        """The member's tables: file name -> table.

        Args:
            shards: The folder of the archives, as ``feats.scp`` is to name it.
        """
        entries = self.entries.items()
        return {
            AUDIO: {utt_id: str(entry.audio) for utt_id, (_, entry) in entries},
            NUM_FRAMES: {utt_id: str(e.num_frames) for utt_id, (_, e) in entries},
            FEATS: {
                utt_id: f"{shards / ark}:{e.offset}" for utt_id, (ark, e) in entries
            },
        }

    def _add(self, index: Path) -> None:
        ark = index.with_suffix(".ark")
        try:
            entries = read_index(index)
            self.skipped.update(read_skipped(ark.with_suffix(".skipped")))
        except EnsembleError as error:
            self.damages.append(str(error))
            return
        self.entries.update({key: (ark.name, entry) for key, entry in entries.items()})
        if not is_whole(ark, entries):
            self.damages.append(f"{ark}: expected the records of {index}, found others")

    def _compare_tables(self, folder: Path) -> None:
        damage = index_damage(folder, INDEXED)
        if damage:
            self.damages.append(damage)
        for name, expected in self.tables(Path()).items():
            try:
                found = read_table(folder / name)
            except DataError as error:
                self.damages.append(str(error))
                continue
            if name == FEATS:  # the cache may have been moved
                found = {key: Path(place).name for key, place in found.items()}
            if found != expected:
                self.damages.append(
                    f"{folder / name}: expected what the archives' indices say, found "
                    "other lines"
                )
