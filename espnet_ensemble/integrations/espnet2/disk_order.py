"""Batches in the order of the disk: ESPnet's ``iterator_type: task``, for cached features.

An archive of the cache has the features of some hundred utterances. Batches of all of a corpus need
a random read for each utterance; batches of a *window* of archives need these archives alone, and
the system reads them as a whole, ahead of their use, into the memory that is free. The archives of
a window are drawn at random, once for all of the training, as ESPnet's batches are; each epoch has
the windows, and the batches of each, in another order.
"""

import argparse
import logging
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.samplers.abs_sampler import AbsSampler
from espnet2.samplers.build_batch_sampler import build_batch_sampler

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.dataset import FeatureCache

#: Archives of each member that batches are drawn from at a time.
WINDOW = 16

Batch = Sequence[str]

_log = logging.getLogger(__name__)


def build_iter_factory(
    task: Any, args: argparse.Namespace, iter_options: Any, mode: str
) -> AbsIterFactory:
    """Build what gives ESPnet's trainer its batches, as ``build_sequence_iter_factory`` does.

    Args:
        task: ESPnet's task, a class.
        args: Its options.
        iter_options: ESPnet's options of the iterator.
        mode: "train", "valid" or "plot_att".

    Raises:
        CacheError: If the data are not from the feature cache, or an option needs batches
            of all of the corpus.
    """
    cache = FeatureCache(_find_cache(iter_options))
    if args.shuffle_within_batch:
        raise CacheError(
            "iterator_type: task draws batches from archives that lie together; expected "
            "shuffle_within_batch: false, found true"
        )
    windows = _build_windows(args, iter_options, cache)
    if iter_options.distributed:
        windows = [_of_rank(batches) for batches in windows]
    utt_ids = set(chain.from_iterable(chain.from_iterable(windows)))
    sizes = [len(batch) for batches in windows for batch in batches]
    _log.info(
        "[%s] %d batches of %d to %d utterances, from %d windows of %d archives",
        *(mode, len(sizes), min(sizes), max(sizes), len(windows), WINDOW),
    )
    return SequenceIterFactory(
        dataset=task.build_dataset(args, iter_options, utt_ids),
        batches=WindowSampler(windows, iter_options.train, cache.archive_paths),
        seed=args.seed,
        num_iters_per_epoch=iter_options.num_iters_per_epoch,
        shuffle=False,  # the sampler does it
        num_workers=args.num_workers,
        collate_fn=iter_options.collate_fn,
        pin_memory=args.ngpu > 0,
    )


class WindowSampler(AbsSampler):
    """Batches of an epoch: those of a window, in any order, then those of another one.

    Args:
        windows: The batches of each window.
        shuffle: Whether to have another order in each epoch.
        find_files: Which files utterances are in.

    Attributes:
        windows: As they were given.
    """

    def __init__(
        self,
        windows: Sequence[Sequence[Batch]],
        shuffle: bool,
        find_files: Callable[[Sequence[str]], list[Path]],
    ):
        self.windows = windows
        self._shuffle = shuffle
        self._find_files = find_files

    def __len__(self) -> int:
        return sum(map(len, self.windows))

    def __iter__(self) -> Iterator[Batch]:
        return chain.from_iterable(self.windows)

    def generate(self, seed: int) -> list[Batch]:
        """Put the batches in the order of an epoch, ``seed``."""
        rng, order = np.random.RandomState(seed), np.arange(len(self.windows))
        batches = _ReadAhead(self._find_files)
        if self._shuffle:
            rng.shuffle(order)
        for number in order.tolist():
            window = list(self.windows[number])
            if self._shuffle:
                window = [window[i] for i in rng.permutation(len(window))]
            batches.add(window)
        return batches


class _ReadAhead(list):
    """Batches; while those of a window are read, the files of the next one are, too.

    ESPnet hands it to PyTorch's loader as it is, or, with ``num_iters_per_epoch``, a plain
    list of a part of it, for which nothing is read ahead.
    """

    def __init__(self, find_files: Callable[[Sequence[str]], list[Path]]):
        super().__init__()
        self._find_files = find_files
        self._ends = [0]

    def add(self, window: list[Batch]) -> None:
        self.extend(window)
        self._ends.append(len(self))

    def __iter__(self) -> Iterator[Batch]:
        windows = [self[start:end] for start, end in pairwise(self._ends)]
        ahead = iter(windows)
        self._read(next(ahead, None))
        for window in windows:
            self._read(next(ahead, None))
            yield from window

    def _read(self, window: list[Batch] | None) -> None:
        if window is None:
            return
        utt_ids = sorted(chain.from_iterable(window))
        # In a thread: where the queue of the disk is full, it waits.
        args = (self._find_files(utt_ids),)
        threading.Thread(target=_advise, args=args, daemon=True).start()


def _advise(paths: list[Path]) -> None:
    """Have the system read files that will be needed soon."""
    for path in paths:
        with suppress(OSError):  # who reads it will say so
            file = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(file)


def _find_cache(iter_options: Any) -> str:
    for path, _, kind in iter_options.data_path_and_name_and_type:
        if kind == "feature_cache":
            return path
    raise CacheError(
        "iterator_type: task is for training from the feature cache, in the order of its "
        "archives; expected data of the type feature_cache, found "
        f"{iter_options.data_path_and_name_and_type}"
    )


def _build_windows(
    args: argparse.Namespace, iter_options: Any, cache: FeatureCache
) -> list[list[Batch]]:
    """Make batches as ESPnet does of shape files, of those of a window each."""
    first, *_ = iter_options.shape_files
    window_of = _choose_windows(sorted(read_table(first)), cache, args.seed)
    windows: list[list[Batch]] = []
    with TemporaryDirectory() as folder:
        for files in _split(iter_options.shape_files, window_of, Path(folder)):
            sampler = build_batch_sampler(
                type=iter_options.batch_type,
                shape_files=files,
                fold_lengths=args.fold_length,
                batch_size=iter_options.batch_size,
                batch_bins=iter_options.batch_bins,
                sort_in_batch=args.sort_in_batch,
                sort_batch=args.sort_batch,
                drop_last=args.drop_last_iter,
                min_batch_size=(
                    torch.distributed.get_world_size()
                    if iter_options.distributed
                    else args.min_batch_size
                ),
            )
            windows.append(list(sampler))
    if iter_options.num_batches is None:
        return windows
    return [list(chain.from_iterable(windows))[: iter_options.num_batches]]


def _choose_windows(
    utt_ids: list[str], cache: FeatureCache, seed: int
) -> dict[str, int]:
    """Deal archives to windows at random: utterance's id -> number of its window."""
    archives, numbers = np.unique(cache.archive_numbers(utt_ids), return_inverse=True)
    window_of_archive = np.random.RandomState(seed).permutation(len(archives)) // WINDOW
    return dict(zip(utt_ids, window_of_archive[numbers].tolist(), strict=True))


def _split(
    shape_files: Sequence[str], window_of: dict[str, int], folder: Path
) -> Iterator[list[str]]:
    """Write the parts of shape files that are of each window."""
    parts = []
    for path in shape_files:
        lines = defaultdict(list)
        for utt_id, shape in read_table(path).items():
            # ESPnet says what is wrong with files of different utterances.
            lines[window_of.get(utt_id, 0)].append(f"{utt_id} {shape}\n")
        parts.append(lines)
    for window in sorted(parts[0]):
        files = [folder / f"{window}.{number}" for number in range(len(parts))]
        for file, lines in zip(files, parts, strict=True):
            file.write_text("".join(lines[window]), encoding="utf-8")
        yield list(map(str, files))
        for file in files:
            file.unlink()


def _of_rank(batches: Sequence[Batch]) -> list[Batch]:
    """The part of each batch that this process of several trains on, as ESPnet divides them."""
    size, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    for batch in batches:
        if len(batch) < size:
            raise RuntimeError(
                f"The batch-size must be equal or more than world_size: {len(batch)} < "
                f"{size}"
            )
    return [batch[rank::size] for batch in batches]
