"""Tokens that a recipe's models spell words with: pieces of a SentencePiece model."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, atomic_write, write_text

# The first three pieces of any SentencePiece model: <unk>, <s>, </s>.
_CONTROL = 3


@dataclass(frozen=True)
class PieceConf:
    """How a SentencePiece model is trained; names and defaults as in ESPnet's asr.sh.

    Attributes:
        nbpe: Number of pieces.
        bpemode: unigram or bpe.
        bpe_char_cover: Share of the characters that the pieces cover, in (0, 1].
        bpe_input_sentence_size: At most how many lines it is trained on.
        bpe_nlsyms: Non-linguistic symbols, each of them a piece.
    """

    nbpe: int = 30
    bpemode: str = "unigram"
    bpe_char_cover: float = 1.0
    bpe_input_sentence_size: int = 100000000
    bpe_nlsyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Symbols:
    """Tokens that ESPnet has besides the pieces.

    Attributes:
        blank: That of CTC, the first.
        oov: For what no piece covers, the second.
        sos_eos: Where an utterance starts and ends, the last.
    """

    blank: str = "<blank>"
    oov: str = "<unk>"
    sos_eos: str = "<sos/eos>"


def train_pieces(
    texts: Sequence[PathLike],
    output_dir: PathLike,
    conf: PieceConf,
    symbols: Symbols,
) -> list[str]:
    """Train a SentencePiece model, and write the token list that ESPnet wants.

    Args:
        texts: Kaldi-style text files; utterances without text count for nothing.
        output_dir: Gets ``bpe.model``, ``bpe.vocab`` (its pieces and their scores) and,
            last, ``tokens.txt``.
        conf: How the model is trained.
        symbols: What the token list has besides its pieces.

    Returns:
        The tokens, in the order of ``tokens.txt``.

    Raises:
        DataError: If a text is missing or malformed.
        EnsembleError: If the texts do not suffice for so many pieces, or have characters
            of more.
    """
    lines = [line for path in texts for line in read_table(path).values() if line]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=conf.nbpe,
            model_type=conf.bpemode,
            character_coverage=conf.bpe_char_cover,
            input_sentence_size=conf.bpe_input_sentence_size,
            user_defined_symbols=list(conf.bpe_nlsyms),
            minloglevel=1,
        )
    except RuntimeError as error:
        names = " ".join(map(str, texts))
        raise EnsembleError(f"{names}: --nbpe {conf.nbpe}: {error}") from error
    return _write(Path(output_dir), model.getvalue(), symbols)


def _write(output_dir: Path, model: bytes, symbols: Symbols) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = range(len(processor))
    pieces = [processor.id_to_piece(i) for i in ids]
    vocab = [f"{pieces[i]}\t{processor.get_score(i):g}" for i in ids]
    tokens = [symbols.blank, symbols.oov, *pieces[_CONTROL:], symbols.sos_eos]
    output_dir.mkdir(parents=True, exist_ok=True)
    with atomic_write(output_dir / "bpe.model") as part:
        part.write_bytes(model)
    write_text(output_dir / "bpe.vocab", "\n".join(vocab) + "\n")
    write_text(output_dir / "tokens.txt", "\n".join(tokens) + "\n")
    return tokens
