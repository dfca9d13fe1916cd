"""The tokens of a CTC model, and the text that they spell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from espnet_ensemble.errors import EnsembleError

#: ESPnet's token for a space.
SPACE = "<space>"


@dataclass(frozen=True)
class Vocabulary:
    """What a CTC layer's outputs stand for.

    Attributes:
        tokens: The token list, in the order of the outputs.
        join: Makes text of tokens: ESPnet's ``tokens2text``. Two vocabularies are equal
            whatever it is.
        blank_id: Index of CTC's blank.
        word_boundary: ``"<space>"``: a token that stands between words. ``"▁"``: what the
            first token of a word begins with. None: every token is a word.

    Raises:
        EnsembleError: If the blank is no token.

    Example:
        >>> letters = Vocabulary(("<blank>", "<space>", "a", "b"), "".join)
        >>> letters.to_tokens([2, 3]), letters.to_text([2, 3])
        (['a', 'b'], 'ab')
    """

    tokens: tuple[str, ...]
    join: Callable[[list[str]], str] = field(compare=False, repr=False)
    blank_id: int = 0
    word_boundary: str | None = SPACE

    def __post_init__(self):
        if not 0 <= self.blank_id < len(self.tokens):
            raise EnsembleError(
                f"blank_id: expected 0 to {len(self.tokens) - 1}, found {self.blank_id}"
            )

    @property
    def boundary_id(self) -> int | None:
        """Index of the token that stands between words; None: there is none."""
        if self.word_boundary != SPACE or SPACE not in self.tokens:
            return None
        return self.tokens.index(SPACE)

    def __len__(self) -> int:
        return len(self.tokens)

    def to_tokens(self, token_ids: Sequence[int]) -> list[str]:
        """The tokens at these indices."""
        return [self.tokens[token_id] for token_id in token_ids]

    def to_text(self, token_ids: Sequence[int]) -> str:
        """The text that these tokens spell."""
        return self.join(self.to_tokens(token_ids))
