"""Leave out the utterances that training cannot use."""

from typing import NamedTuple

from espnet_ensemble.data.datadir import (
    check_other,
    copy_constants,
    select,
    validate,
    write,
)
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.files import PathLike


class LeftOut(NamedTuple):
    """Utterances that were left out, by what is wrong with them; each is in one list."""

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
    tables = validate(src)
    if "utt2num_samples" not in tables:
        raise DataError(
            f"{src}/utt2num_samples: expected this file, found none; format_wav_scp "
            "makes it"
        )
    left_out = LeftOut([], [], [])
    for utterance, num_samples in tables["utt2num_samples"].items():
        if int(num_samples) <= int(min_wav_duration * fs):
            left_out.too_short.append(utterance)
        elif int(num_samples) >= int(max_wav_duration * fs):
            left_out.too_long.append(utterance)
        elif not tables["text"][utterance]:
            left_out.empty_text.append(utterance)
    kept = set(tables["utt2spk"]).difference(*left_out)
    if not kept:
        counts = ", ".join(f"{k} {len(v)}" for k, v in left_out._asdict().items())
        raise DataError(f"{src}: no utterance is left ({counts})")
    copy_constants(dest, src)
    write(dest, select(tables, kept))
    return left_out
