"""The speakers of mini_synth: voice variants of eSpeak NG, each with one English accent.

Variants that are whispered, robotic, or nearly the same as another are left out.
"""

from collections.abc import Sequence

ACCENTS = (
    "en-us",
    "en",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-us-nyc",
    "en-029",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
)
_TRAIN = (
    "Alex Alicia Denis Gene anika Henrique Hugo Jacky aunty Marco Mario Mike f1 "
    "RicishayMax RicishayMax2 adam f3 antonio benjamin boris f4 edward fast grandma "
    "grandpa ian iven Nguyen iven4 john klatt shelby klatt3 klatt4 m1 steph m2 m4 m5 m6 "
    "marcelo max michel mike2 norbert pedro quincy rob robert sandro travis"
).split()
_DEV = "Andrea Storm belinda david ed f5 m8 victor".split()
_TEST = "Annie Lee f2 gustave linda m3 pablo paul".split()


def _with_accents(variants: Sequence[str]) -> dict[str, str]:
    return {
        variant.lower(): f"{ACCENTS[i % len(ACCENTS)]}+{variant}"
        for i, variant in enumerate(variants)
    }


# Speaker id -> voice, as espeak.synthesize takes it.
VOICES: dict[str, dict[str, str]] = {
    "train": _with_accents(_TRAIN),
    "dev": _with_accents(_DEV),
    "test": _with_accents(_TEST),
}


def speakers(split: str) -> tuple[str, ...]:
    """The speaker ids of a split, in the order in which they take turns."""
    return tuple(VOICES[split])
