"""A corpus of one's own: a folder of audio files, and what is said in them.

The transcripts are a table, a line for each audio file, with names of columns in its first
line (``.tsv``: separated by tabs; ``.csv``: by commas)::

    file              text                  spk     set
    anna/001.wav      good morning          anna    train
    bert/001          the fifth of march    bert    test

or a ``.txt`` beside each audio file, of the same name::

    audio/anna/001.wav
    audio/anna/001.txt

``spk`` (who speaks) and ``set`` (train, dev or test) may be absent. The audio files lie in
the folder at any depth, in any format that libsndfile reads. They are used as they are.
"""

import csv
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from itertools import groupby
from pathlib import Path

from espnet_ensemble.data.audio import AudioError, open_audio
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.errors import name_keys
from espnet_ensemble.files import PathLike
from espnet_ensemble.recipes.corpora.data_dir import DataDir, Utterance, write_data_dir
from espnet_ensemble.recipes.corpora.parallel import list_first, map_threads

#: What ends the name of an audio file.
SUFFIXES = (".aiff", ".flac", ".mp3", ".ogg", ".opus", ".sph", ".wav")
SETS = ("train", "dev", "test")
#: With fewer speakers than this, a set would have one or two: all sets then share them.
MIN_SPKS = 10


class _Tabs(csv.excel_tab):
    """Tables with tabs do not quote: a quotation mark is a part of the text."""

    quoting = csv.QUOTE_NONE


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns.

    Attributes:
        file: Path of the audio file in the folder, with or without its suffix.
        text: What is said.
        spk: Who speaks; None: ``spk``, where there is such a column.
        set: Which set it is for; None: ``set``, where there is such a column.
    """

    file: str = "file"
    text: str = "text"
    spk: str | None = None
    set: str | None = None


@dataclass(frozen=True)
class Transcript:
    """What is known of an audio file.

    Attributes:
        file: Its path in the folder.
        text: What is said; words are separated by single spaces.
        spk: Who speaks; "": unknown.
        set: Which set it is for; "": not said.
    """

    file: str
    text: str
    spk: str = ""
    set: str = ""


def prepare_audio_folder(
    audio_dir: PathLike,
    output_dir: PathLike,
    transcripts: PathLike | None = None,
    columns: Columns = Columns(),
    dev_share: float = 0.1,
    test_share: float = 0.1,
    nj: int = 4,
) -> dict[str, DataDir]:
    """Make data directories train, dev and test of a folder of audio files.

    Where the table does not say which set a file is for, its speaker decides, or itself
    where speakers are unknown or few: in the order of the MD5 sums of their names they
    fill test, then dev; the rest is train. What is left out (files without a transcript,
    transcripts without a word) is reported as a warning.

    Args:
        audio_dir: The folder. ``wav.scp`` names files by this path as given.
        output_dir: The data directories' parent.
        transcripts: A ``.tsv`` or ``.csv``; None: a ``.txt`` beside each audio file.
        columns: Names of the table's columns.
        dev_share: Part of the utterances that dev gets, between 0 and 1.
        test_share: Part that test gets.
        nj: Number of threads that read the heads of the files.

    Returns:
        What was made of each set.

    Raises:
        EnsembleError: If a file is missing, is no audio or has two transcripts, if the
            table lacks a column, or if a set has no utterance. Nothing is written.
    """
    if not (dev_share > 0 and test_share > 0 and dev_share + test_share < 1):
        raise DataError(
            "dev_share and test_share: expected more than 0, and less than 1 together, "
            f"found {dev_share} and {test_share}"
        )
    files = _find_audio(Path(audio_dir))
    if transcripts is None:
        found = list(_read_txt(Path(audio_dir), files))
    else:
        rows = _read_table(Path(transcripts), columns)
        found = _match(Path(audio_dir), files, rows, transcripts)
    said = _leave_out(found, files)
    sets = _divide(said, dev_share, test_share)
    empty = [name for name in SETS if name not in sets.values()]
    if empty:
        raise DataError(
            f"{audio_dir}: expected utterances for {', '.join(SETS)}, found {len(said)} "
            f"in all, and none for {', '.join(empty)}"
        )
    utterances = _describe(audio_dir, said, nj)
    return {
        name: write_data_dir(
            Path(output_dir, name),
            [utterances[file] for file, chosen in sets.items() if chosen == name],
        )
        for name in SETS
    }


def _describe(
    audio_dir: PathLike, said: list[Transcript], nj: int
) -> dict[str, Utterance]:
    """Utterances, by their files."""
    named = _name(said)
    work = partial(_seconds, audio_dir)
    lengths = map_threads(work, [t.file for t in named.values()], nj, "audio")
    return {
        transcript.file: Utterance(
            utt_id,
            _word(transcript.spk) or utt_id,
            os.path.join(audio_dir, transcript.file),
            seconds,
            transcript.text,
        )
        for (utt_id, transcript), seconds in zip(named.items(), lengths, strict=True)
    }


def _find_audio(audio_dir: Path) -> list[str]:
    """Paths of the audio files in a folder, in order."""
    if not audio_dir.is_dir():
        raise DataError(
            f"{audio_dir}: expected a folder of audio files, found no folder"
        )
    found = sorted(
        str(path.relative_to(audio_dir))
        for path in audio_dir.rglob("*")
        if path.suffix.lower() in SUFFIXES
    )
    if not found:
        raise DataError(
            f"{audio_dir}: expected audio files ({', '.join(SUFFIXES)}), found none; "
            "convert others, with ffmpeg for example"
        )
    return found


def _read_txt(audio_dir: Path, files: list[str]) -> Iterator[Transcript]:
    """The text beside each audio file that has one."""
    for file in files:
        path = (audio_dir / file).with_suffix(".txt")
        if not path.exists():
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: expected UTF-8, found {error}") from error
        yield Transcript(file, _clean(text))


def _read_table(path: Path, columns: Columns) -> list[Transcript]:
    """The table's lines; ``file`` is as it is written there."""
    if path.suffix.lower() not in (".tsv", ".csv"):
        raise DataError(f"{path}: expected a table, .tsv or .csv")
    tabs = path.suffix.lower() == ".tsv"
    try:
        # Spreadsheets begin a file with a byte order mark.
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, dialect=_Tabs if tabs else csv.excel)
            names = _choose(path, reader.fieldnames or [], columns)
            return [_parse(f"{path}:{reader.line_num}", row, names) for row in reader]
    except OSError as error:
        raise DataError(f"{path}: expected a table, found {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a table in UTF-8, found {error}") from error


def _choose(path: Path, header: Sequence[str], columns: Columns) -> dict[str, str]:
    """Which column of the table is which of ours."""
    names = {"file": columns.file, "text": columns.text}
    for own, given in (("spk", columns.spk), ("set", columns.set)):
        if given or own in header:
            names[own] = given or own
    missing = [name for name in names.values() if name not in header]
    if missing:
        raise DataError(
            f"{path}:1: expected a column {missing[0]!r}, found "
            f"{', '.join(map(repr, header)) or 'none'}; write the names of the columns into "
            "the first line, or say which it is with --file_column, --text_column, "
            "--spk_column, --set_column"
        )
    return names


def _parse(where: str, row: dict[str, str | None], names: dict[str, str]) -> Transcript:
    values = {own: row[name] for own, name in names.items()}
    if None in values.values() or None in row:
        raise DataError(f"{where}: expected a value for each column of the first line")
    file = (values.pop("file") or "").strip()
    others = {own: _clean(value or "") for own, value in values.items()}
    found = Transcript(file, **others)
    if found.set and found.set not in SETS:
        raise DataError(f"{where}: expected {', '.join(SETS)}, found {found.set!r}")
    return found


def _match(
    audio_dir: Path,
    files: list[str],
    rows: list[Transcript],
    transcripts: PathLike,
) -> list[Transcript]:
    """Find the audio files that the table's lines name."""
    known = {os.path.splitext(file)[0]: file for file in files}
    known.update({file: file for file in files})
    matched: dict[str, Transcript] = {}
    missing = []
    for row in rows:
        path = os.path.relpath(os.path.join(audio_dir, row.file), audio_dir)
        file = known.get(path)
        if file is None:
            missing.append(row.file)
        elif file in matched:
            raise DataError(
                f"{transcripts}: expected each file once, found {file!r} twice"
            )
        else:
            matched[file] = Transcript(file, row.text, row.spk, row.set)
    if missing:
        raise DataError(
            f"{transcripts}: {len(missing)} of {len(rows)} lines name no audio file "
            f"({', '.join(SUFFIXES)}) in {audio_dir}:{list_first(missing)}"
        )
    return list(matched.values())


def _leave_out(said: list[Transcript], files: list[str]) -> list[Transcript]:
    """Leave out what has no words, and say so."""
    without = sorted(set(files) - {transcript.file for transcript in said})
    empty = [transcript.file for transcript in said if not transcript.text]
    for utts, reason in (
        (without, "no transcript"),
        (empty, "a transcript of no words"),
    ):
        if utts:
            logging.warning(
                f"left out {len(utts)} audio files with {reason}: {name_keys(utts)}"
            )
    return [transcript for transcript in said if transcript.text]


def _divide(
    said: list[Transcript], dev_share: float, test_share: float
) -> dict[str, str]:
    """Which set each file is in."""
    told = [transcript for transcript in said if transcript.set]
    if told and len(told) < len(said):
        untold = [transcript.file for transcript in said if not transcript.set]
        raise DataError(
            f"expected a set for each file or for none, found none for {name_keys(untold)}"
        )
    if told:
        return {transcript.file: transcript.set for transcript in said}
    spks = {transcript.spk for transcript in said}
    by_spk = len(spks) >= MIN_SPKS and "" not in spks
    if not by_spk and spks != {""}:
        logging.warning(
            f"train, dev and test share speakers: there are {len(spks)}, and fewer than "
            f"{MIN_SPKS} are not divided"
        )
    return _draw(said, by_spk, dev_share, test_share)


def _draw(
    said: list[Transcript], by_spk: bool, dev_share: float, test_share: float
) -> dict[str, str]:
    """Divide by speakers or by files."""

    def owner(transcript: Transcript) -> str:
        return transcript.spk if by_spk else transcript.file

    def place(transcript: Transcript) -> tuple[str, str]:
        name = owner(transcript)
        return md5(name.encode("utf-8"), usedforsecurity=False).hexdigest(), name

    sets: dict[str, str] = {}
    test = max(1.0, test_share * len(said))
    ends = {"test": test, "dev": test + max(1.0, dev_share * len(said))}
    for _, group in groupby(sorted(said, key=place), key=owner):
        chosen = next((name for name, end in ends.items() if len(sets) < end), "train")
        sets.update({transcript.file: chosen for transcript in group})
    return sets


def _name(said: list[Transcript]) -> dict[str, Transcript]:
    """Utterances' ids, which begin with the speaker's."""
    named: dict[str, Transcript] = {}
    for transcript in said:
        spk = _word(transcript.spk)
        utt_id = _word(os.path.splitext(transcript.file)[0].replace(os.sep, "-"))
        if spk and not utt_id.startswith(spk):
            utt_id = f"{spk}-{utt_id}"
        other = named.setdefault(utt_id, transcript)
        if other != transcript:
            raise DataError(
                f"expected a name of its own for each audio file, found that "
                f"{other.file!r} and {transcript.file!r} are both utterance {utt_id!r}"
            )
    return named


def _seconds(audio_dir: PathLike, file: str) -> float:
    try:
        with open_audio(os.path.join(audio_dir, file)) as sound:
            return sound.frames / sound.samplerate
    except AudioError as error:
        raise AudioError(f"{file}: {error}") from error


def _clean(text: str) -> str:
    return " ".join(text.split())


def _word(text: str) -> str:
    return "_".join(text.split())
