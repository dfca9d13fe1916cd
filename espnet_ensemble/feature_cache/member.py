"""A member: one upstream's features of a data set, in a folder of the cache."""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.tables import Table, read_table, write_table
from espnet_ensemble.errors import EnsembleError, name_keys
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import SUFFIX, Archive
from espnet_ensemble.feature_cache.identity import (
    AudioStates,
    DataSet,
    FeatureIdentity,
)
from espnet_ensemble.feature_cache.index import INDEX, Index, make_index
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
SKIPPED = "skipped"
#: What a member's ``format`` is now.
FORMAT = 2
#: Errors of a file system, or a folder, that cannot be written.
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
# Audio files that are read at a time, and in flight.
_READERS, _IN_FLIGHT = 8, 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemberInfo:
    """The content of ``cache.yaml``.

    Attributes:
        features: What the features are.
        storage: Type that they are stored in, one of
            :data:`espnet_ensemble.feature_cache.archive.STORAGES`.
        creator: Program and version that wrote this.
        format: :data:`FORMAT`, of the archives.
    """

    features: FeatureIdentity
    storage: str
    creator: str = f"espnet_ensemble {__version__}"
    format: int = FORMAT

    @classmethod
    def read(cls, path: PathLike, of_format: int = FORMAT) -> "MemberInfo":
        """Read a ``cache.yaml``.

        Args:
            path: The file.
            of_format: The format that it must have.

        Raises:
            OtherFormat: If the archives are of another format.
            EnsembleError: If it is not there or not what it should be.
        """
        own = ["storage", "creator", "format"]
        # Version 0.1 wrote none of these, and 0.2 no format.
        optional = ["probe", "revision"]
        known = [f.name for f in fields(FeatureIdentity) if f.name not in optional]
        content = read_complete(path, [*known, *own[:2]], [*optional, "format"])
        values = {key: content.pop(key, 1) for key in own}
        if values["format"] != of_format:
            raise OtherFormat(path, values["format"])
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


class OtherFormat(CacheError):
    """A member whose archives another version wrote.

    Attributes:
        found: Its format.
    """

    def __init__(self, path: PathLike, found: object):
        path, self.found = Path(path), found
        advice = "is it of a later version?"
        if found == 1 and path.name == INFO:
            advice = (
                f"espnet-ensemble extract --convert --cache_dir {path.parents[2]} makes "
                "new archives of these, without the upstreams"
            )
        elif found == 1:
            advice = f"it is not complete; remove {path.parent} to extract anew"
        super().__init__(
            f"{path}: format: expected {FORMAT}, archives of safetensors, found "
            f"{found}, Kaldi's: {advice}"
            if found == 1
            else f"{path}: format: expected {FORMAT}, found {found!r}: {advice}"
        )


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

    def archives(self) -> Iterator[Archive]:
        """Read the headers of the archives that are there, in the order of their names.

        Raises:
            CacheError: If one is damaged, or stored in another type.
        """
        for path in self.archive_paths():
            archive = Archive.read(path)
            if archive.storage not in (None, self.info.storage):
                raise CacheError(
                    f"{path}: expected {self.info.storage}, found {archive.storage}"
                )
            yield archive

    def archive_paths(self) -> list[Path]:
        """Paths of the archives that are there, sorted."""
        return sorted(self.shards.glob(f"*/*{SUFFIX}"))

    def skipped(self) -> Table:
        """Read which utterances have no features: id -> reason."""
        path = self.folder / SKIPPED
        return read_table(path) if path.exists() else {}

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
        try:
            index = self._index()
        except CacheError:
            self._check_utterances(data, self._readable_ids(), is_whole=False)
            return False
        if not np.array_equal(index.ids, data.audio.ids):
            self._check_utterances(data, set(index), is_whole=True)
        self.check_audio(data.audio, index)
        return skip or len(index) == len(data.paths)

    def damage(self) -> str | None:
        """What is damaged of a member that is complete, as far as sizes show it.

        Returns:
            The first that was found; None if that is nothing, or it is not complete.
        """
        if not (self.folder / INFO).exists():
            return None
        try:
            self._index()
        except CacheError as error:
            return str(error)
        return None

    def check_audio(
        self, files: AudioStates, index: Index, may_lack: bool = False
    ) -> None:
        """Compare the audio that the features are of with files.

        Files of another size or time are read; that their audio is the same is kept, where
        the member can be written.

        Args:
            files: They. Utterances without features are left out.
            index: The member's.
            may_lack: Whether to leave out files that are not there.

        Raises:
            CacheError: If one has other audio, or cannot be read.
        """
        rows = index.rows(files.ids)
        is_there = rows >= 0
        if may_lack:
            is_there &= files.states["mtime_ns"] >= 0
        there = np.flatnonzero(is_there)
        changed = there[index.states[rows[there]] != files.states[there]]
        if not len(changed):
            return
        utt_ids = [files.ids[number].decode() for number in changed]
        for utt_id, found, row in self._read(utt_ids, rows[changed], files):
            if found.encode() != index.digests[row]:
                self._refuse(
                    INDEX,
                    f"{utt_id!r}: expected features of {files.paths[utt_id]}, found those "
                    "of other audio, before that file was changed",
                )
        try:
            index.keep_states(rows[changed], files.states[changed])
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise

    @contextmanager
    def being_made(self, audio: AudioStates) -> Iterator[None]:
        """Make the member: in the block, its archives are made, and then the rest is.

        If the block fails, the archives stay, and the member is not complete.

        Args:
            audio: The audio files that it is made of.
        """
        self.shards.mkdir(exist_ok=True)
        self.info.write(self.folder / UNFINISHED_INFO)
        (self.folder / INFO).unlink(missing_ok=True)
        yield
        self.write_tables()
        self.check_audio(audio, Index(self.folder))
        os.replace(self.folder / UNFINISHED_INFO, self.folder / INFO)

    def write_tables(self) -> None:
        """Write what is made of the archives: the index, and which utterances are skipped.

        Raises:
            CacheError: If an archive is damaged.
        """
        skipped: Table = {}
        num_utts = make_index(self.folder, self._note_skipped(skipped), self.shards)
        if not skipped:
            (self.folder / SKIPPED).unlink(missing_ok=True)
            return
        write_table(self.folder / SKIPPED, skipped)
        _log.warning(
            "%d of %d utterances skipped: see %s",
            len(skipped),
            len(skipped) + num_utts,
            self.folder / SKIPPED,
        )

    def _note_skipped(self, skipped: Table) -> Iterator[Archive]:
        for archive in self.archives():
            for utt_id, reason in archive.skipped.items():
                skipped[utt_id] = " ".join(reason.split())
            yield archive

    def _index(self) -> Index:
        index = Index(self.folder)
        index.check_archives(self.shards)
        return index

    def _readable_ids(self) -> set[str]:
        found: set[str] = set()
        for path in self.archive_paths():
            with suppress(CacheError):
                found.update(Archive.read(path).entries)
        return found

    def _read(
        self, utt_ids: list[str], rows: np.ndarray, files: AudioStates
    ) -> Iterator[tuple[str, str, int]]:
        """Read audio files, a part at a time: id, hash of the audio, row in the index."""
        pairs = list(zip(utt_ids, rows.tolist(), strict=True))
        with (
            ThreadPoolExecutor(_READERS) as pool,
            tqdm(total=len(pairs), desc="changed audio", disable=None) as progress,
        ):
            for start in range(0, len(pairs), _IN_FLIGHT):
                part = pairs[start : start + _IN_FLIGHT]
                digests = pool.map(files.digest, [utt_id for utt_id, _ in part])
                for utt_id, row in part:
                    try:
                        yield utt_id, next(digests), row
                    except AudioError as error:
                        path = files.paths[utt_id]
                        raise CacheError(f"{utt_id}: {path}: {error}") from error
                    progress.update()

    def _check_info(self, name: str) -> None:
        try:
            found = MemberInfo.read(self.folder / name)
        except OtherFormat:
            raise
        except EnsembleError as error:
            raise CacheError(
                f"{error}; it is damaged: remove {self.folder} to extract anew"
            ) from error
        self._refuse(name, self.info.difference(found))

    def _check_utterances(
        self, data: DataSet, utt_ids: set[str], is_whole: bool
    ) -> None:
        missing = set(data.paths).difference(utt_ids, self.skipped())
        surplus = sorted(utt_ids.difference(data.paths))
        # Of what is not whole, extraction makes those that are missing.
        if surplus or (missing and is_whole):
            found = (
                f"also {name_keys(surplus)}"
                if surplus
                else f"no {name_keys(sorted(missing))}"
            )
            expected = f"the utterances of {data.data_dir}"
            self._refuse(INDEX, f"expected {expected}, found {found}")

    def _refuse(self, name: str, difference: str | None) -> None:
        if difference:
            raise CacheError(
                f"{self.folder / name}: {difference}; remove {self.folder} to extract "
                "anew, or choose another --cache_dir"
            )
