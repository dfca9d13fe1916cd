"""Extraction of the features of frozen upstreams."""

import inspect
import multiprocessing
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

import espnet_ensemble
from espnet_ensemble.data.sound import AudioError
from espnet_ensemble.data.tables import PathLike, write_table
from espnet_ensemble.feature_cache.audio import Audio, Corpus, read_utterance
from espnet_ensemble.feature_cache.store import (
    INFO,
    STORAGE,
    UNFINISHED_INFO,
    CacheError,
    Entry,
    MemberInfo,
    Shard,
    append_feats,
    check_corpus,
    finish,
    plan_shards,
    write_combination,
)
from espnet_ensemble.frontend import EnsembleFrontend
from espnet_ensemble.upstream import UpstreamConf


@dataclass(frozen=True)
class ExtractConf:
    """How features are extracted.

    Attributes:
        nj: Number of processes, of one thread each.
        shard_utts: Utterances per archive: what a killed run may lose, per process.
        batch_seconds: Seconds of speech, with padding, that the upstream gets at once,
            unless an utterance is longer.

    Raises:
        CacheError: If one of them is wrong.
    """

    nj: int = 1
    shard_utts: int = 200
    batch_seconds: float = 60.0

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not value > 0:
                raise CacheError(f"{name}: expected a number above 0, found {value}")


def extract(
    data_dir: PathLike,
    frontend_conf: Dict[str, Any],
    cache_dir: PathLike,
    conf: ExtractConf = ExtractConf(),
) -> Path:
    """Write the features that each upstream of a frontend gives for a data set.

    Each upstream (with its ``layer``) has its own folder in the cache, a *member*, which
    all frontends with this upstream share. A member that is complete is checked, for the
    weights, the options and the audio it was made of, and not made again. One that is
    not, as its extraction was killed, is continued at the first missing archive.

    Args:
        data_dir: A data directory such as ``dump/raw/train``, with one audio file per
            utterance and ``utt2num_samples``.
        frontend_conf: Arguments of :class:`espnet_ensemble.frontend.EnsembleFrontend`.
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
    confs = _member_confs(frontend_conf)
    infos = [_describe(member_conf) for member_conf in confs]
    _check_sample_rates(infos)
    folders = [cache_dir / info.folder_name / corpus.name for info in infos]
    # All are checked before the first is extracted, which may take days.
    for info, folder in zip(infos, folders):
        _check_member(folder, info, corpus)
    for member_conf, info, folder in zip(confs, infos, folders):
        if not (folder / INFO).exists():
            _extract_member(folder, member_conf, info, corpus, conf)
    return write_combination(cache_dir, corpus.name, folders)


def _member_confs(frontend_conf: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The arguments of a frontend for each upstream alone."""
    known = inspect.signature(EnsembleFrontend).parameters
    for key in frontend_conf:
        if key not in known:
            raise ValueError(
                f"frontend_conf: unknown key {key!r}; expected {', '.join(known)}"
            )
    if not frontend_conf.get("frozen", True):
        raise ValueError(
            "frontend_conf: frozen: expected true, found false: features of upstreams "
            "that train change with every step"
        )
    upstreams = frontend_conf.get("upstreams")
    if not isinstance(upstreams, list) or not upstreams:
        raise ValueError(
            f"frontend_conf: upstreams: expected a list of at least one, got {upstreams!r}"
        )
    shared = {
        key: value
        for key, value in frontend_conf.items()
        if key not in ("upstreams", "fusion", "fusion_conf")
    }
    return [dict(shared, upstreams=[entry]) for entry in upstreams]


def _describe(member_conf: Dict[str, Any]) -> MemberInfo:
    """Load an upstream to see what it is."""
    frontend = EnsembleFrontend(**member_conf)
    (upstream,) = frontend._frozen_upstreams
    conf = UpstreamConf.parse(member_conf["upstreams"][0])
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
        storage=STORAGE,
        creator=f"espnet_ensemble {espnet_ensemble.__version__}",
    )


def _check_sample_rates(infos: List[MemberInfo]) -> None:
    if len({info.fs for info in infos}) > 1:
        rates = ", ".join(f"{info.upstream} {info.fs} Hz" for info in infos)
        raise ValueError(f"upstreams expect different sample rates: {rates}")


def _check_member(folder: Path, info: MemberInfo, corpus: Corpus) -> None:
    if (folder / INFO).exists():
        info.check(folder / INFO)
        check_corpus(folder, corpus)
    elif (folder / UNFINISHED_INFO).exists():
        info.check(folder / UNFINISHED_INFO)


def _extract_member(
    folder: Path,
    member_conf: Dict[str, Any],
    info: MemberInfo,
    corpus: Corpus,
    conf: ExtractConf,
) -> None:
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    info.write(folder / UNFINISHED_INFO)
    shards = plan_shards(folder, corpus, conf.shard_utts)
    _remove_others(folder / "shards", shards)
    todo = [shard for shard in shards if not shard.is_complete()]
    total, missing = _seconds(shards, info), _seconds(todo, info)
    with tqdm(
        total=total,
        initial=total - missing,
        desc=info.folder_name,
        unit=" s",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of speech "
        "[{elapsed}<{remaining}, {rate_noinv_fmt}]",
        disable=None,
    ) as progress:
        _extract_shards(todo, (member_conf, conf.batch_seconds), conf.nj, progress)
    finish(folder, shards)


def _remove_others(folder: Path, shards: List[Shard]) -> None:
    """Remove archives of a run that was killed and had other options."""
    planned = {path.name for shard in shards for path in (shard.ark, shard.index)}
    for path in folder.iterdir():
        if path.name not in planned:
            path.unlink()


def _seconds(shards: List[Shard], info: MemberInfo) -> float:
    return sum(sum(shard.num_samples.values()) for shard in shards) / info.speech_fs


def _extract_shards(todo: List[Shard], options: Tuple, nj: int, progress: tqdm) -> None:
    if not todo:
        return
    if nj == 1:
        with _one_thread():
            extractor = _Extractor(*options, report=progress.update)
            for shard in todo:
                extractor(shard)
        return
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    seconds, start = context.Value("d", 0.0), progress.n
    pool = ProcessPoolExecutor(
        min(nj, len(todo)), context, _start_worker, (*options, seconds)
    )
    pending = {pool.submit(_extract_in_worker, shard) for shard in todo}
    try:
        while pending:
            done, pending = wait(pending, timeout=1, return_when=FIRST_EXCEPTION)
            progress.update(start + seconds.value - progress.n)
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise CacheError(
            "a process of the extraction was killed, maybe as there was no memory left; "
            "a smaller --nj or --batch_seconds takes less"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: Optional["_Extractor"] = None


def _start_worker(member_conf, batch_seconds, seconds) -> None:
    global _worker
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(1)

    def report(more: float) -> None:
        with seconds.get_lock():
            seconds.value += more

    _worker = _Extractor(member_conf, batch_seconds, report)


def _extract_in_worker(shard: Shard) -> None:
    _worker(shard)


def _exit_with_parent() -> None:
    """A parent that is killed tells nobody: without this, its processes stay forever."""
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    # Sums depend on the number of threads, and features are to be the same to the bit
    # whatever --nj is.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


class _Extractor:
    """Makes archives.

    Args:
        member_conf: Arguments of a frontend with one upstream.
        batch_seconds: See :class:`ExtractConf`.
        report: Told the seconds of speech of each batch that is done.
    """

    def __init__(
        self,
        member_conf: Dict[str, Any],
        batch_seconds: float,
        report: Callable[[float], Any],
    ):
        self._frontend = EnsembleFrontend(**member_conf)
        self._batch_samples = batch_seconds * self._frontend.fs
        self._report = report

    def __call__(self, shard: Shard) -> None:
        """Make an archive and its index."""
        part, entries = Path(f"{shard.ark}.tmp"), {}
        try:
            with part.open("wb") as ark:
                for batch in self._batches(shard.num_samples):
                    for utterance, feats, audio in self._extract(batch, shard):
                        offset = append_feats(ark, utterance, feats)
                        entries[utterance] = Entry(offset, len(feats), audio)
            os.replace(part, shard.ark)
            write_table(shard.index, {key: str(e) for key, e in entries.items()})
        except OSError as error:
            raise CacheError(f"{shard.ark}: {error.strerror}") from error

    def _batches(self, num_samples: Dict[str, int]) -> List[List[str]]:
        """Group utterances of similar length, the longest first."""
        batches: List[List[str]] = []
        for utterance in sorted(num_samples, key=lambda key: (-num_samples[key], key)):
            longest = num_samples[batches[-1][0]] if batches else 0
            if batches and longest * (len(batches[-1]) + 1) <= self._batch_samples:
                batches[-1].append(utterance)
            else:
                batches.append([utterance])
        return batches

    def _extract(
        self, batch: List[str], shard: Shard
    ) -> Iterator[Tuple[str, np.ndarray, Audio]]:
        wavs, audios = zip(*(self._read(utterance, shard) for utterance in batch))
        lengths = torch.tensor([len(wav) for wav in wavs])
        hidden_states, num_frames = self._frontend.extract(
            pad_sequence(wavs, batch_first=True), lengths
        )
        feats = torch.cat(hidden_states[0], dim=2)
        for utterance, x, n, audio in zip(batch, feats, num_frames.tolist(), audios):
            if not x[:n].isfinite().all():
                raise CacheError(
                    f"{utterance}: {shard.paths[utterance]}: expected finite features, "
                    "found NaN or infinity"
                )
            yield utterance, x[:n].numpy(), audio
        self._report(int(lengths.sum()) / self._frontend.fs)

    def _read(self, utterance: str, shard: Shard) -> Tuple[torch.Tensor, Audio]:
        path, num_samples = shard.paths[utterance], shard.num_samples[utterance]
        try:
            samples, rate, audio = read_utterance(path)
        except AudioError as error:
            raise CacheError(f"{utterance}: {path}: {error}") from error
        if (rate, len(samples)) != (self._frontend.fs, num_samples):
            raise CacheError(
                f"{utterance}: {path}: expected {num_samples} samples (utt2num_samples) "
                f"at {self._frontend.fs} Hz (fs of frontend_conf), found {len(samples)} "
                f"at {rate} Hz"
            )
        return torch.from_numpy(samples), audio
