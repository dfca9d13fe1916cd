"""Rows of tables that need not fit into memory: sorted, joined, merged, a row at a time.

What is read more than once is a :class:`Stream`, which begins anew each time; what is not in
order goes through :class:`SortedRows`.
"""

import heapq
import pickle
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

Row = tuple[str, str]
T = TypeVar("T")
U = TypeVar("U")

# Rows held in memory by one SortedRows: some 10 to 30 MB.
_IN_MEMORY = 50_000
# Rows that are read from a file at a time.
_AT_ONCE = 500
# Files that are open at once: more are first merged into one.
_MAX_FILES = 200


class Stream(Generic[T]):
    """Something that is made anew each time it is read.

    Args:
        make: Makes an iterator.
        *args: Its arguments.

    Example:
        >>> squares = Stream(lambda n: (i * i for i in range(n)), 3)
        >>> list(squares), list(squares)
        ([0, 1, 4], [0, 1, 4])
    """

    def __init__(self, make: Callable[..., Iterator[T]], *args: Any):
        self._make = partial(make, *args)

    def __iter__(self) -> Iterator[T]:
        return self._make()


class SortedRows(Generic[T]):
    """Sorted rows: an external merge sort, in memory as long as they are few.

    They may be read any number of times, and are removed with the object. What comes in
    order is written one after the other, and read again without a merge. Files are in
    Python's folder for temporary ones (``TMPDIR``).

    Args:
        rows: What to sort: strings, or tuples of strings and numbers.
        in_memory: How many are held in memory at most; None: so many as take some 20 MB.

    Example:
        >>> rows = SortedRows(["b", "c", "a", "d"], in_memory=2)
        >>> list(rows), len(rows)
        (['a', 'b', 'c', 'd'], 4)
    """

    def __init__(self, rows: Iterable[T], in_memory: int | None = None):
        self._size = 0
        self._runs: list[Path] = []
        self._last: Any = None
        self._rest: list[Any] = []
        source = iter(rows)
        while chunk := sorted(islice(source, in_memory or _IN_MEMORY)):  # type: ignore[type-var]
            if self._rest:
                self._spill()
            self._rest = chunk
            self._size += len(chunk)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        # A generator holds the object, and thereby its files, as long as it is read.
        if len(self._runs) == 1 and self._last <= self._rest[0]:
            yield from _read(self._runs[0])
            yield from self._rest
        elif self._runs:
            yield from heapq.merge(*map(_read, self._runs), self._rest)
        else:
            yield from self._rest

    def _spill(self) -> None:
        """Move what is in memory to a file."""
        if not self._runs:
            self._folder = tempfile.mkdtemp(prefix="espnet_ensemble_sort_")
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        if len(self._runs) == _MAX_FILES:
            merged = self._new_file()
            _append(merged, heapq.merge(*map(_read, self._runs)))
            for run in self._runs:
                run.unlink()
            self._runs = [merged]
            self._last = None
        if self._last is None or self._rest[0] < self._last:
            self._runs.append(self._new_file())
        _append(self._runs[-1], self._rest)
        self._last = self._rest[-1]

    def _new_file(self) -> Path:
        handle = tempfile.NamedTemporaryFile(dir=self._folder, delete=False)
        handle.close()
        return Path(handle.name)


def _append(path: Path, rows: Iterable[Any]) -> None:
    source = iter(rows)
    with open(path, "ab") as file:
        while part := list(islice(source, _AT_ONCE)):
            pickle.dump(part, file)


def _read(path: Path) -> Iterator[Any]:
    with open(path, "rb") as file:
        while file.peek(1):
            yield from pickle.load(file)


def unique(keys: Iterable[T]) -> Iterator[T]:
    """Leave out what is as the one before.

    Example:
        >>> list(unique(["a", "a", "b"]))
        ['a', 'b']
    """
    return (key for key, _ in groupby(keys))


def itself(keys: Iterable[str]) -> Iterator[Row]:
    """Rows whose value is their key.

    Example:
        >>> list(itself(["a", "b"]))
        [('a', 'a'), ('b', 'b')]
    """
    return ((key, key) for key in keys)


def keys_of(rows: Iterable[Row]) -> Iterator[str]:
    """The keys of rows."""
    return map(itemgetter(0), rows)


def match(
    left: Iterable[tuple[str, T]], right: Iterable[tuple[str, U]]
) -> Iterator[tuple[str, T, U]]:
    """Put the values of the same key side by side.

    Args:
        left: Sorted by key, each once.
        right: Likewise; some keys may be on one side only.

    Example:
        >>> list(match([("a", 1), ("b", 2)], [("b", 3), ("c", 4)]))
        [('b', 2, 3)]
    """
    others = iter(right)
    other = next(others, None)
    for key, value in left:
        while other is not None and other[0] < key:
            other = next(others, None)
        if other is None:
            return
        if other[0] == key:
            yield key, value, other[1]


def join(rows: Iterable[Row], keys: Iterable[str]) -> Iterator[Row]:
    """Keep the rows whose key is asked for.

    Args:
        rows: Sorted by key.
        keys: Sorted; some may be of no row, or come twice.

    Example:
        >>> list(join([("a", "1"), ("b", "2"), ("d", "4")], ["b", "b", "c", "d"]))
        [('b', '2'), ('d', '4')]
    """
    wanted = iter(keys)
    key = next(wanted, None)
    for row in rows:
        while key is not None and key < row[0]:
            key = next(wanted, None)
        if key is None:
            return
        if key == row[0]:
            yield row


def without(rows: Iterable[Row], keys: Iterable[str]) -> Iterator[Row]:
    """Keep the rows whose key is not there.

    Args:
        rows: Sorted by key; keys may come twice.
        keys: Sorted.

    Example:
        >>> list(without([("a", "1"), ("b", "2"), ("b", "3"), ("d", "4")], ["b", "c"]))
        [('a', '1'), ('d', '4')]
    """
    there = iter(keys)
    key = next(there, None)
    for row in rows:
        while key is not None and key < row[0]:
            key = next(there, None)
        if key != row[0]:
            yield row


def group_values(rows: Iterable[Row]) -> Iterator[tuple[str, list[str]]]:
    """Take the values of one key together.

    Args:
        rows: Sorted by key.

    Example:
        >>> list(group_values([("alice", "a1"), ("alice", "a2"), ("bob", "b1")]))
        [('alice', ['a1', 'a2']), ('bob', ['b1'])]
    """
    for key, group in groupby(rows, itemgetter(0)):
        yield key, [value for _, value in group]
