"""The audio of a data directory: one mono 16-bit file per utterance, at one rate.

Kaldi's ``wav.scp`` may name commands, and ``segments`` parts of recordings. Training
reads plain files. Here they are made.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from espnet_ensemble.data.audio import AudioConf, AudioError
from espnet_ensemble.data.cuts import Cut, FailedUtterance, Recording, write_cuts
from espnet_ensemble.data.datadir import (
    Streams,
    check,
    check_other,
    read_streams,
    select,
    write,
)
from espnet_ensemble.data.streams import (
    Row,
    SortedRows,
    Stream,
    itself,
    keys_of,
    unique,
)
from espnet_ensemble.data.tables import DataError, Segment
from espnet_ensemble.files import PathLike, write_text

# FLAC at each file's own rate.
_AS_IT_COMES = AudioConf()


class AudioFailures(AudioError):
    """Some utterances' audio cannot be made.

    Attributes:
        failures: What is wrong with which.
    """

    def __init__(self, failures: list[FailedUtterance]):
        self.failures = failures
        lines = [f"no audio for {len(failures)} utterance(s):", *map(str, failures)]
        super().__init__("\n  ".join(lines))


def format_audio(
    src: PathLike,
    dest: PathLike,
    conf: AudioConf = _AS_IT_COMES,
    nj: int = 1,
    ignore_errors: bool = False,
) -> list[FailedUtterance]:
    """Make the audio files of a data directory, as training reads them.

    ``dest`` becomes a data directory like ESPnet's ``dump/raw``: ``wav.scp`` of plain
    files, ``utt2num_samples``, ``feats_type``, ``audio_format``, no ``segments``, and
    what ``src`` says about utterances and speakers. The files are in its ``data``, save
    those that are what is asked for already: they are named where they are, as ESPnet
    does.

    What a run has made is not made again by the next one, also after it was killed, as
    long as the source (path, size and time; or the command) and the options are the same.

    Args:
        src: The data directory. Paths and commands in it are relative to the working
            directory.
        dest: Where to write the result.
        conf: How audio is written.
        nj: How many recordings are worked on at a time.
        ignore_errors: Leave out the utterances that fail.

    Returns:
        The utterances that failed, sorted; none without ``ignore_errors``.

    Raises:
        AudioFailures: If utterances failed. All others' audio is made and kept, but
            ``dest`` has no ``wav.scp``.
        DataError: If ``src`` is not valid.
    """
    return _make_dir(src, dest, {"": Fraction(1)}, conf, nj, ignore_errors)


def speed_perturb(
    src: PathLike,
    dest: PathLike,
    factors: Sequence[str | float] = (0.9, 1.0, 1.1),
    conf: AudioConf = _AS_IT_COMES,
    nj: int = 1,
    ignore_errors: bool = False,
) -> list[FailedUtterance]:
    """Make a data directory with copies of each utterance at other speeds.

    Tempo and pitch change together, as with ``sox speed``. The copies at a speed other
    than 1 are called ``sp0.9-<utterance>``, of the speakers ``sp0.9-<speaker>``, as
    ESPnet and Kaldi call them, and ``utt2uniq`` tells what they are copies of. All else
    is as in :func:`format_audio`.

    Args:
        src: The data directory.
        dest: Where to write the result.
        factors: The speeds: at 0.9 an utterance takes 1/0.9 of its time.
        conf: How audio is written.
        nj: How many recordings are worked on at a time.
        ignore_errors: Leave out the utterances that fail.

    Returns:
        The utterances that failed, sorted; none without ``ignore_errors``.

    Raises:
        AudioFailures: As :func:`format_audio`.
        DataError: If ``src`` is not valid, or a factor is wrong.
    """
    return _make_dir(src, dest, _speeds(factors), conf, nj, ignore_errors)


def _speeds(factors: Sequence[str | float]) -> dict[str, Fraction]:
    speeds: dict[str, Fraction] = {}
    for factor in factors:
        try:
            # Through str: 1.1 is meant to be 11/10, which no float is.
            speed = Fraction(str(factor))
        except ValueError:
            speed = Fraction(0)
        prefix = "" if speed == 1 else f"sp{factor}-"
        if speed <= 0 or speed in speeds.values():
            raise DataError(
                "speed_perturb_factors: expected different numbers above 0, found "
                + ", ".join(map(str, factors))
            )
        speeds[prefix] = speed
    if not speeds:
        raise DataError("speed_perturb_factors: expected at least one, found none")
    return speeds


def _make_dir(
    src: PathLike,
    dest: PathLike,
    speeds: dict[str, Fraction],
    conf: AudioConf,
    nj: int,
    ignore_errors: bool,
) -> list[FailedUtterance]:
    """Do what :func:`format_audio` does, at each speed, by its prefix."""
    check_other(dest, src)
    if nj < 1:
        raise DataError(f"nj: expected at least 1, found {nj}")
    size = check(src, need_text=False, required=["wav.scp"]) * len(speeds)
    tables = read_streams(src)
    described = _describe(tables, speeds)
    if len(speeds) > 1 and size > sum(1 for _ in unique(keys_of(described["utt2spk"]))):
        raise DataError(
            f"{src}: expected utterances at one speed, found copies of some"
        )
    # Until the new one is complete there is none.
    Path(dest, "wav.scp").unlink(missing_ok=True)
    recordings = Stream(_recordings, tables, speeds)
    written = write_cuts(Path(dest, "data"), recordings, conf, nj, size)
    failures = written.failures
    if failures and not (ignore_errors and written.size):
        raise AudioFailures(failures)
    described["utt2num_samples"] = Stream(
        lambda: ((file.utt_id, str(file.num_samples)) for file in written.files())
    )
    described["wav.scp"] = Stream(
        lambda: ((file.utt_id, file.path) for file in written.files())
    )
    write_text(Path(dest, "feats_type"), "raw\n")
    write_text(Path(dest, "audio_format"), f"{conf.audio_format}\n")
    made = SortedRows(file.utt_id for file in written.files())
    write(dest, select(described, made))
    return failures


def _recordings(tables: Streams, speeds: dict[str, Fraction]) -> Iterator[Recording]:
    """Recordings with their cuts, in the order of wav.scp."""
    if "segments" in tables:
        parts = SortedRows(
            (Segment.parse(value).recording, utt_id, value)
            for utt_id, value in tables["segments"]
        )
        cuts = groupby(parts, itemgetter(0))
    else:
        whole = ((key, key, f"{key} 0 -1") for key in keys_of(tables["wav.scp"]))
        cuts = groupby(whole, itemgetter(0))
    for (_, entry), (_, group) in zip(tables["wav.scp"], cuts, strict=True):
        yield Recording(
            entry,
            tuple(
                Cut(prefix + utt_id, Segment.parse(value), speed)
                for _, utt_id, value in group
                for prefix, speed in speeds.items()
            ),
        )


def _describe(tables: Streams, speeds: dict[str, Fraction]) -> Streams:
    """What is still true of the utterances and speakers, with their copies."""
    described: Streams = {}
    for name in ("text", "utt2lang", "utt2spk", "utt2uniq", "spk2gender"):
        if name in tables:
            described[name] = Stream(_copies, tables[name], speeds, name == "utt2spk")
    if list(speeds) != [""]:
        unperturbed = Stream(lambda: itself(keys_of(tables["utt2spk"])))
        described.setdefault("utt2uniq", Stream(_copies, unperturbed, speeds, False))
    return described


def _copies(
    rows: Iterable[Row], prefixes: Iterable[str], with_value: bool
) -> Iterator[Row]:
    """Rows of all copies, in order."""
    return heapq.merge(*(_renamed(rows, prefix, with_value) for prefix in prefixes))


def _renamed(rows: Iterable[Row], prefix: str, with_value: bool) -> Iterator[Row]:
    for key, value in rows:
        yield prefix + key, (prefix + value if with_value else value)
