"""Leave out the utterances that training cannot use."""

from collections.abc import Iterator
from dataclasses import dataclass

from espnet_ensemble.data.datadir import (
    Streams,
    check,
    check_other,
    copy_constants,
    read_streams,
    select,
    write,
)
from espnet_ensemble.data.streams import SortedRows
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.files import PathLike


@dataclass(frozen=True)
class LeftOut:
    """Ids of the utterances that were left out, by what is wrong with them."""

    too_short: list[str]
    too_long: list[str]
    empty_text: list[str]


def filter_lengths(
    src: PathLike,
    dest: PathLike,
    fs: int,
    min_wav_duration: float = 0.1,
    max_wav_duration: float = 20.0,
) -> LeftOut:
    """Keep the utterances that are neither too short nor too long and have text.

    As in ESPnet's recipes, an utterance of exactly the shortest or the longest duration
    is left out too.

    Args:
        src: A data directory with ``utt2num_samples``, such as
            :func:`espnet_ensemble.data.formatting.format_audio` makes.
        dest: Where to write the result.
        fs: Sample rate of the audio, in Hz.
        min_wav_duration: Seconds that an utterance must be longer than.
        max_wav_duration: Seconds that it must be shorter than.

    Returns:
        The utterances that were left out.

    Raises:
        DataError: If ``src`` is not valid, or no utterance is left.
    """
    check_other(dest, src)
    check(src, required=["utt2num_samples"])
    tables = read_streams(src)
    left_out = LeftOut([], [], [])
    bounds = int(min_wav_duration * fs), int(max_wav_duration * fs)
    kept = SortedRows(_fitting(tables, *bounds, left_out))
    if not kept:
        counts = ", ".join(f"{name} {len(ids)}" for name, ids in vars(left_out).items())
        raise DataError(f"{src}: no utterance is left ({counts})")
    copy_constants(dest, src)
    write(dest, select(tables, kept))
    return left_out


def _fitting(
    tables: Streams, shortest: int, longest: int, left_out: LeftOut
) -> Iterator[str]:
    """Ids of the utterances to keep; the others are noted."""
    rows = zip(tables["utt2num_samples"], tables["text"], strict=True)
    for (utt_id, length), (_, text) in rows:
        if int(length) <= shortest:
            left_out.too_short.append(utt_id)
        elif int(length) >= longest:
            left_out.too_long.append(utt_id)
        elif not text:
            left_out.empty_text.append(utt_id)
        else:
            yield utt_id
