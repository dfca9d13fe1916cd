"""Extraction of the features of frozen upstreams."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

import espnet_ensemble
from espnet_ensemble.feature_cache.identity import Corpus
from espnet_ensemble.feature_cache.shard import ShardOptions
from espnet_ensemble.feature_cache.store import (
    DEFAULT_STORAGE,
    INFO,
    STORAGES,
    UNFINISHED_INFO,
    CacheError,
    MemberInfo,
    Shard,
    exclusive,
    finish,
    is_finished,
    plan_shards,
    write_combination,
)
from espnet_ensemble.feature_cache.workers import Workers
from espnet_ensemble.files import PathLike
from espnet_ensemble.frontend_conf import FrontendConf


@dataclass(frozen=True)
class ExtractConf:
    """How features are extracted.

    Attributes:
        storage: Type to store them in, one of
            :data:`espnet_ensemble.feature_cache.store.STORAGES`.
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
    workers: Workers = Workers()

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
    frontend_conf: dict[str, Any],
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
        frontend_conf: Arguments of :class:`espnet_ensemble.integrations.espnet2.frontend.EnsembleFrontend`.
        cache_dir: The cache.
        conf: How to do it.

    Returns:
        The ``members.yaml`` that ``FeatureCache`` in
        :mod:`espnet_ensemble.feature_cache.dataset` reads.

    Raises:
        CacheError: If a member is of other audio or options than asked for, or cannot
            be written; also if audio cannot be read, then it names utterance and file.
            Archives that are complete are kept.
        DataError: If ``data_dir`` is not valid.
        ValueError: If ``frontend_conf`` is wrong.
    """
    cache_dir, corpus = Path(cache_dir), Corpus.read(data_dir)
    confs = member_confs(frontend_conf)
    infos = [describe(member_conf, conf.storage) for member_conf in confs]
    _check_sample_rates(infos)
    folders = [cache_dir / info.folder_name / corpus.name for info in infos]
    # All are checked before the first is extracted, which may take days.
    todo = []
    for member_conf, info, folder in zip(confs, infos, folders):
        if folder.exists():
            with exclusive(folder):
                if _check_member(folder, info, corpus, conf):
                    continue
        todo.append((member_conf, info, folder))
    for member_conf, info, folder in todo:
        with exclusive(folder):
            # By now, another process may have made it.
            if not _check_member(folder, info, corpus, conf):
                _extract_member(folder, member_conf, info, corpus, conf)
    return write_combination(cache_dir, corpus.name, folders)


def member_confs(frontend_conf: dict[str, Any]) -> list[dict[str, Any]]:
    """The arguments of a frontend for each upstream alone."""
    conf = FrontendConf.parse(frontend_conf)
    if not conf.frozen:
        raise CacheError(
            "frontend_conf: frozen: expected true, found false: features of upstreams "
            "that train change with every step"
        )
    return [member.to_dict() for member in conf.members()]


def describe(member_conf: dict[str, Any], storage: str) -> MemberInfo:
    """Load an upstream to see what it is."""
    conf = FrontendConf.parse(member_conf)
    frontend = conf.build()
    (upstream,), (conf,) = frontend.upstreams, conf.upstreams
    return MemberInfo(
        upstream=upstream.name,
        layer=conf.layer,
        layers=list(upstream.layers),
        extra_conf=conf.extra_conf,
        fingerprint=upstream.fingerprint.hex(),
        feature_size=sum(frontend.feature_sizes[0]),
        fs=upstream.fs,
        hop_length=upstream.hop_length,
        speech_fs=frontend.fs,
        dtype=member_conf.get("dtype", "float32"),
        storage=storage,
        creator=f"espnet_ensemble {espnet_ensemble.__version__}",
    )


def _check_sample_rates(infos: list[MemberInfo]) -> None:
    if len({info.fs for info in infos}) > 1:
        rates = ", ".join(f"{info.upstream} {info.fs} Hz" for info in infos)
        raise ValueError(f"upstreams expect different sample rates: {rates}")


def _check_member(
    folder: Path, info: MemberInfo, corpus: Corpus, conf: ExtractConf
) -> bool:
    """Whether there is nothing to do; raises CacheError if there is something else."""
    for name in (INFO, UNFINISHED_INFO):
        if (folder / name).exists():
            info.check(folder / name)
    return is_finished(folder, corpus, conf.skip)


def _extract_member(
    folder: Path,
    member_conf: dict[str, Any],
    info: MemberInfo,
    corpus: Corpus,
    conf: ExtractConf,
) -> None:
    (folder / "shards").mkdir(exist_ok=True)
    info.write(folder / UNFINISHED_INFO)
    (folder / INFO).unlink(missing_ok=True)
    shards = plan_shards(folder, corpus, info.speech_fs, conf.shard_utts)
    _remove_others(folder / "shards", shards)
    todo = [shard for shard in shards if not shard.is_complete(conf.skip)]
    options = ShardOptions(member_conf, info.storage, conf.batch_seconds, conf.skip)
    total, missing = (sum(s.seconds for s in part) for part in (shards, todo))
    with tqdm(
        total=total,
        initial=total - missing,
        desc=info.folder_name,
        unit=" s",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of speech "
        "[{elapsed}<{remaining}, {rate_noinv_fmt}]",
        disable=None,
    ) as progress:
        conf.workers.make(todo, options, progress.update)
    _remove_others(folder / "shards", shards)
    finish(folder, shards)


def _remove_others(folder: Path, shards: list[Shard]) -> None:
    """Remove what a worker that was killed left, or a run that had other options."""
    planned = {p.name for s in shards for p in (s.ark, s.index, s.skipped)}
    for path in folder.iterdir():
        if path.name not in planned:
            path.unlink()
