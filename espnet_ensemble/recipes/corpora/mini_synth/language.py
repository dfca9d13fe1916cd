"""The language of mini_synth: numbers, spelled letters, dates and short commands.

133 words, of which no two sound alike, in lower case. There are over 10^9 sentences, so
that a recogniser has to hear the words: it cannot know the sentences by heart.
"""

import random
import zlib
from collections.abc import Callable, Iterator

DIGITS = "zero one two three four five six seven eight nine".split()
TEENS = (
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
    "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
).split()
MONTHS = (
    "january february march april may june july august september october november "
    "december"
).split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ROOMS = "kitchen bedroom garden hall".split()
DEVICES = "light heater fan radio".split()

# What eSpeak NG has to read so that it says the word: it takes "a" for the article.
PRONUNCIATIONS = {"a": "eh"}

SPLITS = ("train", "dev", "test")


def sentences(split: str, seed: int, stream: str = "") -> Iterator[str]:
    """Generate sentences without end, none of them twice.

    A sentence belongs to one split, see :func:`split_of`: so no two splits share one,
    whatever their sizes and seeds.

    Args:
        split: One of ``SPLITS``.
        seed: Another seed gives other sentences.
        stream: Another name gives other sentences of the same split.

    Raises:
        ValueError: If there is no such split.

    Example:
        >>> train = sentences("train", seed=0)
        >>> split_of(next(train))
        'train'
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    rng = random.Random(f"{split}/{stream}/{seed}")
    seen = set()
    while True:
        (template,) = rng.choices(list(_TEMPLATES), list(_TEMPLATES.values()))
        sentence = template(rng)
        if split_of(sentence) == split and sentence not in seen:
            seen.add(sentence)
            yield sentence


def split_of(sentence: str) -> str:
    """The split of a sentence, by its checksum: a tenth each are dev and test."""
    return {0: "dev", 1: "test"}.get(zlib.crc32(sentence.encode()) % 10, "train")


def pronunciation(sentence: str) -> str:
    """The sentence as eSpeak NG has to read it."""
    return " ".join(PRONUNCIATIONS.get(word, word) for word in sentence.split())


def cardinal(number: int) -> str:
    """Name a number from 0 to 999,999.

    Example:
        >>> cardinal(70_615)
        'seventy thousand six hundred and fifteen'
    """
    if number < 10:
        return DIGITS[number]
    if number < 20:
        return TEENS[number - 10]
    if number < 100:
        return _join(TENS[number // 10 - 2], number % 10)
    if number < 1000:
        return _join(DIGITS[number // 100] + " hundred and", number % 100)
    thousands, rest = divmod(number, 1000)
    link = " thousand and" if rest < 100 else " thousand"
    return _join(cardinal(thousands) + link, rest)


def _join(head: str, rest: int) -> str:
    return f"{head} {cardinal(rest)}" if rest else head.removesuffix(" and")


def ordinal(number: int) -> str:
    """Name the place of a number from 1 to 39.

    Example:
        >>> ordinal(3), ordinal(20), ordinal(31)
        ('third', 'twentieth', 'thirty first')
    """
    if number < 20:
        return ORDINALS[number - 1]
    tens = TENS[number // 10 - 2]
    if number % 10:
        return f"{tens} {ORDINALS[number % 10 - 1]}"
    return tens.removesuffix("y") + "ieth"


def _digits(rng: random.Random) -> str:
    return " ".join(rng.choices(DIGITS, k=rng.randint(3, 7)))


def _number(rng: random.Random) -> str:
    number = cardinal(rng.randrange(10 ** rng.randint(2, 6)))
    if rng.random() < 0.2:
        number = f"minus {number}"
    if rng.random() < 0.3:
        number += " point " + " ".join(rng.choices(DIGITS, k=rng.randint(1, 2)))
    return number


def _spelling(rng: random.Random) -> str:
    return "spell " + " ".join(rng.choices(LETTERS, k=rng.randint(3, 7)))


def _date(rng: random.Random) -> str:
    date = f"the {ordinal(rng.randint(1, 31))} of {rng.choice(MONTHS)}"
    if rng.random() < 0.6:
        date = f"{rng.choice(DAYS)} {date}"
    if rng.random() < 0.5:
        date += f" {_year(rng)}"
    return date


def _year(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return cardinal(rng.randint(2000, 2009))
    return f"{rng.choice(TEENS[6:] + TENS[:1])} {cardinal(rng.randint(10, 99))}"


def _time(rng: random.Random) -> str:
    hour = cardinal(rng.randint(1, 12))
    return rng.choice(
        (
            f"half past {hour}",
            f"{hour} {cardinal(rng.randint(10, 59))}",
            f"{cardinal(rng.randint(2, 29))} minutes past {hour}",
        )
    )


def _thing(rng: random.Random) -> str:
    return f"the {rng.choice(ROOMS)} {rng.choice(DEVICES)}"


def _switching(rng: random.Random) -> str:
    verb, state = rng.choice(("turn", "switch")), rng.choice(("on", "off"))
    command = rng.choice(
        (f"{verb} {state} {_thing(rng)}", f"{verb} {_thing(rng)} {state}")
    )
    if rng.random() < 0.6:
        command += f" at {_time(rng)}"
    return _politely(rng, command)


def _setting(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return _politely(
            rng, f"set the {rng.choice(('alarm', 'timer'))} at {_time(rng)}"
        )
    return _politely(rng, f"set {_thing(rng)} at {cardinal(rng.randint(1, 99))}")


def _going(rng: random.Random) -> str:
    verb, part = rng.choice(("open", "close")), rng.choice(("window", "door"))
    place = f"room {_digits(rng)} on the {ordinal(rng.randint(1, 39))} floor"
    if rng.random() < 0.4:
        place = f"the {rng.choice(ROOMS)}"
    return _politely(rng, f"{verb} the {part} of {place}")


def _playing(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return _politely(rng, f"call extension {_digits(rng)}")
    command = f"play channel {cardinal(rng.randint(1, 999))}"
    if rng.random() < 0.5:
        command += f" volume {cardinal(rng.randint(1, 99))}"
    return _politely(rng, command)


def _politely(rng: random.Random, command: str) -> str:
    if rng.random() > 0.3:
        return command
    return rng.choice((f"please {command}", f"{command} please"))


_Template = Callable[[random.Random], str]
# The templates and their weights: how often each comes.
_TEMPLATES: dict[_Template, int] = {
    _digits: 2,
    _number: 2,
    _spelling: 5,
    _date: 4,
    _switching: 2,
    _setting: 1,
    _going: 1,
    _playing: 2,
}
