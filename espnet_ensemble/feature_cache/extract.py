"""Extraction of the features of frozen upstreams."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from espnet_ensemble.ensemble import check_sample_rates
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import DEFAULT_STORAGE, STORAGES
from espnet_ensemble.feature_cache.dataset import write_combination
from espnet_ensemble.feature_cache.identity import DataSet, FeatureIdentity
from espnet_ensemble.feature_cache.member import INFO, Member, MemberInfo
from espnet_ensemble.feature_cache.shard import Shard, ShardConf, Work, plan_shards
from espnet_ensemble.feature_cache.workers import Workers
from espnet_ensemble.files import PathLike, remove_unfinished
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.layers import Layer

#: What an archive's features may take, as they are all in memory before they are written.
MAX_SHARD_BYTES = 2**28

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractConf:
    """How features are extracted.

    Attributes:
        storage: Type to store them in, one of
            :data:`espnet_ensemble.feature_cache.archive.STORAGES`.
        shard_seconds: Seconds of speech per archive, about: what a killed run may lose, per
            process. Fewer where more than :data:`MAX_SHARD_BYTES` would come of it.
        batch_seconds: Seconds of speech, with padding, that an upstream gets at once,
            unless an utterance is longer.
        skip: Whether to leave out utterances whose features cannot be had, and list them,
            instead of raising an error.
        layers: Hidden states to store, each as a member of its own, whatever ``layer`` the
            frontend has: "all", or indices as of ``layer``. None: those of ``layer``, in
            one member, unless each is there already as one of its own.
        workers: The processes that do it.

    Raises:
        CacheError: If one of them is wrong.
    """

    storage: str = DEFAULT_STORAGE
    shard_seconds: float = 1200.0
    batch_seconds: float = 60.0
    skip: bool = False
    workers: Workers = field(default_factory=Workers)
    layers: str | Sequence[int] | None = None

    def __post_init__(self):
        if isinstance(self.layers, str) and self.layers != "all":
            raise CacheError(f"layers: expected all or indices, found {self.layers!r}")
        if self.storage not in STORAGES:
            raise CacheError(
                f"storage: expected {', '.join(STORAGES)}, found {self.storage!r}"
            )
        for name in ("shard_seconds", "batch_seconds"):
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
    if conf.layers is not None:
        layer: Layer = "weighted_sum" if conf.layers == "all" else conf.layers
        frontends = [_with_layer(frontend, layer) for frontend in frontends]
    sources = [_Source.load(frontend) for frontend in frontends]
    check_sample_rates(
        [s.whole.upstream for s in sources], [s.whole.fs for s in sources]
    )
    members = [
        [source.members(cache_dir, data, conf) for source in sources]
        for data in data_sets
    ]
    # All are checked before the first is extracted, which may take days.
    todo = []
    for data, of_set in zip(data_sets, members, strict=True):
        for source, of_source in zip(sources, of_set, strict=True):
            missing = [m for m in of_source if not _is_there(m, data, conf)]
            if missing:
                todo.append(_Task(missing, source.whole, source.frontend, data))
    # Jobs wait in a queue: once for all.
    for tasks in [todo] if conf.workers.are_jobs else [[task] for task in todo]:
        _extract_members(tasks, conf)
    names = [f"{source.whole.tag}-{conf.storage}" for source in sources]
    return [
        _combine(cache_dir, names, [m for found in of_set for m in found], data)
        for of_set, data in zip(members, data_sets, strict=True)
    ]


def _with_layer(frontend: FrontendConf, layer: Layer) -> FrontendConf:
    """The frontend of one upstream with other layers of it."""
    (upstream,) = frontend.upstreams
    return replace(frontend, upstreams=(replace(upstream, layer=layer),))


@dataclass(frozen=True)
class _Source:
    """An upstream whose features are wanted.

    Attributes:
        frontend: A frontend with it alone.
        whole: What the features of all its layers are, side by side.
        parts: What those of each layer are.
    """

    frontend: FrontendConf
    whole: FeatureIdentity
    parts: list[FeatureIdentity]

    @classmethod
    def load(cls, frontend: FrontendConf) -> "_Source":
        """Load the upstream to see.

        Raises:
            EnsembleError: As :meth:`FeatureIdentity.load`.
        """
        whole, parts = FeatureIdentity.load(frontend)
        return cls(frontend, whole, parts)

    def members(
        self, cache_dir: Path, data: DataSet, conf: ExtractConf
    ) -> list[Member]:
        """Where its features are, or will be: in one member, or in one for each layer."""
        whole, *parts = (
            Member.of(cache_dir, MemberInfo(features, conf.storage), data)
            for features in (self.whole, *self.parts)
        )
        if conf.layers is not None:
            return parts
        is_made_of_parts = all((part.folder / INFO).exists() for part in parts)
        return parts if is_made_of_parts and len(parts) > 1 else [whole]


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


def _combine(
    cache_dir: Path, names: Sequence[str], members: Sequence[Member], data: DataSet
) -> Path:
    # Who writes the same combination has the same first member.
    with members[0].lock():
        return write_combination(cache_dir, members, data.data_dir, names)


@dataclass(frozen=True)
class _Task:
    """Members to be made: one, or those of several layers of one upstream.

    Attributes:
        members: They.
        whole: What the features of all layers are, also of those that are there.
        frontend: A frontend with the upstream alone.
        data: The data set.
    """

    members: list[Member]
    whole: FeatureIdentity
    frontend: FrontendConf
    data: DataSet

    @property
    def name(self) -> str:
        more = f" and {len(self.members) - 1} layers" if len(self.members) > 1 else ""
        return f"{self.members[0].name}{more} {self.data.name}"

    def missing(self, conf: ExtractConf) -> "_Task | None":
        """Its members that are not complete, if there are any."""
        members = [m for m in self.members if not m.is_complete(self.data, conf.skip)]
        return replace(self, members=members) if members else None

    def plan(self, conf: ExtractConf) -> list[Shard]:
        seconds = min(
            conf.shard_seconds, MAX_SHARD_BYTES / self._bytes_per_second(conf)
        )
        folders = [member.shards for member in self.members]
        return plan_shards(folders, self.data, self.frontend.fs, seconds)

    def shard_conf(self, conf: ExtractConf) -> ShardConf:
        layers = [x for m in self.members for x in m.info.features.layers]
        return ShardConf(
            _with_layer(self.frontend, layers),
            conf.storage,
            conf.batch_seconds,
            conf.skip,
        )

    def _bytes_per_second(self, conf: ExtractConf) -> float:
        # Of all layers, so that the plan stays when some of them are complete.
        num_bytes = STORAGES[conf.storage].dtype.itemsize * self.whole.feature_size
        return num_bytes * self.whole.fs / self.whole.hop_length


def _extract_members(tasks: list[_Task], conf: ExtractConf) -> None:
    with ExitStack() as stack:
        # In one order: two extractions never wait for each other.
        members = [member for task in tasks for member in task.members]
        for member in sorted(members, key=lambda member: member.folder):
            stack.enter_context(member.lock())
        # By now, another process may have made some.
        missing = [found for task in tasks if (found := task.missing(conf))]
        if missing:
            _make_members(missing, conf)


def _make_members(tasks: list[_Task], conf: ExtractConf) -> None:
    planned = [(task, task.plan(conf)) for task in tasks]
    log_dir = tasks[0].members[0].folder / "logdir"
    with ExitStack() as stack:
        todo = []
        for task, shards in planned:
            for member in task.members:
                damage = member.damage()
                if damage:
                    _log.warning("%s; this is mended now", damage)
                stack.enter_context(member.being_made(task.data.audio))
                # Jobs that an earlier run has submitted may be at work.
                if not conf.workers.are_jobs:
                    remove_unfinished(member.folder)
                    _remove_others(member, shards)
            audio = task.data.audio
            missing = [s for s in shards if not s.is_complete(conf.skip, audio)]
            todo.append(Work(task.shard_conf(conf), missing))
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
            _remove_all_others(planned)
            raise
        _remove_all_others(planned)


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


def _remove_all_others(planned: list[tuple[_Task, list[Shard]]]) -> None:
    for task, shards in planned:
        for member in task.members:
            _remove_others(member, shards)


def _remove_others(member: Member, shards: list[Shard]) -> None:
    """Remove what a worker that was killed left, or a run that had other options."""
    planned = {path for shard in shards for path in shard.archives}
    for path in sorted(member.shards.rglob("*"), reverse=True):
        if path.is_dir():
            with suppress(OSError):  # it is not empty
                path.rmdir()
        elif path not in planned:
            path.unlink()
