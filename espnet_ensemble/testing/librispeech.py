"""Small corpora in the layout of LibriSpeech and Libri-Light."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile

FS = 16000
WORDS = "MISTER QUILTER IS THE APOSTLE OF MIDDLE CLASSES DON'T".split()
PARTS = ("train-clean-100", "dev-clean", "dev-other", "test-clean", "test-other")

#: Gives a text and its speech, (samples,), in [-1, 1], 16 kHz.
Speak = Callable[[np.random.Generator], tuple[str, np.ndarray]]
#: Utterance -> text and number of samples.
Made = dict[str, tuple[str, int]]


def noise(rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Noise of less than a second, and 2 to 5 words."""
    samples = 0.05 * rng.standard_normal(int(rng.integers(4000, 12000)))
    return " ".join(rng.choice(WORDS, size=int(rng.integers(2, 6)))), samples


def make_chapter(
    folder: Path,
    reader: int,
    chapter: int,
    numbers: Iterable[int] = range(2),
    speak: Speak = noise,
) -> Made:
    """Write a chapter: folder/reader/chapter/{*.flac,*.trans.txt}.

    Args:
        numbers: Of its utterances.
        speak: Gives what the reader says.
    """
    place = folder / str(reader) / str(chapter)
    place.mkdir(parents=True, exist_ok=True)
    made = {}
    for number in numbers:
        utterance = f"{reader}-{chapter}-{number:04d}"
        text, samples = speak(np.random.default_rng([reader, chapter, number]))
        soundfile.write(place / f"{utterance}.flac", samples, FS, subtype="PCM_16")
        made[utterance] = (text, len(samples))
    lines = "".join(f"{utterance} {text}\n" for utterance, (text, _) in made.items())
    (place / f"{reader}-{chapter}.trans.txt").write_text(lines)
    return made


def make_librispeech(
    folder: Path, parts: Iterable[str] = PARTS, speak: Speak = noise
) -> dict[str, Made]:
    """Write a corpus of two readers for each part, one of them with two chapters.

    Args:
        folder: ``LibriSpeech``.
        parts: Such as ``dev-clean``.
        speak: Gives what the readers say.

    Returns:
        Part -> what it has.
    """
    made = {}
    for number, part in enumerate(parts):
        reader = 19 + 100 * number
        made[part] = make_chapter(folder / part, reader, 198, speak=speak)
        made[part].update(make_chapter(folder / part, reader, 227, range(3), speak))
        # Sorts after the other as a number, before it as a string.
        made[part].update(make_chapter(folder / part, 1000 + reader, 4, speak=speak))
    for name in ("BOOKS", "CHAPTERS", "LICENSE", "README", "SPEAKERS"):
        (folder / f"{name}.TXT").write_text("LibriSpeech\n")
    return made


def make_librilight(folder: Path, speak: Speak = noise) -> Made:
    """Write the 10 hours: some utterances of a chapter are in 1h, the rest in 9h.

    Args:
        folder: ``librispeech_finetuning``.
        speak: Gives what the readers say.
    """
    made = {}
    for kind, first in (("clean", 60), ("other", 70)):
        for fold in range(6):
            for place, numbers in ((f"1h/{fold}", (0, 1)), ("9h", (2,))):
                chapter = folder / place / kind
                made.update(make_chapter(chapter, first + fold, 5, numbers, speak))
    (folder / "phones").mkdir()
    (folder / "phones" / "10h_phones.txt").write_text("60-5-0000 1 1 2 2\n")
    return made
