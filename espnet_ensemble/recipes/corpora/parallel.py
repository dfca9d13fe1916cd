"""Work on many audio files at a time, with a progress bar; all bad ones are reported."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from tqdm import tqdm

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.errors import EnsembleError

#: What is worked on.
Item = TypeVar("Item")
#: What comes of it.
Result = TypeVar("Result")

_NUM_SHOWN = 10


def map_threads(
    work: Callable[[Item], Result], items: Sequence[Item], nj: int, desc: str
) -> list[Result]:
    """Do something with each item in threads: for work that waits for a disk.

    Args:
        work: What to do. It may raise AudioError, and the others are done all the same.
        items: With what.
        nj: Number of threads.
        desc: Label of the progress bar.

    Returns:
        The results, in the order of the items.

    Raises:
        EnsembleError: If some raised AudioError. It names the first ones.
    """
    with ThreadPoolExecutor(nj) as pool:
        return _collect(pool.map(partial(_attempt, work), items), items, desc)


def map_processes(
    work: Callable[[Item], Result], items: Sequence[Item], nj: int, desc: str
) -> list[Result]:
    """Do the same as :func:`map_threads` in processes; with ``nj=1``, in this one.

    Args:
        work: A function of a module, or a partial one, and fit for pickling.
        items: Fit for pickling, too.
        nj: Number of processes.
        desc: Label of the progress bar.
    """
    attempt = partial(_attempt, work)
    if nj == 1:
        return _collect(map(attempt, items), items, desc)
    # Not fork: a process that has started threads, as torch does, must not.
    with ProcessPoolExecutor(nj, mp_context=get_context("spawn")) as pool:
        return _collect(pool.map(attempt, items, chunksize=8), items, desc)


def _attempt(work: Callable[[Item], Result], item: Item) -> Result | AudioError:
    try:
        return work(item)
    except AudioError as error:
        return error


def _collect(
    results: Iterable[Result | AudioError], items: Sequence[Item], desc: str
) -> list[Result]:
    done, problems = [], []
    for result in tqdm(results, desc=desc, total=len(items), unit="utt", mininterval=1):
        if isinstance(result, AudioError):
            problems.append(str(result))
        else:
            done.append(result)
    if problems:
        raise EnsembleError(
            f"{len(problems)} of {len(items)} recordings cannot be used:"
            f"{list_first(problems)}"
        )
    return done


def list_first(problems: Sequence[str]) -> str:
    """The lines of a message that name the first problems, and how many more there are."""
    lines = list(problems[:_NUM_SHOWN])
    if len(problems) > _NUM_SHOWN:
        lines.append(f"and {len(problems) - _NUM_SHOWN} more")
    return "".join(f"\n    {line}" for line in lines)
