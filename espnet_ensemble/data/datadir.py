"""Kaldi-style data directories: check, repair, combine and divide them."""

import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, pairwise
from pathlib import Path

from espnet_ensemble.data.tables import (
    KEYED_BY,
    MAY_BE_EMPTY,
    DataError,
    Segment,
    Table,
    Tables,
    at,
    is_written,
    read_repeated,
    read_table,
    write_table,
)
from espnet_ensemble.errors import name_keys
from espnet_ensemble.files import PathLike, write_text

#: Files of one line about the whole set.
CONSTANTS = ("audio_format", "feats_dim", "feats_type")
# Who makes a file, for the message that it is missing.
_MADE_BY = {"utt2num_samples": "; format_wav_scp makes it"}


def validate(
    data_dir: PathLike, need_text: bool = True, required: Collection[str] = ()
) -> Tables:
    """Read a data directory and check that its files are sorted and agree.

    Args:
        data_dir: The directory.
        need_text: Whether it must have a ``text``.
        required: Names of other files that it must have; ``utt2spk``, ``spk2utt`` and
            one of ``wav.scp`` and ``feats.scp`` are among them anyway.

    Returns:
        Its files, by name, without ``spk2utt``, which ``utt2spk`` implies.

    Raises:
        DataError: At the first thing that is wrong. It names file, line and utterance.
    """
    data_dir = Path(data_dir)
    tables = _read(data_dir, read_table)
    audio = [] if "feats.scp" in tables else ["wav.scp"]
    for name in ["utt2spk", *["text"] * need_text, *audio, *required]:
        if name not in tables:
            raise DataError(
                f"{data_dir / name}: expected this file, found none"
                + _MADE_BY.get(name, "")
            )
    for name, table in tables.items():
        _check_values(data_dir / name, table)
        _check_sorted(data_dir / name, table)
    _check_keys(data_dir, tables)
    _check_spk2utt(data_dir, tables["utt2spk"])
    return tables


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
    tables = _read(data_dir, read_repeated)
    if "utt2spk" not in tables:
        tables["utt2spk"] = _utt2spk(data_dir / "spk2utt")
    if not {"wav.scp", "feats.scp"}.intersection(tables):
        raise DataError(f"{data_dir}: expected wav.scp or feats.scp, found neither")
    for name, table in tables.items():
        _check_values(data_dir / name, table)
    having = _utt_ids(tables)
    every = set().union(*having.values())
    kept = every.intersection(*having.values())
    if not kept:
        counts = ", ".join(f"{name} {len(table)}" for name, table in tables.items())
        raise DataError(f"{data_dir}: no utterance is in all files ({counts})")
    fixed = select(tables, kept)
    _back_up(data_dir, fixed)
    write(data_dir, fixed)
    return {
        utt_id: [name for name, utt_ids in having.items() if utt_id not in utt_ids]
        for utt_id in sorted(every - kept)
    }


def select(tables: Tables, utt_ids: Collection[str]) -> Tables:
    """Keep what belongs to some utterances, their recordings and their speakers.

    Example:
        >>> tables = {
        ...     "segments": {"a": "one 0 1", "b": "two 0 1"},
        ...     "utt2spk": {"a": "alice", "b": "bob"},
        ...     "spk2gender": {"alice": "f", "bob": "m"},
        ...     "wav.scp": {"one": "1.wav", "two": "2.wav"},
        ... }
        >>> select(tables, ["b"])["wav.scp"], select(tables, ["b"])["spk2gender"]
        ({'two': '2.wav'}, {'bob': 'm'})
    """
    kept = {
        "utterance": set(utt_ids),
        "recording": _recordings(tables, utt_ids),
        "speaker": {tables["utt2spk"][utt_id] for utt_id in utt_ids},
    }
    return {
        name: {key: table[key] for key in table if key in kept[KEYED_BY[name]]}
        for name, table in tables.items()
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


def write(data_dir: PathLike, tables: Tables) -> None:
    """Write a data directory, with its ``spk2utt``.

    Files of another data directory that was in the same place are removed.
    """
    data_dir = Path(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    for name in KEYED_BY:
        if name not in tables:
            (data_dir / name).unlink(missing_ok=True)
    write_table(data_dir / "spk2utt", _spk2utt(tables["utt2spk"]))
    for name in KEYED_BY:
        if name in tables:
            write_table(data_dir / name, tables[name])


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
    parts = [validate(source, need_text=False) for source in sources]
    if any("segments" in tables for tables in parts):
        for tables in parts:
            whole = {key: f"{key} 0 -1" for key in tables["utt2spk"]}
            tables.setdefault("segments", whole)
    if any("utt2uniq" in tables for tables in parts):
        for tables in parts:
            tables.setdefault("utt2uniq", {key: key for key in tables["utt2spk"]})
    every, some = set(parts[0]).intersection(*parts), set().union(*parts)
    combined = {
        name: _merge(name, sources, parts) for name in KEYED_BY if name in every
    }
    copy_constants(dest, *sources)
    write(dest, combined)
    return sorted(some - every)


def subset(
    src: PathLike,
    dest: PathLike,
    utt_ids: Collection[str] | None = None,
    first: int | None = None,
    per_speaker: int | None = None,
) -> list[str]:
    """Take a part of a data directory.

    Args:
        src: The whole.
        dest: Where to write the part.
        utt_ids: Ids of the utterances to take; or
        first: how many to take, from the beginning; or
        per_speaker: how many to take of each speaker, or all where there are fewer.

    Returns:
        Ids of the utterances of the part.

    Raises:
        DataError: If the whole is not valid, or lacks some of what is asked for.
    """
    check_other(dest, src)
    tables = validate(src, need_text=False)
    chosen = _choose(src, tables["utt2spk"], utt_ids, first, per_speaker)
    copy_constants(dest, src)
    write(dest, select(tables, chosen))
    return chosen


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
    is_dir = source.is_dir()
    tables = validate(source, need_text=False) if is_dir else {}
    table = tables["utt2spk"] if is_dir else read_table(source)
    parts = []
    for number, keys in enumerate(_divide(source, list(table), n), start=1):
        if is_dir:
            parts.append(dest / str(number))
            copy_constants(parts[-1], source)
            write(parts[-1], select(tables, keys))
        else:
            dest.mkdir(parents=True, exist_ok=True)
            parts.append(dest / f"{source.stem}.{number}{source.suffix}")
            write_table(parts[-1], {key: table[key] for key in keys})
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


def _read(data_dir: Path, read_one: Callable[[Path], Table]) -> Tables:
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: expected a data directory, found none")
    paths = {name: data_dir / name for name in KEYED_BY}
    return {name: read_one(path) for name, path in paths.items() if path.exists()}


def _check_values(path: Path, table: Table) -> None:
    for key, value in table.items():
        if not value and path.name not in MAY_BE_EMPTY:
            raise DataError(f"{at(path, table, key)} expected a value, found none")
        if path.name == "utt2spk" and len(value.split()) != 1:
            raise DataError(
                f"{at(path, table, key)} expected one speaker, found {value!r}"
            )
        if path.name == "utt2num_samples" and not value.isdecimal():
            raise DataError(
                f"{at(path, table, key)} expected a number of samples, found {value!r}"
            )
        if path.name == "segments":
            _parse_segment(path, table, key, value)


def _parse_segment(path: Path, table: Table, key: str, value: str) -> Segment:
    try:
        return Segment.parse(value)
    except DataError as error:
        raise DataError(f"{at(path, table, key)} {error}") from error


def _check_sorted(path: Path, table: Table) -> None:
    for previous, key in pairwise(table):
        if key < previous:
            raise DataError(
                f"{at(path, table, key)} expected C-locale order (LC_ALL=C sort), found "
                f"it after {previous!r}; `data_dir fix` sorts"
            )


def _check_keys(data_dir: Path, tables: Tables) -> None:
    """Check that all files of a kind are about the same utterances, or recordings, ..."""
    utt2spk = tables["utt2spk"]
    if not utt2spk:
        raise DataError(f"{data_dir / 'utt2spk'}: expected utterances, found none")
    if "segments" in tables:
        path = data_dir / "segments"
        _check_same(path, tables["segments"], "utterance", "utt2spk", set(utt2spk))
    recordings = _recordings(tables, utt2spk)
    expected = {
        "utterance": ("utt2spk", set(utt2spk)),
        "speaker": ("utt2spk", set(utt2spk.values())),
        "recording": ("segments" if "segments" in tables else "utt2spk", recordings),
    }
    for name, table in tables.items():
        kind = KEYED_BY[name]
        _check_same(data_dir / name, table, kind, *expected[kind])


def _check_same(
    path: Path, table: Table, kind: str, other: str, expected: set[str]
) -> None:
    """Check that a file has the same keys of a kind as another one."""
    surplus = [key for key in table if key not in expected]
    missing = sorted(expected.difference(table))
    if surplus:
        raise DataError(
            f"{at(path, table, surplus[0])} expected only what {other} has, found "
            f"{kind} {name_keys(surplus)}"
        )
    if missing:
        raise DataError(
            f"{path}: expected every {kind} of {other}, found no {name_keys(missing)}"
        )


def _check_spk2utt(data_dir: Path, utt2spk: Table) -> None:
    path = data_dir / "spk2utt"
    table = read_table(path)
    _check_sorted(path, table)
    implied = _spk2utt(utt2spk)
    _check_same(path, table, "speaker", "utt2spk", set(implied))
    for speaker, utt_ids in table.items():
        wrong = set(utt_ids.split()) ^ set(implied[speaker].split())
        if wrong:
            raise DataError(
                f"{at(path, table, speaker)} expected the utterances that utt2spk gives "
                f"this speaker, found a difference at {min(wrong)!r}"
            )


def _recordings(tables: Tables, utt_ids: Iterable[str]) -> set[str]:
    """Ids of the recordings that utterances are in."""
    return {segment.recording for segment in segments_of(tables, utt_ids).values()}


def _utt_ids(tables: Tables) -> dict[str, Collection[str]]:
    """Ids of the utterances that each file is about, be it by recordings or speakers.

    Of which recording or speaker an utterance is that is missing elsewhere is not known:
    that is no fault of the files about those.
    """
    kinds = ["utterance"] if "segments" in tables else ["utterance", "recording"]
    every = set().union(*(tables[name] for name in tables if KEYED_BY[name] in kinds))
    segments = segments_of(tables, tables.get("segments", every))
    keys = {
        "utterance": {utt_id: utt_id for utt_id in every},
        "recording": {k: segment.recording for k, segment in segments.items()},
        "speaker": tables["utt2spk"],
    }
    return {
        name: {
            utt_id
            for utt_id in every
            if (key := keys[KEYED_BY[name]].get(utt_id)) is None or key in table
        }
        for name, table in tables.items()
    }


def _spk2utt(utt2spk: Table) -> Table:
    utt_ids: dict[str, list[str]] = {}
    for utt_id in sorted(utt2spk):
        utt_ids.setdefault(utt2spk[utt_id], []).append(utt_id)
    return {speaker: " ".join(ids) for speaker, ids in utt_ids.items()}


def _utt2spk(path: Path) -> Table:
    if not path.exists():
        raise DataError(f"{path}: expected utt2spk or spk2utt, found neither")
    utt2spk: Table = {}
    for speaker, utt_ids in read_repeated(path).items():
        for utt_id in utt_ids.split():
            other = utt2spk.setdefault(utt_id, speaker)
            if other != speaker:
                raise DataError(
                    f"{path}: {utt_id!r}: expected one speaker, found {other!r} and "
                    f"{speaker!r}"
                )
    return utt2spk


def _back_up(data_dir: Path, tables: Tables) -> None:
    """Copy the files that writing these tables will change to ``.backup``."""
    for name, table in {**tables, "spk2utt": _spk2utt(tables["utt2spk"])}.items():
        path = data_dir / name
        if path.exists() and not is_written(path, table):
            (data_dir / ".backup").mkdir(exist_ok=True)
            shutil.copy2(path, data_dir / ".backup" / name)


def _constant(name: str, sources: Sequence[PathLike]) -> str | None:
    paths = (Path(source, name) for source in sources)
    found = {p.read_text(encoding="utf-8").strip(): p for p in paths if p.exists()}
    if len(found) > 1:
        listing = ", ".join(f"{value!r} in {path}" for value, path in found.items())
        raise DataError(f"expected one {name}, found {listing}")
    return next(iter(found), None)


def _merge(name: str, sources: Sequence[PathLike], parts: list[Tables]) -> Table:
    merged: Table = {}
    origin: dict[str, PathLike] = {}
    for source, tables in zip(sources, parts, strict=True):
        for key, value in tables[name].items():
            # Two sets may share speakers and recordings, but an utterance is in one.
            if key in merged and (
                KEYED_BY[name] == "utterance" or merged[key] != value
            ):
                raise DataError(
                    f"{at(Path(source, name), tables[name], key)} expected this "
                    f"{KEYED_BY[name]} in one source, found {merged[key]!r} in "
                    f"{Path(origin[key], name)}"
                )
            merged[key], origin[key] = value, source
    return merged


def _choose(
    src: PathLike,
    utt2spk: Table,
    utt_ids: Collection[str] | None,
    first: int | None,
    per_speaker: int | None,
) -> list[str]:
    options = {"utt_ids": utt_ids, "first": first, "per_speaker": per_speaker}
    given = [name for name, value in options.items() if value is not None]
    if len(given) != 1:
        raise DataError(
            "expected one of utt_ids, first and per_speaker, found "
            + (" and ".join(given) or "none")
        )
    if utt_ids is not None:
        return _choose_listed(src, utt2spk, set(utt_ids))
    number = first if per_speaker is None else per_speaker
    if not number or not 1 <= number <= len(utt2spk):
        raise DataError(
            f"{src}: {given[0]}: expected 1 to {len(utt2spk)}, the number of "
            f"utterances, found {number}"
        )
    if first is not None:
        return list(utt2spk)[:first]
    chosen = (ids.split()[:number] for ids in _spk2utt(utt2spk).values())
    return sorted(chain.from_iterable(chosen))


def _choose_listed(src: PathLike, utt2spk: Table, utt_ids: set[str]) -> list[str]:
    unknown = sorted(utt_ids.difference(utt2spk))
    if unknown or not utt_ids:
        found = f"no {name_keys(unknown)}" if unknown else "an empty list"
        raise DataError(f"{src}: expected utterances of utt2spk, found {found}")
    return sorted(utt_ids)


def _divide(source: Path, keys: list[str], n: int) -> list[list[str]]:
    if not 1 <= n <= len(keys):
        raise DataError(
            f"{source}: expected 1 to {len(keys)} parts, as it has {len(keys)} lines, "
            f"found {n}"
        )
    bounds = [len(keys) * part // n for part in range(n + 1)]
    return [keys[start:end] for start, end in pairwise(bounds)]
