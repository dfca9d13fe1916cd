"""Extraction of the features of frozen upstreams."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from espnet_ensemble.ensemble import check_sample_rates
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import DEFAULT_STORAGE, STORAGES
from espnet_ensemble.feature_cache.dataset import write_combination
from espnet_ensemble.feature_cache.identity import DataSet, FeatureIdentity
from espnet_ensemble.feature_cache.member import Contents, Member, MemberInfo
from espnet_ensemble.feature_cache.shard import Shard, ShardConf, Work, plan_shards
from espnet_ensemble.feature_cache.workers import Workers
from espnet_ensemble.files import PathLike, remove_unfinished
from espnet_ensemble.frontend_conf import FrontendConf

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractConf:
    """How features are extracted.

    Attributes:
        storage: Type to store them in, one of
            :data:`espnet_ensemble.feature_cache.archive.STORAGES`.
        shard_utts: Utterances per archive: what a killed run may lose, per process.
        batch_seconds: Seconds of speech, with padding, that an upstream gets at once,
            unless an utterance is longer.
        skip: Whether to leave out utterances whose features cannot be had, and list them,
            instead of raising an error.
        workers: The processes that do it.

    Raises:
        CacheError: If one of them is wrong.
    """

    storage: str = DEFAULT_STORAGE
    shard_utts: int = 200
    batch_seconds: float = 60.0
    skip: bool = False
    workers: Workers = field(default_factory=Workers)

    def __post_init__(self):
        if self.storage not in STORAGES:
            raise CacheError(
                f"storage: expected {', '.join(STORAGES)}, found {self.storage!r}"
            )
        for name in ("shard_utts", "batch_seconds"):
            if not getattr(self, name) > 0:
                raise CacheError(
                    f"{name}: expected a number above 0, found {getattr(self, name)}"
                )


def extract(
    data_dir: PathLike,
    frontend_conf: Mapping[str, Any],
    cache_dir: PathLike,
    conf: ExtractConf = ExtractConf(),
) -> Path:
    """Write the features that each upstream of a frontend gives for a data set.

    Each upstream (with its ``layer``) has its own folder in the cache, a *member*, which
    all frontends with this upstream share. A member that is complete is checked, for the
    weights, the options and the audio it was made of, and not made again. One that is
    not, as its extraction was killed, is continued at the first missing archive. If
    another process is writing a member, this one waits for it.

    Args:
        data_dir: A data directory such as ``dump/raw/train``, with one audio file per
            utterance and ``utt2num_samples``.
        frontend_conf: The content of ``frontend_conf``.
        cache_dir: The cache.
        conf: How to do it.

    Returns:
        The ``members.yaml`` that
        :class:`~espnet_ensemble.feature_cache.dataset.FeatureCache` reads.

    Raises:
        CacheError: If a member is of other audio or options than asked for, or cannot
            be written; also if audio cannot be read, then it names utterance and file.
            Archives that are complete are kept.
        DataError: If ``data_dir`` is not valid.
        EnsembleError: If ``frontend_conf`` is wrong.
    """
    (path,) = extract_sets([data_dir], frontend_conf, cache_dir, conf)
    return path


def extract_sets(
    data_dirs: Sequence[PathLike],
    frontend_conf: Mapping[str, Any],
    cache_dir: PathLike,
    conf: ExtractConf = ExtractConf(),
) -> list[Path]:
    """Write features of several data sets, as :func:`extract` does of one.

    To see what is there already, each upstream is loaded once.

    Args:
        data_dirs: Data directories of different names.
        frontend_conf: The content of ``frontend_conf``.
        cache_dir: The cache.
        conf: How to do it.

    Returns:
        The ``members.yaml`` of each data set.

    Raises:
        EnsembleError: As :func:`extract`, of any data set before features of the first
            are made, where it can be known; and if two of them have one name.
    """
    cache_dir, data_sets = Path(cache_dir), [DataSet.read(path) for path in data_dirs]
    _check_names(data_sets)
    frontends = FrontendConf.parse(frontend_conf).members()
    features = [FeatureIdentity.load(frontend) for frontend in frontends]
    check_sample_rates([f.upstream for f in features], [f.fs for f in features])
    infos = [MemberInfo(f, conf.storage) for f in features]
    members = [
        [Member.of(cache_dir, info, data) for info in infos] for data in data_sets
    ]
    # All are checked before the first is extracted, which may take days.
    todo = [
        _Task(member, frontend, data)
        for data, of_set in zip(data_sets, members, strict=True)
        for member, frontend in zip(of_set, frontends, strict=True)
        if not _is_there(member, data, conf)
    ]
    # Jobs wait in a queue: once for all.
    for tasks in [todo] if conf.workers.are_jobs else [[task] for task in todo]:
        _extract_members(tasks, conf)
    return [
        _combine(cache_dir, of_set, data)
        for of_set, data in zip(members, data_sets, strict=True)
    ]


def _check_names(data_sets: Sequence[DataSet]) -> None:
    names = [data.name for data in data_sets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CacheError(
            f"data_dirs: expected data sets of different names, found {twice[0]} twice: "
            "in one cache, their features would have one folder"
        )


def _is_there(member: Member, data: DataSet, conf: ExtractConf) -> bool:
    if not member.folder.exists():
        return False
    with member.lock():
        return member.is_complete(data, conf.skip)


def _combine(cache_dir: Path, members: Sequence[Member], data: DataSet) -> Path:
    # Who writes the same combination has the same first member.
    with members[0].lock():
        return write_combination(cache_dir, members, data.data_dir)


@dataclass(frozen=True)
class _Task:
    """A member to be made."""

    member: Member
    frontend: FrontendConf
    data: DataSet

    @property
    def name(self) -> str:
        return f"{self.member.name} {self.data.name}"

    def plan(self, conf: ExtractConf) -> list[Shard]:
        return plan_shards(
            self.member.shards, self.data, self.frontend.fs, conf.shard_utts
        )


def _extract_members(tasks: list[_Task], conf: ExtractConf) -> None:
    with ExitStack() as stack:
        # In one order: two extractions never wait for each other.
        for task in sorted(tasks, key=lambda task: task.member.folder):
            stack.enter_context(task.member.lock())
        # By now, another process may have made some.
        tasks = [t for t in tasks if not t.member.is_complete(t.data, conf.skip)]
        if tasks:
            _make_members(tasks, conf)


def _make_members(tasks: list[_Task], conf: ExtractConf) -> None:
    planned = [(task, task.plan(conf)) for task in tasks]
    log_dir = tasks[0].member.folder / "logdir"
    with ExitStack() as stack:
        todo = []
        for task, shards in planned:
            for damage in Contents.read(task.member.folder).damages:
                _log.warning("%s; this is mended now", damage)
            stack.enter_context(task.member.being_made())
            # Jobs that an earlier run has submitted may be at work.
            if not conf.workers.are_jobs:
                remove_unfinished(task.member.folder)
                _remove_others(task.member.shards, shards)
            missing = [s for s in shards if not s.is_complete(conf.skip)]
            shard_conf = ShardConf(
                task.frontend, conf.storage, conf.batch_seconds, conf.skip
            )
            todo.append(Work(shard_conf, missing))
        try:
            with (
                _progress(planned, todo) as progress,
                closing(conf.workers.make(todo, log_dir)) as made,
            ):
                for seconds in made:
                    progress.update(seconds)
        except KeyboardInterrupt:
            _log.warning(
                "interrupted: archives that are complete are kept; run it again, and it "
                "goes on from there"
            )
            for task, shards in planned:
                _remove_others(task.member.shards, shards)
            raise
        for task, shards in planned:
            _remove_others(task.member.shards, shards)


def _progress(planned: list[tuple[_Task, list[Shard]]], todo: list[Work]) -> tqdm:
    total = sum(shard.seconds for _, shards in planned for shard in shards)
    missing = sum(shard.seconds for work in todo for shard in work.shards)
    name = planned[0][0].name
    if len(planned) > 1:
        name = f"{len(planned)} members"
    return tqdm(
        total=total,
        initial=total - missing,
        desc=name,
        unit=" s",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of speech "
        "[{elapsed}<{remaining}, {rate_noinv_fmt}]",
        disable=None,
    )


def _remove_others(folder: Path, shards: list[Shard]) -> None:
    """Remove what a worker that was killed left, or a run that had other options."""
    planned = {p.name for s in shards for p in (s.ark, s.index, s.skipped)}
    for path in folder.iterdir():
        if path.name not in planned:
            path.unlink()
