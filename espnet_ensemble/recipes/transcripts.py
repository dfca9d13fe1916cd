"""Transcripts to be scored: read from Kaldi's files, and split into tokens by ESPnet."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet2.text.char_tokenizer import CharTokenizer
from espnet2.text.sentencepiece_tokenizer import SentencepiecesTokenizer
from espnet2.text.word_tokenizer import WordTokenizer

from espnet_ensemble.data.tables import Table, at, read_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike
from espnet_ensemble.recipes.scoring import Tokens

#: ESPnet's ways of cleaning text.
CLEANERS = (
    "tacotron",
    "jaconv",
    "vietnamese",
    "korean_cleaner",
    "whisper_en",
    "whisper_basic",
)


@dataclass(frozen=True)
class Transcripts:
    """What was said and what was recognised, of the same utterances.

    Attributes:
        ref: utt_id -> what was said.
        hyp: utt_id -> what was recognised, in the order of ``ref``; may be empty.
        utt2spk: utt_id -> speaker, of more utterances perhaps.
    """

    ref: Table
    hyp: Table
    utt2spk: Table


def read_transcripts(ref: PathLike, hyp: PathLike, utt2spk: PathLike) -> Transcripts:
    """Read Kaldi-style transcripts and speakers.

    Raises:
        EnsembleError: If an utterance has no reference, no hypothesis or no speaker, or
            is named twice.
    """
    refs, hyps, speakers = read_table(ref), read_table(hyp), read_table(utt2spk)
    if not refs:
        raise EnsembleError(f"{ref}: expected transcripts, found none")
    for utt_id in hyps:
        if utt_id not in refs:
            raise EnsembleError(
                f"{at(Path(hyp), hyps, utt_id)} expected an utterance of {ref}"
            )
    for utt_id, text in refs.items():
        if not text:
            raise EnsembleError(
                f"{at(Path(ref), refs, utt_id)} expected a transcript, found none"
            )
        if utt_id not in hyps:
            raise EnsembleError(
                f"{hyp}: expected a line for {utt_id!r} of {ref}, found none"
            )
        if not speakers.get(utt_id):
            raise EnsembleError(
                f"{utt2spk}: expected a speaker for {utt_id!r} of {ref}, found none"
            )
    return Transcripts(refs, {utt_id: hyps[utt_id] for utt_id in refs}, speakers)


def build_tokenizers(
    bpemodel: PathLike | None = None, nlsyms_txt: PathLike | None = None
) -> dict:
    """Build ESPnet's tokenizer for each metric.

    Args:
        bpemodel: SentencePiece model. Token error rates are left out if it is no file.
        nlsyms_txt: File of non-linguistic symbols, one a line, which words and
            characters leave out.

    Returns:
        "wer", "cer" and, with a model, "ter" -> tokenizer

    Raises:
        EnsembleError: If ``nlsyms_txt`` is missing.
    """
    linguistic = {
        "non_linguistic_symbols": _read_symbols(nlsyms_txt) if nlsyms_txt else [],
        "remove_non_linguistic_symbols": True,
    }
    tokenizers = {
        "wer": _Words(**linguistic),
        "cer": _Characters(**linguistic),
    }
    if bpemodel and Path(bpemodel).is_file():
        tokenizers["ter"] = SentencepiecesTokenizer(str(bpemodel))
    return tokenizers


def tokenize(table: Table, tokenizer, cleaner: str | None = None) -> Tokens:
    """Tokenize transcripts as ``espnet2.bin.tokenize_text`` does.

    Args:
        table: utt_id -> transcript.
        tokenizer: One of :func:`build_tokenizers`.
        cleaner: One of :data:`CLEANERS`.

    Returns:
        The tokens of each, made when they are asked for, as they take much more memory than
        the transcripts.

    Raises:
        EnsembleError: If a library that the cleaner needs is not installed.
    """
    clean = _cleaner(cleaner) if cleaner else str
    try:
        clean("")
    except RuntimeError as error:
        raise EnsembleError(f"cleaner {cleaner}: {error}") from error
    return _Tokenized(table, clean, tokenizer)


class _Tokenized(Mapping):
    def __init__(self, table: Table, clean: Callable[[str], str], tokenizer):
        self._table, self._clean, self._tokenizer = table, clean, tokenizer

    def __getitem__(self, utt_id: str) -> list[str]:
        text = " ".join(self._table[utt_id].split())
        return self._tokenizer.text2tokens(self._clean(text))

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


class _Characters(CharTokenizer):
    """ESPnet's, without its loop over what may begin with a symbol where nothing does."""

    def text2tokens(self, line: str) -> list[str]:
        if any(symbol in line for symbol in self.non_linguistic_symbols):
            return super().text2tokens(line)
        tokens: list[str] = []
        for word in line.split(" "):
            tokens += word
            tokens.append(self.space_symbol)
        del tokens[-1]  # none follows the last word
        return tokens


class _Words(WordTokenizer):
    """ESPnet's, without its loop where there is no symbol."""

    def text2tokens(self, line: str) -> list[str]:
        if self.non_linguistic_symbols:
            return super().text2tokens(line)
        return line.split(self.delimiter)


def _cleaner(name: str) -> Callable[[str], str]:
    # Takes seconds; who has no cleaner need not wait.
    from espnet2.text.cleaner import TextCleaner

    return TextCleaner(name)


def _read_symbols(path: PathLike) -> list[str]:
    # ESPnet's tokenizers would warn of a missing file and go on, and never come back
    # from one with an empty line.
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnsembleError(
            f"{path}: expected non-linguistic symbols: {error}"
        ) from error
    return [line.rstrip() for line in lines if line.strip()]
