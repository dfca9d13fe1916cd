"""A member: one upstream's features of a data set, in a folder of the cache."""

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.tables import Table, write_table
from espnet_ensemble.errors import name_keys
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import (
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
from espnet_ensemble.files import (
    PathLike,
    check_keys,
    read_yaml,
    remove_unfinished,
    write_yaml,
)
from espnet_ensemble.upstream.fingerprint import PROBE_SIZE
from espnet_ensemble.version import __version__

INFO = "cache.yaml"
UNFINISHED_INFO = "cache.yaml.part"
AUDIO = "utt2audio"
NUM_FRAMES = "utt2num_frames"
FEATS = "feats.scp"
SKIPPED = "skipped"

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
        known = [f.name for f in fields(FeatureIdentity) if f.name != "probe"]
        # Version 0.1 wrote no probe.
        content = read_complete(path, [*known, *own], ["probe"])
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
        probe = features.pop("probe")
        more = {} if probe is None else {"probe": probe}
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
        """Let one process at a time write the member; the others wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.info("waiting for another extraction to %s", self.folder)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def check(self, features: FeatureIdentity) -> None:
        """Compare with what the features should be.

        Raises:
            CacheError: If they are others. It names the difference.
        """
        self._refuse(INFO, features.difference(self.info.features))

    def is_complete(self, data: DataSet, skip: bool) -> bool:
        """Whether the member has all that it should have, and only this.

        Args:
            data: Of whose utterances it should be.
            skip: Whether it may lack utterances that were skipped.

        Returns:
            False if it is not complete, an archive is not whole, or utterances were
            skipped that should not be: extraction can mend it.

        Raises:
            CacheError: If what is there is of other features, of another data set or of
                other audio. It names the difference.
        """
        for name in (INFO, UNFINISHED_INFO):
            if (self.folder / name).exists():
                found = MemberInfo.read(self.folder / name)
                self._refuse(name, self.info.difference(found))
        if not (self.folder / INFO).exists():
            return False
        audio = read_values(self.folder / AUDIO, AudioIdentity.parse, "hashes of audio")
        skipped = self.skipped()
        self._check_utterances(data, audio, skipped)
        for utt_id, identity in audio.items():
            self._check_audio(utt_id, identity, data.paths[utt_id])
        if not skip and set(data.paths).intersection(skipped):
            return False
        indices = {path: read_index(path) for path in self.shards.glob("*.index")}
        return sum(map(len, indices.values())) == len(audio) and all(
            is_whole(path.with_suffix(".ark"), index) for path, index in indices.items()
        )

    @contextmanager
    def being_made(self) -> Iterator[None]:
        """Make the member: in the block, its archives are made, and then the rest is.

        If the block fails, the archives stay, and the member is not complete.
        """
        self.shards.mkdir(exist_ok=True)
        remove_unfinished(self.folder)
        self.info.write(self.folder / UNFINISHED_INFO)
        (self.folder / INFO).unlink(missing_ok=True)
        yield
        self._write_tables()
        os.replace(self.folder / UNFINISHED_INFO, self.folder / INFO)

    def _write_tables(self) -> None:
        audio, num_frames, scp, skipped = {}, {}, {}, {}
        for index in self.shards.glob("*.index"):
            ark = index.with_suffix(".ark")
            skipped.update(read_skipped(ark.with_suffix(".skipped")))
            for utt_id, entry in read_index(index).items():
                audio[utt_id] = str(entry.audio)
                num_frames[utt_id] = str(entry.num_frames)
                scp[utt_id] = f"{ark}:{entry.offset}"
        write_table(self.folder / AUDIO, audio)
        write_table(self.folder / NUM_FRAMES, num_frames)
        write_table(self.folder / FEATS, scp)
        write_skipped(self.folder / SKIPPED, skipped)
        if skipped:
            _log.warning(
                "%d of %d utterances skipped: see %s",
                len(skipped),
                len(skipped) + len(scp),
                self.folder / SKIPPED,
            )

    def _check_utterances(
        self, data: DataSet, audio: Collection[str], skipped: Collection[str]
    ) -> None:
        missing = sorted(set(data.paths).difference(audio).difference(skipped))
        surplus = sorted(set(audio).difference(data.paths))
        if missing or surplus:
            found = (
                f"no {name_keys(missing)}" if missing else f"also {name_keys(surplus)}"
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
