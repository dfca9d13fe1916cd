"""The speech that upstreams are judged by: an hour or less, part of it held out."""

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_ensemble.data.datadir import subset, validate
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike

#: Share of the speech that probes are judged by, and do not learn from.
HELD_OUT = 0.2
#: Fewer utterances than these say nothing.
_FEWEST = 10


@dataclass(frozen=True)
class Sample:
    """Speech with transcripts.

    Attributes:
        data_dir: A data directory with these utterances and no others.
        texts: utterance's id -> its transcript.
        train: The utterances that probes learn from.
        test: Those that they are judged by. No speaker has some of both, where there are
            enough speakers.
        samples: Number of samples of all of them.
    """

    data_dir: Path
    texts: dict[str, str]
    train: list[str]
    test: list[str]
    samples: int


def draw_sample(
    data_dir: PathLike, folder: PathLike, hours: float, fs: int, seed: int = 0
) -> Sample:
    """Draw some of a data set, and hold out a part.

    Args:
        data_dir: A data directory such as ``dump/raw/train``, with ``text`` and
            ``utt2num_samples``.
        folder: Where a data directory is written if the whole is longer.
        hours: How much speech to draw, at most.
        fs: Sample rate of the audio, in Hz.
        seed: The same seed gives the same sample.

    Raises:
        DataError: If the data directory is not valid, or has too few utterances.
    """
    data_dir = Path(data_dir)
    tables = validate(data_dir, required=["wav.scp", "utt2num_samples"])
    lengths = {key: int(n) for key, n in tables["utt2num_samples"].items()}
    drawn = _draw(lengths, round(hours * 3600 * fs), seed)
    if len(drawn) < _FEWEST:
        raise DataError(
            f"{data_dir}: expected at least {_FEWEST} utterances within {hours} hours, "
            f"found {len(drawn)}; a larger --hours takes more"
        )
    if len(drawn) < len(lengths):
        digest = hashlib.sha256("\n".join(drawn).encode()).hexdigest()[:8]
        whole, data_dir = (
            data_dir,
            Path(folder) / f"{data_dir.absolute().name}-{digest}",
        )
        subset(whole, data_dir, utt_ids=drawn)
    lengths = {key: lengths[key] for key in drawn}
    test = _hold_out(lengths, tables["utt2spk"], seed)
    return Sample(
        data_dir,
        {key: tables["text"][key] for key in drawn},
        [key for key in drawn if key not in test],
        sorted(test),
        sum(lengths.values()),
    )


def vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """Number the characters, from 1 on: 0 is CTC's blank.

    Example:
        >>> vocabulary(["ab", "b a"])
        {' ': 1, 'a': 2, 'b': 3}
    """
    characters = sorted({character for text in texts for character in text})
    return {character: index for index, character in enumerate(characters, start=1)}


def _draw(lengths: Mapping[str, int], samples: int, seed: int) -> list[str]:
    drawn, total = [], 0
    for key in random.Random(seed).sample(sorted(lengths), len(lengths)):
        if total + lengths[key] <= samples:
            drawn.append(key)
            total += lengths[key]
    return sorted(drawn)


def _hold_out(
    lengths: Mapping[str, int], utt2spk: Mapping[str, str], seed: int
) -> set[str]:
    """Whole speakers, or utterances where each speaker has too large a part."""
    speakers: dict[str, list[str]] = {}
    for key in lengths:
        speakers.setdefault(utt2spk[key], []).append(key)
    total = sum(lengths.values())
    largest = max(sum(lengths[key] for key in keys) for keys in speakers.values())
    groups = list(speakers.values())
    if largest > HELD_OUT * total:
        groups = [[key] for key in lengths]
    held: set[str] = set()
    taken = 0
    for group in random.Random(seed).sample(groups, len(groups)):
        if taken >= HELD_OUT * total:
            break
        held.update(group)
        taken += sum(lengths[key] for key in group)
    if len(held) == len(lengths):
        raise EnsembleError("expected more than one utterance to learn from")
    return held
