"""Beam search over batches, with all that may count: read from the files a user gives."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.decoding.beam import BeamOptions, Scorer, beam_search
from espnet_ensemble.decoding.hypothesis import Hypothesis
from espnet_ensemble.decoding.scorers import HotWordsScorer, LexiconScorer, load_ngram
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike

# Type of an option's default -> what a value may be, and what that is called.
_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    type(None): ((str, Path), "a path"),
}
#: Options of ``decode`` that the search for the best path cannot follow.
BEAM_ONLY = ("ngram_file", "lexicon", "hotwords", "utt2hotwords")
#: Options of ``decode`` that say how any speech is searched.
SEARCH_OPTIONS = (
    "search",
    "beam_size",
    "token_threshold",
    "beam_threshold",
    "ngram_file",
    "ngram_weight",
    "word_bonus",
    "lexicon",
    "hotwords",
    "hotwords_weight",
)


@dataclass(frozen=True)
class BeamConf:
    """What a beam search is made of.

    Attributes:
        options: How wide it is.
        ngram_file: An n-gram language model of words or tokens; None: none.
        ngram_weight: Factor of its log-probabilities.
        word_bonus: Added for each word, or token, that the language model scores.
        lexicon: A file with an allowed word at the beginning of each line; None: all are
            allowed.
        hotwords: A file with a word or phrase on each line that is raised; None: none.
        utt2hotwords: A file with those of single utterances: ``utt_id phrase, phrase``;
            None: none.
        hotwords_weight: Added for each of their characters.
    """

    options: BeamOptions = field(default_factory=BeamOptions)
    ngram_file: PathLike | None = None
    ngram_weight: float = 0.9
    word_bonus: float = 0.0
    lexicon: PathLike | None = None
    hotwords: PathLike | None = None
    utt2hotwords: PathLike | None = None
    hotwords_weight: float = 1.0

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "BeamConf":
        """Take what options of ``decode`` say; None and what is missing are the defaults.

        Args:
            options: Option -> value; those about anything else stay out.

        Raises:
            EnsembleError: If a value is no number, or no path.

        Example:
            >>> conf = BeamConf.of({"beam_size": 20, "word_bonus": None, "nbest": 3})
            >>> conf.options.beam_size, conf.word_bonus
            (20, 0.0)
        """
        width = BeamOptions(**_given(BeamOptions(), options))
        return cls(width, **_given(cls(), options))

    def to_options(self) -> dict[str, Any]:
        """The options that say it: option -> value; None is left out."""
        said = {**asdict(self), **asdict(self.options)}
        del said["options"]
        return {name: value for name, value in said.items() if value is not None}


def wants_beam(options: Mapping[str, Any]) -> bool:
    """Whether options of ``decode`` ask for a beam search, or need one.

    Raises:
        EnsembleError: If they ask for the best path, and for what it cannot give.

    Example:
        >>> wants_beam({"beam_size": 20}), wants_beam({"ngram_file": "lm.arpa"})
        (False, True)
    """
    needed_by = [name for name in BEAM_ONLY if options.get(name)]
    needed_by += ["nbest"] * ((options.get("nbest") or 1) > 1)
    if options.get("search") == "greedy" and needed_by:
        raise EnsembleError(f"--{needed_by[0]} is for --search beam, found greedy")
    return options.get("search") == "beam" or bool(needed_by)


class BeamSearch:
    """A :class:`~espnet_ensemble.decoding.decoder.Search` for the transcripts whose paths
    are the most probable together.

    Args:
        tokens: The token list.
        conf: What the search is made of.
        nbest: Transcripts to find of each utterance, at most.
        blank_id: Index of CTC's blank.

    Raises:
        EnsembleError: If a file cannot be read, or does not fit the token list.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        conf: BeamConf = BeamConf(),
        nbest: int = 1,
        blank_id: int = 0,
    ):
        self.name = f"beam {conf.options.beam_size}"
        self._options, self._nbest, self._blank_id = conf.options, nbest, blank_id
        self._tokens, self._conf = tokens, conf
        self._scorers = _make_scorers(tokens, conf)
        self._of_utt = _read_utt2hotwords(tokens, conf)

    def with_hotwords(self, phrases: Sequence[str]) -> "BeamSearch":
        """The same search, which raises these words and phrases, too.

        Raises:
            EnsembleError: If the tokens cannot spell one.
        """
        search = copy(self)
        scorer = HotWordsScorer(phrases, self._tokens, self._conf.hotwords_weight)
        search._scorers = [*self._scorers, scorer]
        return search

    def __call__(
        self, utt_ids: Sequence[str], log_probs: Tensor, lengths: Tensor
    ) -> list[list[Hypothesis]]:
        """The best transcripts of each utterance, the best first."""
        batch = zip(utt_ids, log_probs.cpu(), lengths.tolist(), strict=True)
        return [self._search(utt_id, rows[:length]) for utt_id, rows, length in batch]

    def _search(self, utt_id: str, log_probs: Tensor) -> list[Hypothesis]:
        scorers = [*self._scorers]
        if utt_id in self._of_utt:
            scorers.append(self._of_utt[utt_id])
        return beam_search(
            log_probs, self._options, scorers, self._nbest, self._blank_id
        )


def _given(defaults: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that a dataclass of numbers and paths has, and that are given."""
    names = [f.name for f in fields(defaults) if f.name != "options"]
    given = {name: options[name] for name in names if options.get(name) is not None}
    for name, value in given.items():
        kinds, expected = _KINDS[type(getattr(defaults, name))]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise EnsembleError(f"{name}: expected {expected}, found {value!r}")
    return given


def _make_scorers(tokens: Sequence[str], conf: BeamConf) -> list[Scorer]:
    scorers: list[Scorer] = []
    # It comes first: what it forbids, the others need not score.
    if conf.lexicon:
        words = [line.split()[0] for line in _read_lines(conf.lexicon)]
        scorers.append(LexiconScorer(words, tokens))
    if conf.ngram_file:
        scorers.append(
            load_ngram(conf.ngram_file, tokens, conf.ngram_weight, conf.word_bonus)
        )
    if conf.hotwords:
        phrases = _read_lines(conf.hotwords)
        scorers.append(HotWordsScorer(phrases, tokens, conf.hotwords_weight))
    return scorers


def _read_utt2hotwords(
    tokens: Sequence[str], conf: BeamConf
) -> Mapping[str, HotWordsScorer]:
    if not conf.utt2hotwords:
        return {}
    return {
        utt_id: HotWordsScorer(phrases.split(","), tokens, conf.hotwords_weight)
        for utt_id, phrases in read_table(conf.utt2hotwords).items()
    }


def _read_lines(path: PathLike) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EnsembleError(f"{path}: cannot be read: {error}") from error
    return [line for line in text.splitlines() if line.strip()]
