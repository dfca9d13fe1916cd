"""Small corpora in LibriSpeech's layout: FLAC of noise, texts of English letters."""

import numpy as np
import soundfile

WORDS = "MISTER QUILTER IS THE APOSTLE OF MIDDLE CLASSES DON'T".split()


def make_chapter(folder, reader, chapter, numbers=range(2)):
    """Write a chapter: folder/reader/chapter/{*.flac,*.trans.txt}.

    Returns:
        utterance -> (text, number of samples)
    """
    place = folder / str(reader) / str(chapter)
    place.mkdir(parents=True, exist_ok=True)
    made = {}
    for number in numbers:
        rng = np.random.default_rng([reader, chapter, number])
        utterance = f"{reader}-{chapter}-{number:04d}"
        samples = 0.05 * rng.standard_normal(int(rng.integers(4000, 12000)))
        soundfile.write(place / f"{utterance}.flac", samples, 16000, subtype="PCM_16")
        text = " ".join(rng.choice(WORDS, size=int(rng.integers(2, 6))))
        made[utterance] = (text, len(samples))
    lines = "".join(f"{utterance} {text}\n" for utterance, (text, _) in made.items())
    (place / f"{reader}-{chapter}.trans.txt").write_text(lines)
    return made


def make_librispeech(
    folder,
    parts=("train-clean-100", "dev-clean", "dev-other", "test-clean", "test-other"),
):
    """Write a corpus of two readers for each part, one of them with two chapters.

    Returns:
        part -> utterance -> (text, number of samples)
    """
    made = {}
    for number, part in enumerate(parts):
        reader = 19 + 100 * number
        made[part] = make_chapter(folder / part, reader, 198)
        made[part].update(make_chapter(folder / part, reader, 227, range(3)))
        # Sorts after the other as a number, before it as a string.
        made[part].update(make_chapter(folder / part, 1000 + reader, 4))
    for name in ("BOOKS", "CHAPTERS", "LICENSE", "README", "SPEAKERS"):
        (folder / f"{name}.TXT").write_text("LibriSpeech\n")
    return made


def make_librilight(folder):
    """Write librispeech_finetuning: some utterances of a chapter in 1h, the rest in 9h.

    Returns:
        utterance -> (text, number of samples)
    """
    made = {}
    for kind, first in (("clean", 60), ("other", 70)):
        for fold in range(6):
            reader = first + fold
            made.update(make_chapter(folder / f"1h/{fold}/{kind}", reader, 5, [0, 1]))
            made.update(make_chapter(folder / f"9h/{kind}", reader, 5, [2]))
    (folder / "phones").mkdir()
    (folder / "phones" / "10h_phones.txt").write_text("60-5-0000 1 1 2 2\n")
    return made
