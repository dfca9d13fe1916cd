"""sclite: its transcripts, its program where that is installed, and its tables."""

import re
import shlex
import shutil
import string
import subprocess
import unicodedata
from dataclasses import astuple, fields
from pathlib import Path

from espnet_ensemble.data.tables import Table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.scoring import (
    Counts,
    Pair,
    Score,
    ScoredUtterance,
    Tokens,
    fold_case,
)

_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)


def find_sclite(score_opts: str = "") -> str | None:
    """Find the program on PATH; None where it is not installed.

    Raises:
        EnsembleError: If there are options for it, but no sclite.
    """
    sclite = shutil.which("sclite")
    if score_opts.strip() and not sclite:
        raise EnsembleError(
            f"score_opts are options of sclite, which is not on PATH: {score_opts!r}"
        )
    return sclite


def run_sclite(sclite: str, folder: Path, utterances: int, score_opts: str = "") -> str:
    """Let sclite compare ``hyp.trn`` with ``ref.trn``.

    Args:
        sclite: The program.
        folder: Where the two files are.
        utterances: How many they have.
        score_opts: Further options, as in a shell.

    Returns:
        Its tables and alignments.

    Raises:
        EnsembleError: If it fails, or leaves out utterances.
    """
    files = ["-r", str(folder / "ref.trn"), "trn", "-h", str(folder / "hyp.trn"), "trn"]
    try:
        options = shlex.split(score_opts)
    except ValueError as error:
        raise EnsembleError(f"score_opts {score_opts!r}: {error}") from error
    done = subprocess.run(
        [sclite, *options, *files, "-i", "rm", "-o", "all", "stdout"],
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise EnsembleError(f"{folder}: sclite failed: {done.stderr.strip()}")
    # Lines that begin with its comment signs are left out without an error.
    scored = parse_counts(done.stdout, folder).sentences
    if scored != utterances:
        raise EnsembleError(
            f"{folder}: expected scores of {utterances} utterances, sclite gave {scored}: "
            f"{done.stderr.strip()}"
        )
    return done.stdout


def parse_counts(text: str, path: Path) -> Counts:
    """Read the sums of all speakers from sclite's table of counts.

    Args:
        text: What sclite has printed.
        path: Where that is, for the message.

    Raises:
        EnsembleError: If there is no such table.
    """
    found = re.search(r"^ *\| *Sum *\|([\d |]+)\|$", text, flags=re.MULTILINE)
    cells = found.group(1).replace("|", " ").split() if found else []
    if len(cells) != len(fields(Counts)):
        raise EnsembleError(f"{path}: expected sclite's tables, found no row of sums")
    return Counts(*map(int, cells))


def format_trn(tokens: Tokens, utt2spk: Table) -> str:
    """Lay out transcripts as sclite reads them.

    Example:
        >>> format_trn({"utt1": ["hello", "world"]}, {"utt1": "alice"})
        'hello world\\t(alice-utt1)\\n'
    """
    return "".join(
        f"{' '.join(words)}\t({utt2spk[utt_id]}-{utt_id})\n"
        for utt_id, words in tokens.items()
    )


def parse_trn(text: str) -> dict[str, str]:
    """Read transcripts that :func:`format_trn` has laid out.

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
    lines = _tables(by_speaker)
    for number, (speaker, part) in enumerate(by_speaker.items()):
        size = len(part.utterances)
        lines += ["", f"Speaker sentences {number:3}:  {speaker}   #utts: {size}"]
        for utterance in part.utterances:
            lines += [*_alignment(utterance), ""]
    return "\n".join(lines) + "\n"


def speaker_name(spk: str) -> str:
    """sclite's name of a speaker: the beginning of (speaker-utterance).

    Example:
        >>> speaker_name("Alice"), speaker_name("103-1240")
        ('alice', '103')
    """
    return fold_case(spk.split("-")[0])


def summary(text: str) -> list[str]:
    """Pick the heading and the means of all speakers from sclite's table."""
    lines = text.splitlines()
    return [
        next(line for line in lines if name in line) for name in ("SPKR", "Sum/Avg")
    ]


def _tables(by_speaker: dict[str, Score]) -> list[str]:
    """The tables of percentages and of counts."""
    rows = {speaker: part.counts for speaker, part in by_speaker.items()}
    total = sum(rows.values(), Counts())
    percents = {speaker: _percents(counts) for speaker, counts in rows.items()}
    percents["Sum/Avg"] = _percents_of_all(total)
    numbers = {
        speaker: list(map(str, astuple(counts)))
        for speaker, counts in {**rows, "Sum": total}.items()
    }
    note = ["", "* No reference words for this speaker: counts, not percentages."]
    has_note = any(not counts.words for counts in rows.values())
    return _table(percents) + (note if has_note else []) + _table(numbers)


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
    lines = []
    for name, (sentences, words, *rates) in rows.items():
        size = f"{sentences:>7}{words:>7}"
        shares = "".join(f"{rate:>7}" for rate in rates)
        lines.append(f"| {pad(name, widest)} |{size} |{shares} |")
    ruler = "|" + "-" * (count_columns(lines[0]) - 2) + "|"
    title = "SYSTEM SUMMARY PERCENTAGES by SPEAKER"
    last = ruler.replace("-", "=")
    return ["", title, "", ruler, lines[0], ruler, *lines[1:-1], last, lines[-1], ruler]


def _alignment(utterance: ScoredUtterance) -> list[str]:
    """Show an utterance in five lines: errors in capitals, gaps as stars."""
    counts = utterance.counts
    numbers = counts.correct, counts.substitutions, counts.deletions, counts.insertions
    lines = ["REF: ", "HYP: ", "Eval:"]
    for pair in utterance.pairs:
        for number, cell in enumerate(_cells(pair)):
            lines[number] += " " + cell
    return [
        f"id: ({utterance.spk}-{utterance.utt_id})",
        f"Scores: (#C #S #D #I) {' '.join(map(str, numbers))}",
        *(line.rstrip() for line in lines),
    ]


def _cells(pair: Pair) -> list[str]:
    """Reference, hypothesis and kind of error, equally wide."""
    kind = pair.kind
    width = max(count_columns(token) for token in pair if token is not None)
    cells = []
    for token in pair:
        if token is None:
            cells.append("*" * width)
        elif kind == "C":
            cells.append(fold_case(token))
        else:
            cells.append(token.translate(_UPPER))
    return [pad(cell, width) for cell in [*cells, " " if kind == "C" else kind]]


def count_columns(text: str) -> int:
    """How many columns a terminal gives a text.

    Example:
        >>> count_columns("ab"), count_columns("日本")
        (2, 4)
    """
    if text.isascii():  # most are, and it saves half of the time of a whole score
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def pad(text: str, width: int) -> str:
    """Fill a text with spaces, up to so many columns of a terminal."""
    return text + " " * (width - count_columns(text))
