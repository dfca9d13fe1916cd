"""Small corpora in the layout of LibriSpeech and Libri-Light."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

FS = 16000
WORDS = "MISTER QUILTER IS THE APOSTLE OF MIDDLE CLASSES DON'T".split()
PARTS = ("train-clean-100", "dev-clean", "dev-other", "test-clean", "test-other")


@dataclass(frozen=True)
class Speech:
    """A text, and its speech: (samples,), in [-1, 1], 16 kHz."""

    text: str
    samples: np.ndarray


#: Says the next thing.
Reader = Callable[[np.random.Generator], Speech]


def read_noise(rng: np.random.Generator) -> Speech:
    """Say noise of less than a second, and claim that it was 2 to 5 words."""
    samples = 0.05 * rng.standard_normal(int(rng.integers(4000, 12000)))
    return Speech(" ".join(rng.choice(WORDS, size=int(rng.integers(2, 6)))), samples)


def make_chapter(
    folder: Path,
    reader_id: int,
    chapter: int,
    numbers: Iterable[int] = range(2),
    reader: Reader = read_noise,
) -> dict[str, str]:
    """Write a chapter: folder/reader_id/chapter/{*.flac,*.trans.txt}.

    Args:
        folder: A part of the corpus.
        reader_id: The reader's number.
        chapter: The chapter's number.
        numbers: The numbers of its utterances.
        reader: Says the texts.

    Returns:
        Its texts, by ``utt_id``.
    """
    place = folder / str(reader_id) / str(chapter)
    place.mkdir(parents=True, exist_ok=True)
    texts = {}
    for number in numbers:
        utt_id = f"{reader_id}-{chapter}-{number:04d}"
        speech = reader(np.random.default_rng([reader_id, chapter, number]))
        path = place / f"{utt_id}.flac"
        soundfile.write(path, speech.samples, FS, subtype="PCM_16")
        texts[utt_id] = speech.text
    lines = "".join(f"{utt_id} {text}\n" for utt_id, text in texts.items())
    (place / f"{reader_id}-{chapter}.trans.txt").write_text(lines)
    return texts


def make_librispeech(
    folder: Path, parts: Iterable[str] = PARTS, reader: Reader = read_noise
) -> dict[str, dict[str, str]]:
    """Write a corpus of two readers for each part, one of them with two chapters.

    Args:
        folder: ``LibriSpeech``.
        parts: The names of its folders, such as ``dev-clean``.
        reader: Says the texts.

    Returns:
        The texts of each part, by ``utt_id``.
    """
    texts = {}
    for number, part in enumerate(parts):
        first = 19 + 100 * number
        texts[part] = {
            **make_chapter(folder / part, first, 198, reader=reader),
            **make_chapter(folder / part, first, 227, range(3), reader),
            # Sorts after the other as a number, before it as a string.
            **make_chapter(folder / part, 1000 + first, 4, reader=reader),
        }
    for name in ("BOOKS", "CHAPTERS", "LICENSE", "README", "SPEAKERS"):
        (folder / f"{name}.TXT").write_text("LibriSpeech\n")
    return texts


def make_librilight(folder: Path, reader: Reader = read_noise) -> dict[str, str]:
    """Write the 10 hours: some utterances of a chapter are in 1h, the rest in 9h.

    Args:
        folder: ``librispeech_finetuning``.
        reader: Says the texts.

    Returns:
        Its texts, by ``utt_id``.
    """
    texts = {}
    for kind, first in (("clean", 60), ("other", 70)):
        for fold in range(6):
            for place, numbers in ((f"1h/{fold}", (0, 1)), ("9h", (2,))):
                chapter = folder / place / kind
                texts.update(make_chapter(chapter, first + fold, 5, numbers, reader))
    (folder / "phones").mkdir()
    (folder / "phones" / "10h_phones.txt").write_text("60-5-0000 1 1 2 2\n")
    return texts
