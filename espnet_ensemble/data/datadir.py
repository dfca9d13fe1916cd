"""Kaldi-style data directories: check, repair, combine and divide them.

All but :func:`validate` read tables a line at a time, so that memory does not grow with the
number of utterances: files that are in order are merged; what is not (or where speakers or
recordings are in another order than utterances) is sorted on disk first.
"""

import filecmp
import heapq
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain, groupby, islice, pairwise, zip_longest
from operator import itemgetter
from pathlib import Path

from espnet_ensemble.data.streams import (
    Row,
    SortedRows,
    Stream,
    group_values,
    itself,
    join,
    keys_of,
    unique,
    without,
)
from espnet_ensemble.data.tables import (
    KEYED_BY,
    MAY_BE_EMPTY,
    DataError,
    Segment,
    Tables,
    read_rows,
    stream_table,
    write_rows,
)
from espnet_ensemble.errors import name_keys
from espnet_ensemble.files import PathLike, atomic_write, write_text

#: A data directory's files, by name, as rows in order, which may be read any number of times.
Streams = dict[str, Iterable[Row]]

#: Files of one line about the whole set.
CONSTANTS = ("audio_format", "feats_dim", "feats_type")
# Who makes a file, for the message that it is missing.
_MADE_BY = {"utt2num_samples": "; format_wav_scp makes it"}


def validate(
    data_dir: PathLike, need_text: bool = True, required: Collection[str] = ()
) -> Tables:
    """Check a data directory as :func:`check` does, and read all of it into memory.

    Returns:
        Its files, by name, without ``spk2utt``, which ``utt2spk`` implies.

    Raises:
        DataError: As :func:`check`.
    """
    check(data_dir, need_text, required)
    return {name: dict(rows) for name, rows in read_streams(data_dir).items()}


def check(
    data_dir: PathLike, need_text: bool = True, required: Collection[str] = ()
) -> int:
    """Check that the files of a data directory are sorted and agree.

    Args:
        data_dir: The directory.
        need_text: Whether it must have a ``text``.
        required: Names of other files that it must have; ``utt2spk``, ``spk2utt`` and
            one of ``wav.scp`` and ``feats.scp`` are among them anyway.

    Returns:
        The number of utterances.

    Raises:
        DataError: At the first thing that is wrong. It names file, line and utterance.
    """
    data_dir = Path(data_dir)
    tables = read_streams(data_dir)
    audio = [] if "feats.scp" in tables else ["wav.scp"]
    for name in ["utt2spk", *["text"] * need_text, *audio, *required]:
        if name not in tables:
            raise DataError(
                f"{data_dir / name}: expected this file, found none"
                + _MADE_BY.get(name, "")
            )
    utt_ids = SortedRows(keys_of(tables["utt2spk"]))
    if not utt_ids:
        raise DataError(f"{data_dir / 'utt2spk'}: expected utterances, found none")
    spk2utt = SortedRows((spk, utt_id) for utt_id, spk in tables["utt2spk"])
    there: dict[str, tuple[str, Iterable[str]]] = {
        "utterance": ("utt2spk", utt_ids),
        "recording": ("utt2spk", utt_ids),
        "speaker": ("utt2spk", Stream(lambda: unique(keys_of(spk2utt)))),
    }
    if segments := tables.pop("segments", None):
        _check_same(data_dir / "segments", segments, "utterance", "utt2spk", utt_ids)
        recordings = SortedRows(Segment.parse(value).recording for _, value in segments)
        there["recording"] = "segments", Stream(unique, recordings)
    for name, rows in tables.items():
        if name != "utt2spk":
            kind = KEYED_BY[name]
            _check_same(data_dir / name, rows, kind, *there[kind])
    _check_spk2utt(data_dir / "spk2utt", there["speaker"][1], spk2utt)
    return len(utt_ids)


def read_streams(data_dir: PathLike) -> Streams:
    """Find the files of a data directory, each to be read a line at a time.

    Reading one raises :exc:`~espnet_ensemble.data.tables.DataError` where a value is wrong or lines are not sorted; that
    the files agree is for :func:`check` to see.

    Raises:
        DataError: If there is no such directory.
    """
    return {path.name: Stream(_read, path) for path in _tables(data_dir)}


def fix(data_dir: PathLike) -> dict[str, list[str]]:
    """Repair a data directory: sort its files, and keep the utterances that all have.

    Lines that appear twice are merged, ``spk2utt`` is made anew. Of each file that
    changes, ``.backup`` in the directory gets what it was.

    Returns:
        For each utterance that was dropped, the files that lack it (or have no value).

    Raises:
        DataError: If a key has two different values or a malformed one, a line is no
            UTF-8, there is neither ``utt2spk`` nor ``spk2utt``, or neither ``wav.scp`` nor
            ``feats.scp``, or no utterance is in all files. The directory is then as it
            was.
    """
    data_dir = Path(data_dir)
    tables: Streams = {path.name: _repair(path) for path in _tables(data_dir)}
    if "utt2spk" not in tables:
        tables["utt2spk"] = _utt2spk(data_dir / "spk2utt")
    if not {"wav.scp", "feats.scp"}.intersection(tables):
        raise DataError(f"{data_dir}: expected wav.scp or feats.scp, found neither")
    dropped: dict[str, list[str]] = {}
    kept = SortedRows(_complete(tables, dropped))
    if not kept:
        counts = (f"{name} {sum(1 for _ in rows)}" for name, rows in tables.items())
        raise DataError(
            f"{data_dir}: no utterance is in all files ({', '.join(counts)})"
        )
    write(data_dir, select(tables, kept), backup=data_dir / ".backup")
    return dropped


def select(
    tables: Mapping[str, Iterable[Row]], utt_ids: Collection[str] | SortedRows[str]
) -> Streams:
    """Keep what belongs to some utterances, their recordings and their speakers.

    Args:
        tables: Of a data directory.
        utt_ids: The utterances, sorted.

    Example:
        >>> tables = {
        ...     "segments": [("a", "one 0 1"), ("b", "two 0 1")],
        ...     "utt2spk": [("a", "alice"), ("b", "bob")],
        ...     "spk2gender": [("alice", "f"), ("bob", "m")],
        ...     "wav.scp": [("one", "1.wav"), ("two", "2.wav")],
        ... }
        >>> kept = select(tables, ["b"])
        >>> list(kept["wav.scp"]), list(kept["spk2gender"])
        ([('two', '2.wav')], [('bob', 'm')])
    """
    kept: dict[str, Iterable[str]] = {"utterance": utt_ids, "recording": utt_ids}
    if "speaker" in map(KEYED_BY.__getitem__, tables):
        utt2spk = join(tables["utt2spk"], utt_ids)
        kept["speaker"] = SortedRows(spk for _, spk in utt2spk)
    if "segments" in tables:
        segments = join(tables["segments"], utt_ids)
        kept["recording"] = SortedRows(Segment.parse(v).recording for _, v in segments)
    return {
        name: Stream(join, rows, kept[KEYED_BY[name]]) for name, rows in tables.items()
    }


def segments_of(tables: Tables, utt_ids: Iterable[str]) -> dict[str, Segment]:
    """Look up which part of which recording each utterance is.

    Without ``segments``, each is a recording of the same name.

    Example:
        >>> tables = {"segments": {"a": "one 0 1.5", "b": "one 1.5 -1"}}
        >>> segments_of(tables, ["b"])
        {'b': Segment(recording='one', start=1.5, end=None)}
        >>> segments_of({}, ["a"])
        {'a': Segment(recording='a', start=0.0, end=None)}
    """
    if "segments" not in tables:
        return {utt_id: Segment(utt_id) for utt_id in utt_ids}
    return {utt_id: Segment.parse(tables["segments"][utt_id]) for utt_id in utt_ids}


def write(
    data_dir: PathLike,
    tables: Mapping[str, Iterable[Row] | Mapping[str, str]],
    backup: Path | None = None,
) -> None:
    """Write a data directory, with its ``spk2utt``: all files, or none.

    Files of another data directory that was in the same place are removed.

    Args:
        data_dir: The directory.
        tables: Its files: rows in order, or dictionaries in any.
        backup: A folder that gets what is replaced by something else; None: nothing does.
    """
    data_dir = Path(data_dir)
    rows = {name: _rows(table) for name, table in tables.items()}
    pairs = SortedRows((spk, utt_id) for utt_id, spk in rows["utt2spk"])
    rows["spk2utt"] = Stream(_joined, pairs)
    data_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # They get their names from the last to the first: what shows that a directory is
        # there comes last.
        parts = {
            name: stack.enter_context(atomic_write(data_dir / name))
            for name in [*reversed(KEYED_BY), "spk2utt"]
            if name in rows
        }
        for name, part in parts.items():
            write_rows(part, rows[name])
        for name in [*KEYED_BY, "spk2utt"]:
            path = data_dir / name
            if name not in rows:
                path.unlink(missing_ok=True)
            elif backup and path.exists() and not filecmp.cmp(path, parts[name], False):
                backup.mkdir(exist_ok=True)
                shutil.copy2(path, backup / name)


def combine(dest: PathLike, *sources: PathLike) -> list[str]:
    """Join data directories.

    Where only some have ``segments`` or ``utt2uniq``, the others get the trivial ones.

    Args:
        dest: Where to write the result.
        *sources: At least one data directory.

    Returns:
        Names of the files that only some of them have, which are left out.

    Raises:
        DataError: If a source is not valid, or two disagree: an utterance is in both, or
            a recording, a speaker or, say, ``feats_type`` differs.
    """
    if not sources:
        raise DataError(f"{dest}: expected at least one data directory to combine")
    check_other(dest, *sources)
    for source in sources:
        check(source, need_text=False)
    parts = list(map(read_streams, sources))
    for name, trivial in (("segments", _whole), ("utt2uniq", _unperturbed)):
        if any(name in tables for tables in parts):
            for tables in parts:
                tables.setdefault(name, Stream(trivial, tables["utt2spk"]))
    every, some = set(parts[0]).intersection(*parts), set().union(*parts)
    combined: Streams = {
        name: Stream(_merge, name, sources, [tables[name] for tables in parts])
        for name in KEYED_BY
        if name in every
    }
    for rows in combined.values():
        for _ in rows:  # before anything is written
            pass
    copy_constants(dest, *sources)
    write(dest, combined)
    return sorted(some - every)


def subset(
    src: PathLike,
    dest: PathLike,
    utt_ids: Iterable[str] | None = None,
    first: int | None = None,
    per_speaker: int | None = None,
) -> int:
    """Take a part of a data directory.

    Args:
        src: The whole.
        dest: Where to write the part.
        utt_ids: Ids of the utterances to take; or
        first: how many to take, from the beginning; or
        per_speaker: how many to take of each speaker, or all where there are fewer.

    Returns:
        The number of utterances of the part.

    Raises:
        DataError: If the whole is not valid, or lacks some of what is asked for.
    """
    check_other(dest, src)
    size = check(src, need_text=False)
    tables = read_streams(src)
    chosen = _choose(src, size, tables["utt2spk"], utt_ids, first, per_speaker)
    copy_constants(dest, src)
    write(dest, select(tables, chosen))
    return len(chosen)


def split(source: PathLike, dest: PathLike, n: int) -> list[Path]:
    """Divide a data directory, or one of its files, into consecutive parts.

    Args:
        source: A data directory, or a file such as ``wav.scp``.
        dest: The folder for the parts: ``1``, ``2``, ... of a directory, ``wav.1.scp``,
            ``wav.2.scp``, ... of a file.
        n: Number of parts. Their sizes differ by one at most.

    Returns:
        The parts.

    Raises:
        DataError: If the source is not valid, or has fewer than n utterances.
    """
    source, dest = Path(source), Path(dest)
    if source.is_dir():
        sizes = _sizes(source, check(source, need_text=False), n)
        parts = [dest / str(number) for number in range(1, n + 1)]
        tables = read_streams(source)
        for part, found in zip(parts, _divide(tables, sizes), strict=True):
            copy_constants(part, source)
            write(part, found)
        return parts
    sizes = _sizes(source, sum(1 for _ in stream_table(source)), n)
    rows = stream_table(source)
    dest.mkdir(parents=True, exist_ok=True)
    parts = [dest / f"{source.stem}.{k}{source.suffix}" for k in range(1, n + 1)]
    for part, size in zip(parts, sizes, strict=True):
        with atomic_write(part) as file:
            write_rows(file, islice(rows, size))
    return parts


def copy_constants(dest: PathLike, *sources: PathLike) -> None:
    """Copy the files that say one thing about the whole set, such as ``feats_type``.

    Raises:
        DataError: If the sources disagree.
    """
    constants = {name: _constant(name, sources) for name in CONSTANTS}
    Path(dest).mkdir(parents=True, exist_ok=True)
    for name, value in constants.items():
        if value is None:
            Path(dest, name).unlink(missing_ok=True)
        else:
            write_text(Path(dest, name), f"{value}\n")


def check_other(dest: PathLike, *sources: PathLike) -> None:
    """Refuse to write a data directory over one that it is made of."""
    for source in sources:
        if Path(dest).resolve() == Path(source).resolve():
            raise DataError(f"{dest}: expected another folder than the source")


def _tables(data_dir: PathLike) -> list[Path]:
    if not Path(data_dir).is_dir():
        raise DataError(f"{data_dir}: expected a data directory, found none")
    return [path for name in KEYED_BY if (path := Path(data_dir, name)).exists()]


def _read(path: Path) -> Iterator[Row]:
    """Rows of a file that is in order, and has no wrong value."""
    check = _CHECKS.get(path.name, _check_filled)
    for line, row in enumerate(stream_table(path), start=1):
        if wrong := check(row[1]):
            raise DataError(f"{path}:{line}: {row[0]!r}: {wrong}")
        yield row


# What is wrong with a value, or nothing.


def _check_filled(value: str) -> str:
    return "" if value else "expected a value, found none"


def _check_speaker(value: str) -> str:
    if len(value.split()) == 1:
        return ""
    return _check_filled(value) or f"expected one speaker, found {value!r}"


def _check_samples(value: str) -> str:
    if value.isdecimal():
        return ""
    return _check_filled(value) or f"expected a number of samples, found {value!r}"


def _check_segment(value: str) -> str:
    if value:
        try:
            Segment.parse(value)
        except DataError as error:
            return str(error)
    return _check_filled(value)


_CHECKS: dict[str, Callable[[str], str]] = {
    "utt2spk": _check_speaker,
    "utt2num_samples": _check_samples,
    "segments": _check_segment,
    **{name: lambda value: "" for name in MAY_BE_EMPTY},
}


def _check_same(
    path: Path, rows: Iterable[Row], kind: str, other: str, expected: Iterable[str]
) -> None:
    """Check that a file has the same keys of a kind as another one."""
    if all(key == want for key, want in zip_longest(keys_of(rows), expected)):
        return
    found = enumerate(keys_of(rows), start=1)
    wanted = iter(expected)
    surplus: list[str] = []
    missing: list[str] = []
    line, key = next(found, (0, None))
    want = next(wanted, None)
    where = 0
    while key is not None or want is not None:
        if key == want:
            line, key = next(found, (0, None))
            want = next(wanted, None)
        elif key is not None and (want is None or key < want):
            where = where or line
            surplus.append(key)
            line, key = next(found, (0, None))
        elif want is not None:
            missing.append(want)
            want = next(wanted, None)
    if surplus:
        raise DataError(
            f"{path}:{where}: {surplus[0]!r}: expected only what {other} has, found "
            f"{kind} {name_keys(surplus)}"
        )
    if missing:
        raise DataError(
            f"{path}: expected every {kind} of {other}, found no {name_keys(missing)}"
        )


def _check_spk2utt(
    path: Path, speakers: Iterable[str], implied: SortedRows[Row]
) -> None:
    table = Stream(stream_table, path)
    _check_same(path, table, "speaker", "utt2spk", speakers)
    lines = zip(table, group_values(implied), strict=True)
    for number, ((speaker, found), (_, expected)) in enumerate(lines, start=1):
        wrong = set(found.split()).symmetric_difference(expected)
        if wrong:
            raise DataError(
                f"{path}:{number}: {speaker!r}: expected the utterances that utt2spk "
                f"gives this speaker, found a difference at {min(wrong)!r}"
            )


def _repair(path: Path) -> Iterable[Row]:
    """Rows of a file, in order, without those that say nothing new or nothing."""
    check, before = _CHECKS.get(path.name, _check_filled), ""
    for key, value in read_rows(path):
        if key <= before or check(value):
            return SortedRows(_without_repeats(path, SortedRows(_filled(path))))
        before = key
    return Stream(read_rows, path)


def _filled(path: Path) -> Iterator[tuple[str, int, str]]:
    """Key, line and value of what says something."""
    may_be_empty = path.name in MAY_BE_EMPTY
    for line, (key, value) in enumerate(read_rows(path), start=1):
        if key and (value or may_be_empty):
            yield key, line, value


def _without_repeats(path: Path, rows: Iterable[tuple[str, int, str]]) -> Iterator[Row]:
    check, before = _CHECKS.get(path.name, _check_filled), ("", "")
    for key, line, value in rows:
        if key != before[0]:
            if wrong := check(value):
                raise DataError(f"{path}:{line}: {key!r}: {wrong}")
            before = key, value
            yield before
        elif value != before[1]:
            raise DataError(
                f"{path}:{line}: expected one value for {key!r}, found {value!r} and "
                f"before it {before[1]!r}"
            )


def _utt2spk(path: Path) -> Iterable[Row]:
    if not path.exists():
        raise DataError(f"{path}: expected utt2spk or spk2utt, found neither")
    lines = _repair(path)
    pairs = SortedRows((u, spk) for spk, utt_ids in lines for u in utt_ids.split())
    return Stream(_one_speaker, path, pairs)


def _one_speaker(path: Path, pairs: SortedRows[Row]) -> Iterator[Row]:
    for utt_id, speakers in group_values(unique(pairs)):
        if len(speakers) > 1:
            raise DataError(
                f"{path}: {utt_id!r}: expected one speaker, found {speakers[0]!r} and "
                f"{speakers[1]!r}"
            )
        yield utt_id, speakers[0]


def _complete(tables: Streams, dropped: dict[str, list[str]]) -> Iterator[str]:
    """The utterances that all files are about, be it by recordings or speakers.

    Of which recording or speaker an utterance is that is missing elsewhere is not known:
    that is no fault of the files about those.

    Args:
        tables: Sorted, but they do not agree.
        dropped: Gets the other utterances, and the files that lack each.
    """
    kinds = ["utterance"] if "segments" in tables else ["utterance", "recording"]
    names = list(tables)
    listing = [n for n, name in enumerate(names) if KEYED_BY[name] in kinds]
    sources: list[Iterable[tuple[str, int]]] = [
        Stream(_numbered, tables[names[n]], n) for n in listing
    ]
    sources.append(SortedRows(_lacking(tables)))
    for utt_id, group in groupby(heapq.merge(*sources), itemgetter(0)):
        found = {n for _, n in group}
        # ~n is said of an utterance that file n lacks.
        if found.issuperset(listing) and len(found) == len(listing):
            yield utt_id
        else:
            lacking = {n for n in listing if n not in found} | {
                ~n for n in found if n < 0
            }
            dropped[utt_id] = [names[n] for n in sorted(lacking)]


def _numbered(rows: Iterable[Row], number: int) -> Iterator[tuple[str, int]]:
    return ((key, number) for key, _ in rows)


def _lacking(tables: Streams) -> Iterator[tuple[str, int]]:
    """Utterances whose speaker or recording file n does not have, each with ~n."""
    segments = tables.get("segments", ())
    owners: dict[str, Iterator[Row]] = {
        "speaker": ((spk, utt_id) for utt_id, spk in tables["utt2spk"]),
        "recording": ((Segment.parse(v).recording, u) for u, v in segments),
    }
    for kind, pairs in owners.items():
        numbers = [n for n, name in enumerate(tables) if KEYED_BY[name] == kind]
        by_owner = SortedRows(pairs if numbers else ())
        for number in numbers:
            there = keys_of(list(tables.values())[number])
            for _, utt_id in without(by_owner, there):
                yield utt_id, ~number


def _rows(table: Iterable[Row] | Mapping[str, str]) -> Iterable[Row]:
    return sorted(table.items()) if isinstance(table, Mapping) else table


def _joined(pairs: Iterable[Row]) -> Iterator[Row]:
    return ((key, " ".join(values)) for key, values in group_values(pairs))


def _whole(utt2spk: Iterable[Row]) -> Iterator[Row]:
    return ((utt_id, f"{utt_id} 0 -1") for utt_id, _ in utt2spk)


def _unperturbed(utt2spk: Iterable[Row]) -> Iterator[Row]:
    return itself(keys_of(utt2spk))


def _constant(name: str, sources: Sequence[PathLike]) -> str | None:
    paths = (Path(source, name) for source in sources)
    found = {p.read_text(encoding="utf-8").strip(): p for p in paths if p.exists()}
    if len(found) > 1:
        listing = ", ".join(f"{value!r} in {path}" for value, path in found.items())
        raise DataError(f"expected one {name}, found {listing}")
    return next(iter(found), None)


def _merge(
    name: str, sources: Sequence[PathLike], parts: Sequence[Iterable[Row]]
) -> Iterator[Row]:
    numbered = (_with_place(rows, n) for n, rows in enumerate(parts))
    before: tuple[str, int, int, str] = "", 0, 0, ""
    for row in heapq.merge(*numbered):
        key, source, line, value = row
        if key != before[0]:
            before = row
            yield key, value
        # Two sets may share speakers and recordings, but an utterance is in one.
        elif KEYED_BY[name] == "utterance" or value != before[3]:
            raise DataError(
                f"{Path(sources[source], name)}:{line}: {key!r}: expected this "
                f"{KEYED_BY[name]} in one source, found {before[3]!r} in "
                f"{Path(sources[before[1]], name)}"
            )


def _with_place(
    rows: Iterable[Row], source: int
) -> Iterator[tuple[str, int, int, str]]:
    for line, (key, value) in enumerate(rows, start=1):
        yield key, source, line, value


def _choose(
    src: PathLike,
    size: int,
    utt2spk: Iterable[Row],
    utt_ids: Iterable[str] | None,
    first: int | None,
    per_speaker: int | None,
) -> SortedRows[str]:
    options = {"utt_ids": utt_ids, "first": first, "per_speaker": per_speaker}
    given = [name for name, value in options.items() if value is not None]
    if len(given) != 1:
        raise DataError(
            "expected one of utt_ids, first and per_speaker, found "
            + (" and ".join(given) or "none")
        )
    if utt_ids is not None:
        return _choose_listed(src, utt2spk, SortedRows(utt_ids))
    number = first if per_speaker is None else per_speaker
    if not number or not 1 <= number <= size:
        raise DataError(
            f"{src}: {given[0]}: expected 1 to {size}, the number of utterances, "
            f"found {number}"
        )
    if first is not None:
        return SortedRows(islice(keys_of(utt2spk), first))
    by_speaker = SortedRows((spk, utt_id) for utt_id, spk in utt2spk)
    chosen = (utt_ids[:number] for _, utt_ids in group_values(by_speaker))
    return SortedRows(chain.from_iterable(chosen))


def _choose_listed(
    src: PathLike, utt2spk: Iterable[Row], listed: SortedRows[str]
) -> SortedRows[str]:
    chosen = SortedRows(unique(listed))
    known = keys_of(utt2spk)
    unknown = [key for key, _ in without(((key, "") for key in chosen), known)]
    if unknown or not chosen:
        found = f"no {name_keys(unknown)}" if unknown else "an empty list"
        raise DataError(f"{src}: expected utterances of utt2spk, found {found}")
    return chosen


def _divide(tables: Streams, sizes: Iterable[int]) -> Iterator[Streams]:
    """Parts, each of which is read before the next one is asked for."""
    kinds = ["utterance"] if "segments" in tables else ["utterance", "recording"]
    left = {n: iter(rows) for n, rows in tables.items() if KEYED_BY[n] in kinds}
    for size in sizes:
        # All have the same utterances: no file is read again for every part.
        part = {name: SortedRows(islice(rows, size)) for name, rows in left.items()}
        utt_ids = SortedRows(keys_of(part["utt2spk"]))
        yield select({**tables, **part}, utt_ids)


def _sizes(source: Path, size: int, n: int) -> list[int]:
    if not 1 <= n <= size:
        raise DataError(
            f"{source}: expected 1 to {size} parts, as it has {size} lines, found {n}"
        )
    bounds = [size * part // n for part in range(n + 1)]
    return [end - start for start, end in pairwise(bounds)]
