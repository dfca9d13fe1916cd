"""Training of n-gram language models on Kaldi-style texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet2.text.char_tokenizer import CharTokenizer
from espnet2.text.sentencepiece_tokenizer import SentencepiecesTokenizer
from espnet2.text.word_tokenizer import WordTokenizer

from espnet_ensemble.decoding.ngram import estimate_ngram
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike
from espnet_ensemble.recipes.transcripts import tokenize


@dataclass(frozen=True)
class NgramConf:
    """What kind of language model.

    Attributes:
        ngram_num: Words in the longest n-grams, 2 or more.
        token_type: "word"; or "char" or "bpe", as the tokens of the acoustic model.
        bpemodel: The SentencePiece model, for "bpe"; "none": none.
        nlsyms_txt: File of non-linguistic symbols, which "char" leaves whole; "none": none.
        cleaner: Text cleaner; "none": none.
    """

    ngram_num: int = 3
    token_type: str = "word"
    bpemodel: str = "none"
    nlsyms_txt: str = "none"
    cleaner: str = "none"


def train_ngram(texts: Sequence[PathLike], path: PathLike, conf: NgramConf) -> int:
    """Train a language model, and write it as ARPA.

    Args:
        texts: Files with an utterance on each line: its id, and what was said.
        path: Where to write it.
        conf: What kind.

    Returns:
        The number of utterances.

    Raises:
        EnsembleError: If a text cannot be read, there is nothing to learn from, or the order
            is out of range.
    """
    tokenizer = _build_tokenizer(conf)
    cleaner = None if conf.cleaner == "none" else conf.cleaner
    lines = [line for text in texts for line in _read_lines(text)]
    # An id may be in several texts: here, each line is an utterance of its own.
    said = {str(number): line for number, line in enumerate(lines)}
    sentences = tokenize(said, tokenizer, cleaner).values()
    try:
        estimate_ngram(sentences, conf.ngram_num).write_arpa(path)
    except EnsembleError as error:
        raise EnsembleError(f"{' '.join(map(str, texts))}: {error}") from error
    return len(lines)


def _build_tokenizer(conf: NgramConf):
    # Not by ESPnet's build_tokenizer: its phonemes' library looks for updates.
    if conf.token_type == "bpe":
        return SentencepiecesTokenizer(conf.bpemodel)
    if conf.token_type == "word":
        return WordTokenizer()
    return CharTokenizer(None if conf.nlsyms_txt == "none" else conf.nlsyms_txt)


def _read_lines(path: PathLike) -> list[str]:
    """What was said in each line of a text that is not empty after the utterance's id."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnsembleError(f"{path}: cannot be read: {error}") from error
    fields = [line.split(maxsplit=1) for line in lines]
    return [pair[1] for pair in fields if len(pair) == 2]
