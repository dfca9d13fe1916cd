"""sclite: its transcripts, its program where that is installed, and its tables."""

import re
import shlex
import shutil
import signal
import string
import subprocess
import unicodedata
from collections.abc import Mapping
from dataclasses import astuple, fields
from pathlib import Path

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import atomic_write
from espnet_ensemble.recipes.scoring import (
    Counts,
    Score,
    ScoredUtterance,
    fold_case,
)

_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
# Debian's package sctk has its programs here, and only a wrapper for them on PATH.
_DEBIAN = "/usr/lib/sctk/bin"
_SUMS = re.compile(r"^ *\| *Sum *\|([\d |]+)\|$")


def find_sclite() -> str:
    """Find the program, on PATH or where Debian has it.

    Raises:
        EnsembleError: If it is not installed.
    """
    sclite = shutil.which("sclite") or shutil.which("sclite", path=_DEBIAN)
    if not sclite:
        raise EnsembleError(
            "scoring by sclite was asked for (use_sclite, score_opts), which is neither on "
            f"PATH nor in {_DEBIAN}: install it (apt-get install sctk), or leave these "
            "options out: its numbers are the same"
        )
    return sclite


def run_sclite(folder: Path, utterances: int, score_opts: str = "") -> Counts:
    """Let sclite compare ``hyp.trn`` with ``ref.trn``, and write ``result.txt``.

    Args:
        folder: Where the files are.
        utterances: How many they have.
        score_opts: Further options, as in a shell.

    Returns:
        The sums.

    Raises:
        EnsembleError: If it is not installed, fails, or leaves out utterances.
    """
    sclite = find_sclite()
    files = ["-r", str(folder / "ref.trn"), "trn", "-h", str(folder / "hyp.trn"), "trn"]
    try:
        options = shlex.split(score_opts)
    except ValueError as error:
        raise EnsembleError(f"score_opts {score_opts!r}: {error}") from error
    with atomic_write(folder / "result.txt") as part:
        with open(part, "wb") as result:
            done = subprocess.run(
                [sclite, *options, *files, "-i", "rm", "-o", "all", "stdout"],
                stdout=result,
                stderr=subprocess.PIPE,
                check=False,
                encoding="utf-8",
                errors="replace",
            )
        said = done.stderr.strip()
        if done.returncode < 0:
            raise EnsembleError(
                f"{folder}: sclite was killed ({signal.Signals(-done.returncode).name}), "
                f"maybe as there was no memory left: {said or 'it said nothing'}. It takes "
                "GBs for long sets; without use_sclite and score_opts, its numbers are "
                "computed here"
            )
        if done.returncode:
            said = said or f"its status is {done.returncode}, it said nothing"
            raise EnsembleError(f"{folder}: sclite failed: {said}")
        counts = read_counts(part, folder)
        # Lines that begin with its comment signs are left out without an error.
        if counts.sentences != utterances:
            raise EnsembleError(
                f"{folder}: expected scores of {utterances} utterances, sclite gave "
                f"{counts.sentences}: {said}"
            )
    return counts


def read_counts(result: Path, where: Path) -> Counts:
    """Read the sums of all speakers from sclite's table of counts.

    Args:
        result: What sclite has printed.
        where: What to call it in a message.

    Raises:
        EnsembleError: If there is no such table.
    """
    with open(result, encoding="utf-8", errors="replace") as lines:
        # The alignments after it may be GBs.
        found = next(filter(None, map(_SUMS.match, lines)), None)
    cells = found.group(1).replace("|", " ").split() if found else []
    if len(cells) != len(fields(Counts)):
        raise EnsembleError(f"{where}: expected sclite's tables, found no row of sums")
    return Counts(*map(int, cells))


def format_trn(utt_id: str, spk: str, tokens: list[str]) -> str:
    """Lay out a transcript as sclite reads it.

    Example:
        >>> format_trn("utt1", "alice", ["hello", "world"])
        'hello world\\t(alice-utt1)\\n'
    """
    return f"{' '.join(tokens)}\t({spk}-{utt_id})\n"


def parse_trn(text: str) -> dict[str, str]:
    """Read transcripts, each as :func:`format_trn` lays it out.

    Returns:
        "speaker-utterance" -> words

    Example:
        >>> parse_trn("hello world\\t(alice-utt1)\\n")
        {'alice-utt1': 'hello world'}
    """
    transcripts = {}
    for line in text.removesuffix("\n").split("\n"):
        words, _, key = line.rpartition("\t")
        transcripts[key.removeprefix("(").removesuffix(")")] = words
    return transcripts


def format_score(score: Score) -> str:
    """Lay out tables and alignments like sclite's: the text of ``result.txt``."""
    by_speaker = score.by_speaker(speaker_name)
    parts = [format_tables({spk: part.counts for spk, part in by_speaker.items()})]
    for number, (speaker, part) in enumerate(by_speaker.items()):
        parts.append(format_speaker(number, speaker, len(part.utterances)))
        parts += map(format_alignment, part.utterances)
    return "".join(parts)


def speaker_name(spk: str) -> str:
    """sclite's name of a speaker: the beginning of (speaker-utterance).

    Example:
        >>> speaker_name("Alice"), speaker_name("103-1240")
        ('alice', '103')
    """
    return fold_case(spk.split("-")[0])


def read_summary(result: Path) -> list[str]:
    """Read the heading and the means of all speakers from sclite's table."""
    found = []
    with open(result, encoding="utf-8", errors="replace") as lines:
        for name in ("SPKR", "Sum/Avg"):
            found.append(next(line.rstrip("\n") for line in lines if name in line))
    return found


def format_tables(by_speaker: Mapping[str, Counts]) -> str:
    """Lay out the tables of percentages and of counts, with the sums of all speakers."""
    total = sum(by_speaker.values(), Counts())
    percents = {speaker: _percents(counts) for speaker, counts in by_speaker.items()}
    percents["Sum/Avg"] = _percents_of_all(total)
    numbers = {
        speaker: list(map(str, astuple(counts)))
        for speaker, counts in {**by_speaker, "Sum": total}.items()
    }
    note = ["", "* No reference words for this speaker: counts, not percentages."]
    has_note = any(not counts.words for counts in by_speaker.values())
    lines = _table(percents) + (note if has_note else []) + _table(numbers)
    return "\n".join(lines) + "\n"


def _percents(counts: Counts) -> list[str]:
    """A speaker's row of the table of percentages."""
    if counts.words:
        return _percents_of_all(counts)
    numbers = (
        counts.correct,
        counts.substitutions,
        counts.deletions,
        counts.insertions,
        counts.errors,
    )
    return [
        str(counts.sentences),
        str(counts.words),
        *(f"{number}*" for number in numbers),
        f"{counts.percentages.wrong_sentences:.1f}",
    ]


def _percents_of_all(counts: Counts) -> list[str]:
    percents = (f"{percent:.1f}" for percent in astuple(counts.percentages))
    return [str(counts.sentences), str(counts.words), *percents]


def _table(rows: dict[str, list[str]]) -> list[str]:
    """Lay out rows by speaker, the last of which is for all."""
    names = ["# Snt", "# Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err"]
    rows = {"SPKR": names, **rows}
    widest = max(map(count_columns, rows))
    # As wide as sclite's where the numbers are not too long for that.
    widths = [
        max(7, 1 + max(map(len, column))) for column in zip(*rows.values(), strict=True)
    ]
    lines = []
    for name, cells in rows.items():
        cells = [f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True)]
        size, shares = "".join(cells[:2]), "".join(cells[2:])
        lines.append(f"| {pad(name, widest)} |{size} |{shares} |")
    ruler = "|" + "-" * (count_columns(lines[0]) - 2) + "|"
    title = "SYSTEM SUMMARY PERCENTAGES by SPEAKER"
    last = ruler.replace("-", "=")
    return ["", title, "", ruler, lines[0], ruler, *lines[1:-1], last, lines[-1], ruler]


def format_speaker(number: int, speaker: str, utterances: int) -> str:
    """Lay out the heading of a speaker's alignments.

    Args:
        number: Of the speaker, from 0.
        speaker: The speaker, as :func:`speaker_name` says.
        utterances: How many there are.
    """
    return f"\nSpeaker sentences {number:3}:  {speaker}   #utts: {utterances}\n"


def format_alignment(utterance: ScoredUtterance) -> str:
    """Show an utterance in five lines: errors in capitals, gaps as stars."""
    counts = utterance.counts
    numbers = counts.correct, counts.substitutions, counts.deletions, counts.insertions
    above, below, marks = ["REF: "], ["HYP: "], ["Eval:"]
    row = 0
    for kind, at, place in utterance.edits:
        if at > row:
            _add_correct(utterance.ref[row:at], above, below, marks)
        said = "" if kind == "I" else _capitals(utterance.ref[at])
        heard = "" if kind == "D" else _capitals(utterance.hyp[place])
        width = max(count_columns(said), count_columns(heard))
        above.append(pad(said, width) if said else "*" * width)
        below.append(pad(heard, width) if heard else "*" * width)
        marks.append(kind.ljust(width))
        row = at + (kind != "I")
    if row < len(utterance.ref):
        _add_correct(utterance.ref[row:], above, below, marks)
    text = "".join(f"{' '.join(cells).rstrip()}\n" for cells in (above, below, marks))
    return (
        f"id: ({utterance.spk}-{utterance.utt_id})\n"
        f"Scores: (#C #S #D #I) {' '.join(map(str, numbers))}\n{text}\n"
    )


def _add_correct(
    tokens: list[str], above: list[str], below: list[str], marks: list[str]
) -> None:
    """Add tokens in a row that are correct."""
    text = fold_case(" ".join(tokens))
    above.append(text)
    below.append(text)
    marks.append(" " * count_columns(text))


def _capitals(text: str) -> str:
    return text.upper() if text.isascii() else text.translate(_UPPER)


def count_columns(text: str) -> int:
    """How many columns a terminal gives a text.

    Example:
        >>> count_columns("ab"), count_columns("日本")
        (2, 4)
    """
    if text.isascii():  # most are, and it saves much of the time of a whole score
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def pad(text: str, width: int) -> str:
    """Fill a text with spaces, up to so many columns of a terminal."""
    if text.isascii():
        return text.ljust(width)
    return text + " " * (width - count_columns(text))
