"""What a beam search takes into account besides CTC: language models, words, hot words.

Each class is a :class:`~espnet_ensemble.decoding.beam.Scorer`. Those that know words look at
the text that tokens spell, so that they serve characters, pieces of words and words alike.
"""

import gzip
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from espnet_ensemble.decoding.beam import NEVER
from espnet_ensemble.errors import EnsembleError, name_keys
from espnet_ensemble.extras import import_extra
from espnet_ensemble.files import PathLike

SPACE, PIECE_MARK = "<space>", "▁"
_SPECIAL = {"<blank>", "<unk>", "<sos/eos>", "<s>", "</s>"}
_LN_10 = math.log(10)


def spell_tokens(tokens: Sequence[str]) -> tuple[str, ...]:
    """The text that each token of a token list adds to a transcript.

    Example:
        >>> spell_tokens(["<space>", "a"]), spell_tokens(["▁he", "llo"])
        ((' ', 'a'), (' he', 'llo'))
        >>> spell_tokens(["yes", "no"])  # tokens are words
        (' yes', ' no')
    """
    if SPACE in tokens:
        return tuple(" " if token == SPACE else token for token in tokens)
    if any(token.startswith(PIECE_MARK) for token in tokens):
        return tuple(token.replace(PIECE_MARK, " ") for token in tokens)
    return tuple(f" {token}" for token in tokens)


def check_spelling(words: Iterable[str], tokens: Sequence[str], what: str) -> None:
    """Refuse words that tokens cannot spell.

    Args:
        words: Words, or several with spaces between them.
        tokens: The token list.
        what: What the words are of, for the message.

    Raises:
        EnsembleError: If there is one.
    """
    wrong = _unspellable(words, tokens)
    if wrong:
        raise EnsembleError(
            f"{what}: expected words that the model's tokens can spell, found "
            f"{name_keys(wrong)}; check upper and lower case, or remove them"
        )


def _unspellable(words: Iterable[str], tokens: Sequence[str]) -> list[str]:
    spellings = {text for text in spell_tokens(tokens) if text.strip() not in _SPECIAL}
    longest = max(map(len, spellings), default=0)
    return [word for word in words if not _can_spell(f" {word}", spellings, longest)]


def _can_spell(text: str, spellings: set[str], longest: int) -> bool:
    reached = {0}
    for end in range(1, len(text) + 1):
        starts = range(max(0, end - longest), end)
        if any(start in reached and text[start:end] in spellings for start in starts):
            reached.add(end)
    return len(text) in reached


def import_kenlm() -> ModuleType:
    """The module that reads language models, and scores words.

    Raises:
        EnsembleError: If it is not installed.
    """
    return import_extra("kenlm", "recipes", package="kenlm-ex")


class _WordState(NamedTuple):
    """Unpacked wherever it is used: what kenlm remembers, and the word that is begun."""

    history: Any
    begun: str


class WordNgramScorer:
    """A language model of words; each is scored when it is complete.

    Args:
        model: A ``kenlm.Model``.
        tokens: The token list.
        weight: Factor of the logarithm of the probability.
        bonus: Added for each word.
    """

    def __init__(
        self, model: Any, tokens: Sequence[str], weight: float, bonus: float = 0.0
    ):
        self._lm = _Kenlm(model, weight, bonus)
        self._spellings = spell_tokens(tokens)

    def start(self) -> _WordState:
        """State before the first word."""
        return _WordState(self._lm.start(), "")

    def extend(self, state: _WordState, token_id: int) -> tuple[float, _WordState]:
        """Score of the word that the token completes, if any."""
        history, begun = state
        spelling = self._spellings[token_id]
        if " " not in spelling:
            return 0.0, _WordState(history, begun + spelling)
        *complete, begun = (begun + spelling).split(" ")
        total = 0.0
        for word in filter(None, complete):
            score, history = self._lm.extend(history, word)
            total += score
        return total, _WordState(history, begun)

    def end(self, state: _WordState) -> float:
        """Score of the last word, and of the sentence's end."""
        history, begun = state
        score = 0.0
        if begun:
            score, history = self._lm.extend(history, begun)
        return score + self._lm.end(history)


class TokenNgramScorer:
    """A language model of the tokens themselves: characters, or pieces of words.

    Args:
        model: A ``kenlm.Model``.
        tokens: The token list.
        weight: Factor of the logarithm of the probability.
        bonus: Added for each token.
    """

    def __init__(
        self, model: Any, tokens: Sequence[str], weight: float, bonus: float = 0.0
    ):
        self._lm = _Kenlm(model, weight, bonus)
        self._tokens = tokens

    def start(self) -> Any:
        """State before the first token."""
        return self._lm.start()

    def extend(self, state: Any, token_id: int) -> tuple[float, Any]:
        """Score of the token after those before it."""
        return self._lm.extend(state, self._tokens[token_id])

    def end(self, state: Any) -> float:
        """Score of the sentence's end."""
        return self._lm.end(state)


class _Kenlm:
    """Weighted scores of kenlm, natural logarithms."""

    def __init__(self, model: Any, weight: float, bonus: float):
        self._model, self._weight, self._bonus = model, weight * _LN_10, bonus
        self._state = import_kenlm().State

    def start(self) -> Any:
        state = self._state()
        self._model.BeginSentenceWrite(state)
        return state

    def extend(self, state: Any, word: str) -> tuple[float, Any]:
        after = self._state()
        score = self._model.BaseScore(state, word, after)
        return self._weight * score + self._bonus, after

    def end(self, state: Any) -> float:
        return self._weight * self._model.BaseScore(state, "</s>", self._state())


def load_ngram(
    path: PathLike, tokens: Sequence[str], weight: float, bonus: float = 0.0
) -> WordNgramScorer | TokenNgramScorer:
    """Load an n-gram language model, of words or of a model's tokens.

    It is taken for one of tokens if it knows ``<space>``, or pieces of words, or if the
    tokens are words.

    Args:
        path: ARPA, or KenLM's binary format.
        tokens: The token list.
        weight: Factor of the logarithm of the probability.
        bonus: Added for each word, or token.

    Raises:
        EnsembleError: If the file cannot be read, kenlm is not installed, or the language
            model knows other words or tokens than the token list can spell.
    """
    kenlm = import_kenlm()
    if not Path(path).is_file():
        raise EnsembleError(f"{path}: expected a language model, found no file")
    quiet = kenlm.Config()
    quiet.show_progress = False
    quiet.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        model = kenlm.Model(str(path), quiet)
    except (OSError, RuntimeError) as error:
        raise EnsembleError(
            f"{path}: expected ARPA or KenLM's binary format: {error}"
        ) from error
    marks = [t for t in tokens if t == SPACE or t.startswith(PIECE_MARK)]
    if marks and not any(mark in model for mark in marks):
        _check_words_of(path, tokens)
        return WordNgramScorer(model, tokens, weight, bonus)
    _check_tokens_of(path, model, tokens)
    return TokenNgramScorer(model, tokens, weight, bonus)


def _check_tokens_of(path: PathLike, model: Any, tokens: Sequence[str]) -> None:
    own = [token for token in tokens if token not in _SPECIAL]
    unknown = [token for token in own if token not in model]
    if 2 * len(unknown) > len(own):
        raise EnsembleError(
            f"{path}: expected a language model of the model's tokens, found that it does "
            f"not know {name_keys(unknown)} of {len(own)}"
        )


def _check_words_of(path: PathLike, tokens: Sequence[str]) -> None:
    """A few rare words may have a character that no token has; most must have none."""
    words = [word for word in _words_of_arpa(path) if word not in _SPECIAL]
    wrong = _unspellable(words, tokens)
    if 2 * len(wrong) > len(words):
        raise EnsembleError(
            f"{path}: expected a language model of words that the model's tokens can "
            f"spell, found that they cannot spell {name_keys(wrong)} of {len(words)}; "
            "check upper and lower case"
        )


def _words_of_arpa(path: PathLike) -> Iterator[str]:
    """The words of a language model; none of a binary one, which does not tell them."""
    with Path(path).open("rb") as file:
        start = file.read(64)
    is_gzip = start.startswith(b"\x1f\x8b")
    if not is_gzip and b"\\data\\" not in start:
        return
    open_text = gzip.open if is_gzip else open
    with open_text(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("\\1-grams:"):
                break
        for line in lines:
            if line.startswith("\\"):
                return
            if fields := line.split():
                yield fields[1]


class LexiconScorer:
    """Allows the words of a lexicon, and no other.

    Args:
        words: The words.
        tokens: The token list.

    Raises:
        EnsembleError: If there are none, or the tokens cannot spell one.
    """

    _END = "end"  # no character has that many letters

    def __init__(self, words: Iterable[str], tokens: Sequence[str]):
        words = list(words)
        if not words:
            raise EnsembleError("lexicon: expected words, found none")
        check_spelling(words, tokens, "lexicon")
        self._spellings = spell_tokens(tokens)
        self._root: dict = {}
        for word in words:
            node = self._root
            for char in word:
                node = node.setdefault(char, {})
            node[self._END] = {}

    def start(self) -> dict:
        """State between words."""
        return self._root

    def extend(self, state: dict, token_id: int) -> tuple[float, dict]:
        """0, or ``-inf`` where no word goes on so."""
        for char in self._spellings[token_id]:
            if char != " ":
                state = state.get(char, {})
            elif state is self._root or self._END in state:
                state = self._root
            else:
                return NEVER, state
            if not state:
                return NEVER, state
        return 0.0, state

    def end(self, state: dict) -> float:
        """0, or ``-inf`` in the middle of a word."""
        return 0.0 if state is self._root or self._END in state else NEVER


class HotWordsScorer:
    """Raises transcripts that have certain words or phrases.

    A transcript gains ``weight`` for each character of each hot phrase in it, every time
    it is there, as whole words. While the search is inside one, its part counts already;
    it is taken back where the transcript goes on otherwise. (The phrases are found with the
    automaton of A. V. Aho and M. J. Corasick, 1975.)

    Args:
        phrases: Each of one word or several.
        tokens: The token list.
        weight: Natural logarithm, for a character.

    Raises:
        EnsembleError: If the tokens cannot spell one.
    """

    def __init__(self, phrases: Iterable[str], tokens: Sequence[str], weight: float):
        phrases = [" ".join(phrase.split()) for phrase in phrases]
        check_spelling(phrases, tokens, "hot words")
        self._spellings = spell_tokens(tokens)
        self._next: list[dict[str, int]] = [{}]
        self._begun = [0.0]  # for each node: what its part of a phrase is worth
        self._found = [0.0]  # what the phrases are worth that are complete there
        self._shorter = [0]  # the longest other phrase that is begun there, too
        self._spaces: set[int] = set()  # nodes after a space
        for phrase in filter(None, phrases):
            self._add(phrase, weight)
        self._link()

    def _add(self, phrase: str, weight: float) -> None:
        node = 0
        for depth, char in enumerate(f" {phrase} "):
            if char not in self._next[node]:
                self._next[node][char] = len(self._next)
                self._next.append({})
                self._begun.append(weight * depth)
                self._found.append(0.0)
                self._shorter.append(0)
            node = self._next[node][char]
            if char == " ":
                self._spaces.add(node)
        self._found[node] = weight * len(phrase)

    def _link(self) -> None:
        """Breadth first: shorter ones are linked before longer ones need them."""
        queue = deque(self._next[0].values())
        while queue:
            node = queue.popleft()
            shorter = self._shorter[node]
            self._found[node] += self._found[shorter]
            if not self._next[node]:
                self._begun[node] = self._begun[shorter]
            for char, child in self._next[node].items():
                self._shorter[child] = self._step(shorter, char)
                queue.append(child)

    def _step(self, node: int, char: str) -> int:
        while node and char not in self._next[node]:
            node = self._shorter[node]
        return self._next[node].get(char, 0)

    def start(self) -> int:
        """State at the beginning of a word."""
        return self._step(0, " ")

    def extend(self, state: int, token_id: int) -> tuple[float, int]:
        """What phrases gain that the token completes, begins, goes on with or leaves."""
        score = -self._begun[state]
        for char in self._spellings[token_id]:
            if char == " " and state in self._spaces:
                continue  # two spaces are one
            state = self._step(state, char)
            score += self._found[state]
        return score + self._begun[state], state

    def end(self, state: int) -> float:
        """What a phrase gains that is complete; what is only begun is taken back."""
        complete = 0.0 if state in self._spaces else self._found[self._step(state, " ")]
        return complete - self._begun[state]
