"""CTM files: the words of many utterances, with times and confidences, a line for each.

``utt_id channel start duration word confidence``, as NIST's scoring toolkit and Kaldi have
it; times are in seconds from the utterance's beginning.
"""

import math
from collections.abc import Mapping, Sequence

from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, write_text

_CHANNEL = "1"


def write_ctm(path: PathLike, words: Mapping[str, Sequence[Word]]) -> None:
    """Write a CTM file, all of it or nothing, sorted by utterance.

    Args:
        path: Where to.
        words: utt_id -> words. An utterance without words has no line.

    Example:
        >>> path = getfixture("tmp_path") / "ctm"
        >>> write_ctm(path, {"utt1": [Word("hello", 0.12, 0.5, 0.98)], "utt2": []})
        >>> path.read_text()
        'utt1 1 0.120 0.380 hello 0.980000\\n'
        >>> read_ctm(path)
        {'utt1': [Word(text='hello', start=0.12, end=0.5, confidence=0.98)]}
    """
    write_text(path, "".join(format_ctm(key, words[key]) for key in sorted(words)))


def format_ctm(utt_id: str, words: Sequence[Word]) -> str:
    """The lines of an utterance."""
    return "".join(
        f"{utt_id} {_CHANNEL} {word.start:.3f} {word.end - word.start:.3f} {word.text} "
        f"{word.confidence:.6f}\n"
        for word in words
    )


def read_ctm(path: PathLike) -> dict[str, list[Word]]:
    """Read a CTM file.

    Returns:
        utt_id -> words, in the order of the file, of utterances that have some.

    Raises:
        EnsembleError: If it is missing, or a line is not as above.
    """
    words: dict[str, list[Word]] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.startswith(";;"):
                    utt_id, word = _parse(line, f"{path}:{number}")
                    words.setdefault(utt_id, []).append(word)
    except (OSError, UnicodeDecodeError) as error:
        raise EnsembleError(f"{path}: expected a CTM file: {error}") from error
    return words


def _parse(line: str, where: str) -> tuple[str, Word]:
    try:
        utt_id, _, start, duration, text, confidence = line.split()
        word = Word(
            text,
            float(start),
            round(float(start) + float(duration), 6),
            float(confidence),
        )
        if not (0 <= word.start <= word.end < math.inf and 0 <= word.confidence <= 1):
            raise ValueError(line)
    except ValueError:
        raise EnsembleError(
            f"{where}: expected 'utt_id channel start duration word confidence', the "
            f"confidence from 0 to 1, found {line.rstrip()!r}"
        ) from None
    return utt_id, word
