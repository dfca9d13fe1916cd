"""Results of an experiment, in the folders and files of ESPnet.

.. code-block:: none

    exp/asr_x/<inference tag>/<dataset>/score_<metric>/
        ref.trn  hyp.trn    the tokens that were compared
        result.txt          tables and alignments, of sclite or laid out like its own
        counts.json         the sums, for programs
"""

import json
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from espnet_ensemble.data.tables import Table, read_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, check_keys, read_yaml, write_text
from espnet_ensemble.recipes import sclite
from espnet_ensemble.recipes.scoring import Counts, Percentages, Tokens, score_tokens

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
    folder: PathLike, ref: Tokens, hyp: Tokens, utt2spk: Table, score_opts: str = ""
) -> Path:
    """Score hypotheses, by sclite where that is installed, and write the files above.

    Args:
        folder: Where to write them, such as ``exp/asr_x/decode_y/test/score_wer``.
        ref: utt_id -> tokens that were said.
        hyp: utt_id -> tokens that were recognised.
        utt2spk: utt_id -> speaker.
        score_opts: Further options of sclite.

    Returns:
        ``result.txt``.

    Raises:
        EnsembleError: If sclite fails, or there are options for it, but no sclite.
    """
    folder = Path(folder)
    program = sclite.find_sclite(score_opts)
    folder.mkdir(parents=True, exist_ok=True)
    result, counts_file = folder / "result.txt", folder / "counts.json"
    for path in (counts_file, result):
        path.unlink(missing_ok=True)
    for name, tokens in (("ref", ref), ("hyp", hyp)):
        write_text(folder / f"{name}.trn", sclite.format_trn(tokens, utt2spk))
    if program:
        text = sclite.run_sclite(program, folder, len(ref), score_opts)
        counts = sclite.parse_counts(text, folder)
    else:
        score = score_tokens(ref, hyp, utt2spk)
        text, counts = sclite.format_score(score), score.counts
    write_text(result, text)
    # Last: counts that are older than result.txt are not believed.
    write_text(counts_file, json.dumps(asdict(counts)) + "\n")
    return result


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
        text = result.read_text(encoding="utf-8", errors="replace")
        return sclite.parse_counts(text, result)
    content = read_yaml(path)  # which JSON is, too
    check_keys(str(path), content, asdict(Counts()))
    return Counts(**content)
