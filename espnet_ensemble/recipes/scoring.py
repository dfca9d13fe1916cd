"""Word, character and token error rates, in the formats of ESPnet and sclite.

``sclite`` scores where it is installed. Elsewhere the same numbers are computed here: an
alignment of least cost is not unique, and libraries for weighted edit distances choose
another one than sclite, with other numbers of errors. Case is ignored for ASCII letters
only, as by sclite. What sclite takes for markup inside a transcript (``{a / b}``, ``@``,
``;;``) is text like any other here.
"""

import re
import shlex
import shutil
import string
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from espnet2.text.char_tokenizer import CharTokenizer
from espnet2.text.sentencepiece_tokenizer import SentencepiecesTokenizer
from espnet2.text.word_tokenizer import WordTokenizer

from espnet_ensemble.data.tables import DataError, Table, at, read_table
from espnet_ensemble.files import PathLike, write_text

Tokens = dict[str, list[str]]
#: Tokens that stand for each other; None where one side has none.
Pairs = list[tuple[str | None, str | None]]

METRICS = ("wer", "cer", "ter")
CLEANERS = (
    "tacotron",
    "jaconv",
    "vietnamese",
    "korean_cleaner",
    "whisper_en",
    "whisper_basic",
)

# sclite's costs: a substitution is better than a deletion and an insertion.
_SUBSTITUTION = 4
_GAP = 3

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)


class Counts(NamedTuple):
    """One row of sclite's table of counts."""

    sentences: int
    words: int
    correct: int
    substitutions: int
    deletions: int
    insertions: int
    errors: int
    wrong_sentences: int


class Percentages(NamedTuple):
    """Of the words, or of the sentences, rounded as sclite does: to one decimal."""

    correct: float
    substitutions: float
    deletions: float
    insertions: float
    errors: float
    wrong_sentences: float


class Result(NamedTuple):
    """What a ``result.txt`` says: metric is wer, cer or ter."""

    inference_tag: str
    dataset: str
    metric: str
    counts: Counts
    percentages: Percentages


class Texts(NamedTuple):
    """Transcripts of the same utterances, and their speakers."""

    ref: Table
    hyp: Table
    speakers: Table


def align(ref: list[str], hyp: list[str]) -> Pairs:
    """Align tokens at the least cost; of several ways, take the one that sclite takes.

    Example:
        >>> align("the cat sat".split(), "cat SAT down".split())
        [('the', None), ('cat', 'cat'), ('sat', 'SAT'), (None, 'down')]
    """
    replace = _SUBSTITUTION * _differ(ref, hyp)
    costs = _costs(replace)
    pairs: Pairs = []
    row, column = len(ref), len(hyp)
    while row or column:
        both = row > 0 and column > 0
        cost = costs[row, column]
        if both and cost == costs[row - 1, column - 1] + replace[row - 1, column - 1]:
            row, column = row - 1, column - 1
            pairs.append((ref[row], hyp[column]))
        elif row and (not column or costs[row - 1, column] < costs[row, column - 1]):
            row -= 1
            pairs.append((ref[row], None))
        else:
            column -= 1
            pairs.append((None, hyp[column]))
    return pairs[::-1]


def count(pairs: Pairs) -> Counts:
    """Count the errors of an utterance.

    Example:
        >>> count(align("the cat sat".split(), "cat SAT down".split()))
        Counts(sentences=1, words=3, correct=2, substitutions=0, deletions=1,
               insertions=1, errors=2, wrong_sentences=1)
    """
    kinds = [_kind(*pair) for pair in pairs]
    correct, sub, dele, ins = (kinds.count(kind) for kind in " SDI")
    errors = sub + dele + ins
    words = correct + sub + dele
    return Counts(1, words, correct, sub, dele, ins, errors, int(errors > 0))


def percentages(counts: Counts) -> Percentages:
    """What the counts are of the words, or of the sentences; 0 where there are none.

    Example:
        >>> percentages(Counts(5, 16, 6, 5, 5, 2, 12, 5))
        Percentages(correct=37.5, substitutions=31.3, deletions=31.3, insertions=12.5,
                    errors=75.0, wrong_sentences=100.0)
    """
    of_words = [_percent(number, counts.words) for number in counts[2:7]]
    return Percentages(*of_words, _percent(counts.wrong_sentences, counts.sentences))


def read_texts(ref: PathLike, hyp: PathLike, utt2spk: PathLike) -> Texts:
    """Read Kaldi-style transcripts and speakers.

    Returns:
        Them, in the order of ``ref``. Hypotheses may be empty.

    Raises:
        DataError: If an utterance has no reference, no hypothesis or no speaker, or is
            named twice.
    """
    refs, hyps, speakers = read_table(ref), read_table(hyp), read_table(utt2spk)
    if not refs:
        raise DataError(f"{ref}: expected transcripts, found none")
    for utt in hyps:
        if utt not in refs:
            raise DataError(f"{at(hyp, hyps, utt)} expected an utterance of {ref}")
    for utt, text in refs.items():
        if not text:
            raise DataError(f"{at(ref, refs, utt)} expected a transcript, found none")
        if utt not in hyps:
            raise DataError(f"{hyp}: expected a line for {utt!r} of {ref}, found none")
        if not speakers.get(utt):
            raise DataError(
                f"{utt2spk}: expected a speaker for {utt!r} of {ref}, found none"
            )
    return Texts(refs, {utt: hyps[utt] for utt in refs}, speakers)


def build_tokenizers(
    bpemodel: PathLike | None = None, nlsyms_txt: PathLike | None = None
) -> dict:
    """ESPnet's tokenizer for each metric.

    Args:
        bpemodel: SentencePiece model. Token error rates are left out if it is no file.
        nlsyms_txt: File of non-linguistic symbols, one a line, which words and
            characters leave out.

    Raises:
        DataError: If ``nlsyms_txt`` is missing.
    """
    linguistic = {
        "non_linguistic_symbols": _read_symbols(nlsyms_txt) if nlsyms_txt else [],
        "remove_non_linguistic_symbols": True,
    }
    tokenizers = {
        "wer": WordTokenizer(**linguistic),
        "cer": CharTokenizer(**linguistic),
    }
    if bpemodel and Path(bpemodel).is_file():
        tokenizers["ter"] = SentencepiecesTokenizer(str(bpemodel))
    return tokenizers


def tokenize(table: Table, tokenizer, cleaner: str | None = None) -> Tokens:
    """Tokenize transcripts as ``espnet2.bin.tokenize_text`` does.

    Args:
        tokenizer: One of :func:`build_tokenizers`.
        cleaner: One of :data:`CLEANERS`.

    Raises:
        DataError: If a library that the cleaner needs is not installed.
    """
    clean = _cleaner(cleaner) if cleaner else str
    tokens = {}
    for utt, text in table.items():
        try:
            text = clean(" ".join(text.split()))
        except RuntimeError as error:
            raise DataError(f"cleaner {cleaner}: {error}") from error
        tokens[utt] = tokenizer.text2tokens(text)
    return tokens


def _cleaner(name: str) -> Callable[[str], str]:
    # Takes seconds; who has no cleaner need not wait.
    from espnet2.text.cleaner import TextCleaner

    return TextCleaner(name)


def find_sclite(score_opts: str = "") -> str | None:
    """Where sclite is installed.

    Raises:
        DataError: If there are options for it, but no sclite.
    """
    sclite = shutil.which("sclite")
    if score_opts.strip() and not sclite:
        raise DataError(
            f"score_opts are options of sclite, which is not on PATH: {score_opts!r}"
        )
    return sclite


def write_score(
    folder: PathLike, ref: Tokens, hyp: Tokens, speakers: Table, score_opts: str = ""
) -> Path:
    """Score hypotheses; write ``ref.trn``, ``hyp.trn`` and, last, ``result.txt``.

    Args:
        folder: Where to write them, such as ``exp/asr_x/decode_y/test/score_wer``.
        ref, hyp: utterance -> tokens.
        speakers: utterance -> speaker.
        score_opts: Further options of sclite.

    Returns:
        ``result.txt``.

    Raises:
        DataError: If sclite fails, or there are options for it, but no sclite.
    """
    folder = Path(folder)
    sclite = find_sclite(score_opts)
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.txt"
    result.unlink(missing_ok=True)
    for name, tokens in (("ref", ref), ("hyp", hyp)):
        write_text(folder / f"{name}.trn", _trn(tokens, speakers))
    if sclite:
        write_text(result, _run_sclite(sclite, folder, len(ref), score_opts))
    else:
        write_text(result, report(ref, hyp, speakers))
    return result


def report(ref: Tokens, hyp: Tokens, speakers: Table) -> str:
    """The text of ``result.txt``: tables and alignments, laid out like sclite's."""
    by_speaker: dict[str, dict[str, Pairs]] = {}
    for utt, tokens in ref.items():
        # sclite's name of a speaker: the beginning of (speaker-utterance).
        speaker = speakers[utt].split("-")[0].translate(_LOWER)
        by_speaker.setdefault(speaker, {})[utt] = align(tokens, hyp[utt])
    lines = _tables(
        {
            speaker: _total(list(map(count, utterances.values())))
            for speaker, utterances in by_speaker.items()
        }
    )
    for number, (speaker, utterances) in enumerate(by_speaker.items()):
        size = len(utterances)
        lines += ["", f"Speaker sentences {number:3}:  {speaker}   #utts: {size}"]
        for utt, pairs in utterances.items():
            lines += [f"id: ({speakers[utt]}-{utt})", *_show(pairs), ""]
    return "\n".join(lines) + "\n"


def read_results(exp_dir: PathLike) -> list[Result]:
    """Read every ``<inference tag>/<dataset>/score_<metric>/result.txt``.

    A dataset may be nested, such as ``org/dev``.

    Returns:
        A row for each, sorted by metric (as in :data:`METRICS`), tag and dataset.

    Raises:
        DataError: If there is none, or one is without sums.

    Example:
        >>> folder = getfixture("tmp_path") / "exp/asr_x/decode_y/test/score_wer"
        >>> tokens = {"utt1": ["hello", "world"]}
        >>> write_score(folder, tokens, {"utt1": ["hello"]}, {"utt1": "alice"}).name
        'result.txt'
        >>> result, = read_results(folder.parents[2])
        >>> result[:3], result.counts.deletions, result.percentages.errors
        (('decode_y', 'test', 'wer'), 1, 50.0)
    """
    results = []
    for metric in METRICS:
        for path in sorted(Path(exp_dir).glob(f"*/*/**/score_{metric}/result.txt")):
            tag, *dataset = path.relative_to(exp_dir).parts[:-2]
            counts = _read_counts(path, path.read_text("utf-8", errors="replace"))
            results.append(
                Result(tag, "/".join(dataset), metric, counts, percentages(counts))
            )
    if not results:
        raise DataError(
            f"{exp_dir}: expected results, such as decode_x/test/score_wer/result.txt "
            "(stage 13 makes them), found none"
        )
    return results


def _read_symbols(path: PathLike) -> list[str]:
    # ESPnet's tokenizers would warn of a missing file and go on, and never come back
    # from one with an empty line.
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected non-linguistic symbols: {error}") from error
    return [line.rstrip() for line in lines if line.strip()]


def _differ(ref: list[str], hyp: list[str]) -> np.ndarray:
    """Whether tokens differ: (ref tokens, hyp tokens)."""
    tokens = [token.translate(_LOWER) for token in ref + hyp]
    _, ids = np.unique(np.array(tokens, dtype=str), return_inverse=True)
    return ids[: len(ref), None] != ids[None, len(ref) :]


def _costs(replace: np.ndarray) -> np.ndarray:
    """The least costs of aligning the first tokens.

    Args:
        replace: What it costs that tokens stand for each other: (ref, hyp).

    Returns:
        (1 + ref, 1 + hyp)
    """
    rows, columns = replace.shape
    insertions = _GAP * np.arange(columns + 1)
    costs = np.empty((rows + 1, columns + 1), dtype=np.int64)
    costs[0] = insertions
    for row in range(rows):
        best = costs[row] + _GAP
        best[1:] = np.minimum(best[1:], costs[row, :-1] + replace[row])
        # A run of insertions after any of them, all at once.
        costs[row + 1] = np.minimum.accumulate(best - insertions) + insertions
    return costs


def _kind(ref: str | None, hyp: str | None) -> str:
    """The letter that sclite has for a pair: S, D, I, or a space where it is correct."""
    if ref is None:
        return "I"
    if hyp is None:
        return "D"
    return " " if ref.translate(_LOWER) == hyp.translate(_LOWER) else "S"


def _percent(number: int, of: int) -> float:
    # Halves are rounded up, unlike by round().
    return int(number / of * 100 * 10 + 0.5) / 10 if of else 0.0


def _total(rows: list[Counts]) -> Counts:
    return Counts(*map(sum, zip(*rows)))


def _trn(tokens: Tokens, speakers: Table) -> str:
    return "".join(
        f"{' '.join(words)}\t({speakers[utt]}-{utt})\n" for utt, words in tokens.items()
    )


def _run_sclite(sclite: str, folder: Path, utterances: int, score_opts: str) -> str:
    files = ["-r", str(folder / "ref.trn"), "trn", "-h", str(folder / "hyp.trn"), "trn"]
    try:
        options = shlex.split(score_opts)
    except ValueError as error:
        raise DataError(f"score_opts {score_opts!r}: {error}") from error
    done = subprocess.run(
        [sclite, *options, *files, *"-i rm -o all stdout".split()],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise DataError(f"{folder}: sclite failed: {done.stderr.strip()}")
    # Lines that begin with its comment signs are left out without an error.
    scored = _read_counts(folder, done.stdout).sentences
    if scored != utterances:
        raise DataError(
            f"{folder}: expected scores of {utterances} utterances, sclite gave {scored}: "
            f"{done.stderr.strip()}"
        )
    return done.stdout


def _read_counts(path: Path, text: str) -> Counts:
    """The last row of the table of counts."""
    found = re.search(r"^ *\| *Sum *\|([\d |]+)\|$", text, flags=re.MULTILINE)
    cells = found.group(1).replace("|", " ").split() if found else []
    if len(cells) != len(Counts._fields):
        raise DataError(f"{path}: expected sclite's tables, found no row of sums")
    return Counts(*map(int, cells))


def _tables(rows: dict[str, Counts]) -> list[str]:
    """The tables of percentages and of counts."""
    total = _total(list(rows.values()))
    percents = {speaker: _percent_cells(counts) for speaker, counts in rows.items()}
    percents["Sum/Avg"] = _sum_avg_cells(total)
    raw = {name: list(map(str, row)) for name, row in {**rows, "Sum": total}.items()}
    note = ["", "* No reference words for this speaker: counts, not percentages."]
    has_note = any(not counts.words for counts in rows.values())
    return _table(percents) + (note if has_note else []) + _table(raw)


def _percent_cells(counts: Counts) -> list[str]:
    cells = _sum_avg_cells(counts)
    if not counts.words:
        cells[2:7] = [f"{number}*" for number in counts[2:7]]
    return cells


def _sum_avg_cells(counts: Counts) -> list[str]:
    size = map(str, counts[:2])
    return [*size, *(f"{percent:.1f}" for percent in percentages(counts))]


def _table(rows: dict[str, list[str]]) -> list[str]:
    """Rows by speaker, the last of which is for all."""
    names = "# Snt", "# Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err"
    rows = {"SPKR": list(names), **rows}
    widest = max(map(_columns, rows))
    lines = []
    for name, cells in rows.items():
        numbers = [f"{cell:>7}" for cell in cells]
        size, rates = "".join(numbers[:2]), "".join(numbers[2:])
        lines.append(f"| {_pad(name, widest)} |{size} |{rates} |")
    ruler = "|" + "-" * (_columns(lines[0]) - 2) + "|"
    title = "SYSTEM SUMMARY PERCENTAGES by SPEAKER"
    last = ruler.replace("-", "=")
    return ["", title, "", ruler, lines[0], ruler, *lines[1:-1], last, lines[-1], ruler]


def _show(pairs: Pairs) -> list[str]:
    """Four lines that show an alignment: errors in capitals, gaps as stars."""
    kinds = [_kind(*pair) for pair in pairs]
    lines = ["REF: ", "HYP: ", "Eval:"]
    for kind, pair in zip(kinds, pairs):
        case = _LOWER if kind == " " else _UPPER
        width = max(_columns(token) for token in pair if token is not None)
        for line, token in enumerate(pair):
            shown = "*" * width if token is None else token.translate(case)
            lines[line] += " " + _pad(shown, width)
        lines[2] += " " + _pad(kind, width)
    scores = " ".join(str(kinds.count(kind)) for kind in " SDI")
    return [f"Scores: (#C #S #D #I) {scores}", *(line.rstrip() for line in lines)]


def _columns(text: str) -> int:
    """How many columns a terminal gives it."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))
