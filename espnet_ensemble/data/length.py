"""Leave out the utterances that training cannot use."""

from dataclasses import dataclass

from espnet_ensemble.data.datadir import (
    check_other,
    copy_constants,
    select,
    validate,
    write,
)
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
    tables = validate(src, required=["utt2num_samples"])
    shortest, longest = int(min_wav_duration * fs), int(max_wav_duration * fs)
    lengths = {key: int(value) for key, value in tables["utt2num_samples"].items()}
    fitting = [key for key, length in lengths.items() if shortest < length < longest]
    kept = [key for key in fitting if tables["text"][key]]
    left_out = LeftOut(
        too_short=[key for key, length in lengths.items() if length <= shortest],
        too_long=[key for key, length in lengths.items() if length >= longest],
        empty_text=[key for key in fitting if not tables["text"][key]],
    )
    if not kept:
        counts = ", ".join(f"{name} {len(ids)}" for name, ids in vars(left_out).items())
        raise DataError(f"{src}: no utterance is left ({counts})")
    copy_constants(dest, src)
    write(dest, select(tables, kept))
    return left_out
