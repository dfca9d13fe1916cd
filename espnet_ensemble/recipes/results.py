"""Results of an experiment, in the folders and files of ESPnet.

.. code-block:: none

    exp/asr_x/<inference tag>/<dataset>/score_<metric>/
        ref.trn  hyp.trn    the tokens that were compared
        result.txt          tables and alignments, of sclite or laid out like its own
        counts.json         the sums, for programs
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Container, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import tee
from operator import add
from pathlib import Path
from typing import IO

from espnet_ensemble.data.tables import Table, read_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import (
    PathLike,
    atomic_write,
    check_keys,
    read_yaml,
    write_text,
)
from espnet_ensemble.recipes import sclite
from espnet_ensemble.recipes.scoring import (
    Counts,
    Percentages,
    ScoredUtterance,
    Tokens,
    find_all_edits,
)

#: Error rates of words, characters and tokens.
METRICS = ("wer", "cer", "ter")


@dataclass(frozen=True)
class DatasetResult:
    """The errors on one dataset: what one folder ``score_<metric>`` says.

    Attributes:
        inference_tag: Folder of the decoding.
        dataset: Its name, such as ``test`` or ``org/dev``.
        metric: One of :data:`METRICS`.
        counts: Sums over all utterances.
    """

    inference_tag: str
    dataset: str
    metric: str
    counts: Counts

    @property
    def percentages(self) -> Percentages:
        """Shares of the words, or of the sentences."""
        return self.counts.percentages


def write_score(
    folder: PathLike,
    ref: Tokens,
    hyp: Tokens,
    utt2spk: Table,
    score_opts: str = "",
    use_sclite: bool = False,
) -> Path:
    """Score hypotheses, and write the files above.

    Each utterance's tokens are asked for once, and are not kept.

    Args:
        folder: Where to write them, such as ``exp/asr_x/decode_y/test/score_wer``.
        ref: utt_id -> tokens that were said.
        hyp: utt_id -> tokens that were recognised.
        utt2spk: utt_id -> speaker.
        score_opts: Options of sclite, which then scores.
        use_sclite: Whether sclite scores in any case.

    Returns:
        ``result.txt``.

    Raises:
        EnsembleError: If sclite is asked for, but not there, or fails.
    """
    folder = Path(folder)
    by_sclite = use_sclite or bool(score_opts.strip())
    if by_sclite:
        sclite.find_sclite()
    folder.mkdir(parents=True, exist_ok=True)
    result, counts_file = folder / "result.txt", folder / "counts.json"
    for path in (counts_file, result):
        path.unlink(missing_ok=True)
    if by_sclite:
        _write_trn(folder, ref, hyp, utt2spk)
        counts = sclite.run_sclite(folder, len(ref), score_opts)
    else:
        counts = _write_result(folder, ref, hyp, utt2spk)
    # Last: counts that are older than result.txt are not believed.
    write_text(counts_file, json.dumps(asdict(counts)) + "\n")
    return result


@dataclass
class _Part:
    """What one speaker has in a file of alignments: sums, and where they are."""

    sums: list[int] = field(default_factory=lambda: [*vars(Counts()).values()])
    spans: list[tuple[int, int]] = field(default_factory=list)

    def add(self, counts: Counts, start: int, end: int) -> None:
        self.sums = list(map(add, self.sums, vars(counts).values()))
        if self.spans and self.spans[-1][1] == start:
            start, _ = self.spans.pop()
        self.spans.append((start, end))

    @property
    def counts(self) -> Counts:
        return Counts(*self.sums)


def _write_result(folder: Path, ref: Tokens, hyp: Tokens, utt2spk: Table) -> Counts:
    """Write the transcripts and, speaker by speaker, their alignments."""
    parts: defaultdict[str, _Part] = defaultdict(_Part)
    # The tables come first and are known last.
    with tempfile.TemporaryFile(dir=folder) as alignments:
        end = 0
        for utterance in _score_each(folder, ref, hyp, utt2spk):
            start = end
            end += alignments.write(sclite.format_alignment(utterance).encode())
            parts[sclite.speaker_name(utterance.spk)].add(utterance.counts, start, end)
        with (
            atomic_write(folder / "result.txt") as path,
            open(path, "wb") as result,
        ):
            tables = {speaker: part.counts for speaker, part in parts.items()}
            result.write(sclite.format_tables(tables).encode())
            for number, (speaker, part) in enumerate(parts.items()):
                size = part.counts.sentences
                result.write(sclite.format_speaker(number, speaker, size).encode())
                for span in part.spans:
                    _copy(alignments, span, result)
    return sum(tables.values(), Counts())


def _score_each(
    folder: Path, ref: Tokens, hyp: Tokens, utt2spk: Table
) -> Iterator[ScoredUtterance]:
    """Score utterances while their transcripts are written."""
    written, compared = tee(_write_each(folder, ref, hyp, utt2spk))
    # Read ahead by some hundreds.
    edits = find_all_edits((said, heard) for _, said, heard in compared)
    for (utt_id, said, heard), found in zip(written, edits, strict=True):
        yield ScoredUtterance(utt_id, utt2spk[utt_id], said, heard, tuple(found))


def _write_trn(folder: Path, ref: Tokens, hyp: Tokens, utt2spk: Table) -> None:
    for _ in _write_each(folder, ref, hyp, utt2spk):
        pass


def _write_each(
    folder: Path, ref: Tokens, hyp: Tokens, utt2spk: Table
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Write the transcripts; yields utterances with both."""
    with ExitStack() as stack:
        files = [
            stack.enter_context(open(part, "w", encoding="utf-8", newline="\n"))
            for part in [
                stack.enter_context(atomic_write(folder / f"{name}.trn"))
                for name in ("ref", "hyp")
            ]
        ]
        for utt_id, said in ref.items():
            heard = hyp[utt_id]
            for file, tokens in zip(files, (said, heard), strict=True):
                file.write(sclite.format_trn(utt_id, utt2spk[utt_id], tokens))
            yield utt_id, said, heard


def _copy(source: IO[bytes], span: tuple[int, int], target: IO[bytes]) -> None:
    start, end = span
    source.seek(start)
    while start < end:
        piece = source.read(min(end - start, 1 << 20))
        target.write(piece)
        start += len(piece)


def read_results(exp_dir: PathLike) -> list[DatasetResult]:
    """Read every ``<inference tag>/<dataset>/score_<metric>`` that has a ``result.txt``.

    A dataset may be nested, such as ``org/dev``.

    Returns:
        One for each, sorted by metric (as in :data:`METRICS`), tag and dataset.

    Raises:
        EnsembleError: If there is none, or one is without sums.

    Example:
        >>> folder = getfixture("tmp_path") / "exp/asr_x/decode_y/test/score_wer"
        >>> tokens = {"utt1": ["hello", "world"]}
        >>> write_score(folder, tokens, {"utt1": ["hello"]}, {"utt1": "alice"}).name
        'result.txt'
        >>> result, = read_results(folder.parents[2])
        >>> result.inference_tag, result.dataset, result.metric
        ('decode_y', 'test', 'wer')
        >>> result.counts.deletions, result.percentages.errors
        (1, 50.0)
    """
    results = []
    for metric in METRICS:
        for path in sorted(Path(exp_dir).glob(f"*/*/**/score_{metric}/result.txt")):
            tag, *dataset = path.relative_to(exp_dir).parts[:-2]
            counts = _read_counts(path)
            results.append(DatasetResult(tag, "/".join(dataset), metric, counts))
    if not results:
        raise EnsembleError(
            f"{exp_dir}: expected results, such as decode_x/test/score_wer/result.txt "
            "(stage 13 makes them), found none"
        )
    return results


@dataclass(frozen=True)
class ScoredWords:
    """The words that were compared, by utterance.

    Attributes:
        ref: utt_id -> words that were said, in the order of ``ref.trn``.
        hyp: utt_id -> words that were recognised.
        utt2spk: utt_id -> speaker.
    """

    ref: Tokens
    hyp: Tokens
    utt2spk: Table


def read_scored_words(folder: PathLike) -> ScoredWords:
    """Read the words of a decoded dataset that has been scored.

    Args:
        folder: Of the dataset, such as ``exp/asr_x/decode_y/test``.

    Raises:
        EnsembleError: If it has not been scored, or there is no ``text``.
    """
    scored = Path(folder) / "score_wer"
    if not (scored / "hyp.trn").exists():
        raise EnsembleError(f"{folder}: expected score_wer (stage 13 makes it)")
    ref, hyp = (
        sclite.parse_trn((scored / f"{name}.trn").read_text(encoding="utf-8"))
        for name in ("ref", "hyp")
    )
    decoded = read_table(Path(folder) / "text")
    names = {key: _utt_id(key, decoded) for key in ref}
    return ScoredWords(
        {names[key]: words.split() for key, words in ref.items()},
        {names[key]: words.split() for key, words in hyp.items()},
        {utt_id: key.removesuffix(f"-{utt_id}") for key, utt_id in names.items()},
    )


def first_transcripts(
    words: ScoredWords, number: int
) -> Iterator[tuple[str, str, str]]:
    """Pick the first utterance of as many speakers.

    Yields:
        The speaker, the words that were said, and those that were recognised.
    """
    first: dict[str, str] = {}
    for utt_id in words.ref:
        first.setdefault(words.utt2spk[utt_id], utt_id)
    for spk, utt_id in list(first.items())[:number]:
        yield spk, " ".join(words.ref[utt_id]), " ".join(words.hyp[utt_id])


def _utt_id(key: str, utt_ids: Container[str]) -> str:
    """The utterance of "speaker-utterance", either of which may have more of the signs."""
    parts = key.split("-")
    endings = ("-".join(parts[start:]) for start in range(1, len(parts)))
    return next((ending for ending in endings if ending in utt_ids), key)


def _read_counts(result: Path) -> Counts:
    """The sums that belong to a ``result.txt``."""
    path = result.with_name("counts.json")
    # Without counts: of version 0.1, or by ESPnet's own asr.sh, which may also have
    # written result.txt anew.
    if not path.exists() or path.stat().st_mtime_ns < result.stat().st_mtime_ns:
        return sclite.read_counts(result, result)
    content = read_yaml(path)  # which JSON is, too
    check_keys(str(path), content, asdict(Counts()))
    return Counts(**content)
