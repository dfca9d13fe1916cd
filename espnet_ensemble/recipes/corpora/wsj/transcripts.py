"""The corpus's detailed orthographic transcriptions (``.dot`` files)."""

import re
from pathlib import Path

from espnet_ensemble.errors import EnsembleError

NOISE = "<NOISE>"

_LINE = re.compile(r"(.+)\((\w{8})\)")
# Something heard in the word before or after ([<door_slam], [door_slam>]), the beginning or
# end of something heard over words ([phone_ring/], [/phone_ring]), the mark of a recording
# that is cut off (~), a pause (.).
_NOT_SAID = re.compile(
    r"^\[<\w+\]$|^\[\w+>\]$|\[\w+/\]$|\[/\w+\]$|^[~.]$", flags=re.ASCII
)
_NOISE = re.compile(r"\[\w+\]", flags=re.ASCII)
# Said, though the prompt has another word or none.
_DELETED = re.compile(r"^<([\w']+)>$", flags=re.ASCII)
_SPELLINGS = {"%PERCENT": "PERCENT", ".POINT": "POINT", "--DASH": "-DASH"}


def normalize(transcript: str) -> str:
    """Turn a transcription into what Kaldi's and ESPnet's recipes train and score with.

    Upper case; no escapes, no marks of what is not said; ``<NOISE>`` for a noise. Words
    keep their marks of verbalised punctuation, emphasis, lengthening, mispronunciation
    and breaking off, as they do in those recipes: numbers of words are the same.

    Example:
        >>> normalize("[loud_breath] I\\\\. B\\\\. M\\\\. <and> ,comma four --dash ~")
        '<NOISE> I. B. M. AND ,COMMA FOUR -DASH'
    """
    words = (_normalize_word(word) for word in transcript.split())
    return " ".join(word for word in words if word)


def read_dot(path: Path) -> dict[str, str]:
    """Read the transcriptions of a session.

    Returns:
        The transcriptions as they are in the file, by ``utt_id``.

    Raises:
        EnsembleError: If a line is not a transcription and an utterance.
    """
    transcripts = {}
    for number, line in enumerate(read_lines(path), start=1):
        match = _LINE.fullmatch(line)
        if match:
            transcripts[match[2].lower()] = match[1].strip()
        elif line:
            raise EnsembleError(
                f"{path}:{number}: expected a transcription and an utterance in "
                f"parentheses, found {line!r}"
            )
    return transcripts


def read_lines(path: Path) -> list[str]:
    """The lines of a text of the discs, stripped.

    Raises:
        EnsembleError: If the file cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="latin-1")
    except OSError as error:
        raise EnsembleError(
            f"{path}: expected a file, found {error.strerror}"
        ) from error
    return [line.strip() for line in text.split("\n")]


def _normalize_word(word: str) -> str | None:
    word = word.upper().replace("\\", "")
    if _NOT_SAID.search(word):
        return None
    if _NOISE.search(word):
        return NOISE
    return _SPELLINGS.get(word, _DELETED.sub(r"\1", word))
