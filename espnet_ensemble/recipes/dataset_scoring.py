"""Scoring of a decoded dataset with all metrics: what stage 13 does with each."""

from dataclasses import dataclass
from pathlib import Path

from espnet_ensemble.files import PathLike
from espnet_ensemble.recipes.results import write_score
from espnet_ensemble.recipes.sclite import find_sclite
from espnet_ensemble.recipes.transcripts import (
    Transcripts,
    build_tokenizers,
    tokenize,
)


@dataclass(frozen=True)
class ScoringOptions:
    """How transcripts are compared.

    Attributes:
        bpemodel: SentencePiece model; no token error rate if it is no file.
        nlsyms_txt: File of non-linguistic symbols, which words and characters leave out.
        cleaner: Text cleaner of the references.
        hyp_cleaner: Text cleaner of the hypotheses.
        score_opts: Options of sclite, which then scores.
        use_sclite: Whether sclite scores in any case.
    """

    bpemodel: PathLike | None = None
    nlsyms_txt: PathLike | None = None
    cleaner: str | None = None
    hyp_cleaner: str | None = None
    score_opts: str = ""
    use_sclite: bool = False


def score_dataset(
    texts: Transcripts, folder: PathLike, options: ScoringOptions
) -> dict[str, Path]:
    """Write ``score_wer``, ``score_cer`` and, with a BPE model, ``score_ter``.

    Args:
        texts: What was said and what was recognised.
        folder: Where to, such as ``exp/asr_x/decode_y/test``.
        options: How to compare.

    Returns:
        Metric -> its ``result.txt``.

    Raises:
        EnsembleError: If the options cannot be met; then nothing is written.
    """
    if options.use_sclite or options.score_opts.strip():
        find_sclite()
    return {
        metric: write_score(
            Path(folder) / f"score_{metric}",
            tokenize(texts.ref, tokenizer, options.cleaner),
            tokenize(texts.hyp, tokenizer, options.hyp_cleaner),
            texts.utt2spk,
            options.score_opts,
            options.use_sclite,
        )
        for metric, tokenizer in build_tokenizers(
            options.bpemodel, options.nlsyms_txt
        ).items()
    }
