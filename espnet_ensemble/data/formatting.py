"""The audio of a data directory: one mono 16-bit file per utterance, at one rate.

Kaldi's ``wav.scp`` may name commands, and ``segments`` parts of recordings. Training
reads plain files. Here they are made.
"""

import dataclasses
import hashlib
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import soundfile
from tqdm import tqdm

from espnet_ensemble.data.audio import (
    SUBTYPE,
    AudioError,
    change_speed,
    open_audio,
    read_audio,
    write_audio,
)
from espnet_ensemble.data.datadir import check_other, select, validate, write
from espnet_ensemble.data.tables import DataError, Segment, Tables
from espnet_ensemble.files import PathLike, write_text

FORMATS = ("flac", "wav")


class AudioFailures(AudioError):
    """Some utterances' audio cannot be made.

    Attributes:
        failures: What is wrong with which.
    """

    def __init__(self, failures: list["Failure"]):
        self.failures = failures
        lines = [f"no audio for {len(failures)} utterance(s):", *map(str, failures)]
        super().__init__("\n  ".join(lines))


class Failure(NamedTuple):
    """Why an utterance has no audio."""

    utterance: str
    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.utterance}: {self.source}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class AudioConf:
    """How audio is written.

    Attributes:
        fs: Sample rate in Hz; None: each file's own.
        audio_format: flac or wav, with 16 bits per sample in either.
        ref_channel: Which channel to take, from 0; None: audio with several is refused.

    Raises:
        DataError: If one of them is wrong.
    """

    fs: int | None = None
    audio_format: str = "flac"
    ref_channel: int | None = None

    def __post_init__(self):
        if self.fs is not None and self.fs < 1:
            raise DataError(f"fs: expected a sample rate in Hz, found {self.fs}")
        if self.audio_format not in FORMATS:
            raise DataError(
                f"audio_format: expected {' or '.join(FORMATS)}, found "
                f"{self.audio_format!r}"
            )
        if self.ref_channel is not None and self.ref_channel < 0:
            raise DataError(
                f"ref_channel: expected a channel, from 0, found {self.ref_channel}"
            )


class Piece(NamedTuple):
    """What becomes one utterance: a part of a recording, faster by a factor."""

    utterance: str
    segment: Segment
    speed: Fraction


class Recording(NamedTuple):
    """An entry of ``wav.scp`` (a path, or a command and "|"), and what is made of it."""

    entry: str
    pieces: list[Piece]


class Made(NamedTuple):
    """Audio of an utterance: what it was made of and how, and what it is."""

    utterance: str
    digest: str
    num_samples: int
    num_bytes: int
    path: str


def format_audio(
    src: PathLike,
    dest: PathLike,
    conf: AudioConf = AudioConf(),
    nj: int = 1,
    ignore_errors: bool = False,
) -> list[Failure]:
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
    conf: AudioConf = AudioConf(),
    nj: int = 1,
    ignore_errors: bool = False,
) -> list[Failure]:
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
    speeds = {}
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
) -> list[Failure]:
    """Do what :func:`format_audio` does, at each speed, by its prefix."""
    check_other(dest, src)
    if nj < 1:
        raise DataError(f"nj: expected at least 1, found {nj}")
    tables = validate(src, need_text=False)
    if "wav.scp" not in tables:
        raise DataError(f"{Path(src, 'wav.scp')}: expected this file, found none")
    described = _describe(tables, speeds)
    if len(described["utt2spk"]) < len(tables["utt2spk"]) * len(speeds):
        raise DataError(
            f"{src}: expected utterances at one speed, found copies of some"
        )
    # Until the new one is complete there is none.
    Path(dest, "wav.scp").unlink(missing_ok=True)
    made, failures = _Maker(Path(dest), conf).run(_recordings(tables, speeds), nj)
    if failures and not (ignore_errors and made):
        raise AudioFailures(failures)
    described["utt2num_samples"] = {utt: str(m.num_samples) for utt, m in made.items()}
    described["wav.scp"] = {utt: m.path for utt, m in made.items()}
    write_text(Path(dest, "feats_type"), "raw\n")
    write_text(Path(dest, "audio_format"), f"{conf.audio_format}\n")
    write(dest, select(described, made))
    return failures


def _recordings(tables: Tables, speeds: dict[str, Fraction]) -> list[Recording]:
    recordings = {key: Recording(entry, []) for key, entry in tables["wav.scp"].items()}
    for utterance in tables["utt2spk"]:
        segment = Segment(utterance)
        if "segments" in tables:
            segment = Segment.parse(tables["segments"][utterance])
        for prefix, speed in speeds.items():
            piece = Piece(prefix + utterance, segment, speed)
            recordings[segment.recording].pieces.append(piece)
    return list(recordings.values())


def _describe(tables: Tables, speeds: dict[str, Fraction]) -> Tables:
    """What is still true of the utterances and speakers, with their copies."""
    described = {}
    for name in ("text", "utt2lang", "utt2spk", "utt2uniq", "spk2gender"):
        if name in tables:
            described[name] = {
                prefix + key: prefix + value if name == "utt2spk" else value
                for prefix in speeds
                for key, value in tables[name].items()
            }
    if list(speeds) != [""]:
        described.setdefault(
            "utt2uniq",
            {prefix + key: key for prefix in speeds for key in tables["utt2spk"]},
        )
    return described


def _is_whole(piece: Piece) -> bool:
    return piece.speed == 1 and piece.segment.is_whole


class _Maker:
    """Makes audio files in ``dest/data``, and keeps a record there of what is finished.

    A file gets its name when it is complete, and a line in the record after that. So
    whatever the record has is complete.
    """

    def __init__(self, dest: Path, conf: AudioConf):
        self._folder = dest / "data"
        self._conf = conf
        self._record = self._folder / "record"
        self._made: dict[str, Made] = {}
        self._digests: dict[str, str] = {}

    def run(
        self, recordings: list[Recording], nj: int
    ) -> tuple[dict[str, Made], list[Failure]]:
        """Make what is not finished.

        Returns:
            What was made, now or before, by utterance; and what failed.
        """
        for recording in recordings:
            self._digests.update(_digests(recording, self._conf))
        self._made = {
            utterance: made
            for utterance, made in self._read_record().items()
            if made.digest == self._digests.get(utterance) and _is_there(made)
        }
        todo = [
            Recording(entry, [p for p in pieces if p.utterance not in self._made])
            for entry, pieces in recordings
        ]
        self._folder.mkdir(parents=True, exist_ok=True)
        # This also ends a line that a killed run left half-written.
        self._write_record()
        failures = self._run([recording for recording in todo if recording.pieces], nj)
        self._write_record()
        return self._made, sorted(failures)

    def _run(self, todo: list[Recording], nj: int) -> list[Failure]:
        failures = []
        pool = ThreadPoolExecutor(nj)  # soundfile and soxr release the GIL
        total = sum(len(recording.pieces) for recording in todo)
        progress = tqdm(
            total=total, desc=str(self._folder.parent), unit="utt", disable=None
        )
        with progress, self._record.open("a", encoding="utf-8") as record:
            try:
                futures = [pool.submit(self._make, recording) for recording in todo]
                for future in as_completed(futures):
                    for result in future.result():
                        if isinstance(result, Failure):
                            failures.append(result)
                        else:
                            self._made[result.utterance] = result
                            record.write(_line(result))
                        progress.update()
                    record.flush()
            finally:
                pool.shutdown(cancel_futures=True)
        return failures

    def _make(self, recording: Recording) -> list[Made | Failure]:
        try:
            with open_audio(recording.entry) as sound:
                return [self._try_piece(recording, p, sound) for p in recording.pieces]
        except (AudioError, OSError) as error:
            return [_failure(recording, p, error) for p in recording.pieces]

    def _try_piece(
        self, recording: Recording, piece: Piece, sound: soundfile.SoundFile
    ) -> Made | Failure:
        try:
            return self._make_piece(recording, piece, sound)
        except (AudioError, OSError, soundfile.SoundFileError) as error:
            return _failure(recording, piece, error)

    def _make_piece(
        self, recording: Recording, piece: Piece, sound: soundfile.SoundFile
    ) -> Made:
        made_of = (piece.utterance, self._digests[piece.utterance])
        samples = read_audio(sound, piece.segment, self._conf.ref_channel)
        fs = self._conf.fs or sound.samplerate
        if _is_whole(piece) and self._is_as_asked(recording.entry, sound, fs):
            num_bytes = os.path.getsize(recording.entry)
            return Made(*made_of, len(samples), num_bytes, recording.entry)
        samples = change_speed(samples, sound.samplerate, fs, piece.speed)
        if not len(samples):
            raise AudioError(f"too short: nothing is left of it at {fs} Hz")
        path = self._path(piece.utterance)
        path.parent.mkdir(exist_ok=True)
        write_audio(path, samples, fs, self._conf.audio_format)
        return Made(*made_of, len(samples), path.stat().st_size, str(path))

    def _is_as_asked(self, entry: str, sound: soundfile.SoundFile, fs: int) -> bool:
        return not entry.endswith("|") and (
            (sound.format, sound.subtype, sound.channels, sound.samplerate)
            == (self._conf.audio_format.upper(), SUBTYPE, 1, fs)
        )

    def _path(self, utterance: str) -> Path:
        if "/" in utterance:
            raise AudioError("expected no '/' in the name of an utterance, found one")
        # 256 folders, as file systems are slow with many files in one.
        folder = f"{zlib.crc32(utterance.encode()) % 256:02x}"
        return self._folder / folder / f"{utterance}.{self._conf.audio_format}"

    def _read_record(self) -> dict[str, Made]:
        made = {}
        if not self._record.exists():
            return made
        *lines, _half = self._record.read_text(encoding="utf-8").split("\n")
        for line in lines:
            utterance, digest, samples, size, path = line.split(" ", 4)
            made[utterance] = Made(utterance, digest, int(samples), int(size), path)
        return made

    def _write_record(self) -> None:
        lines = (_line(made) for _, made in sorted(self._made.items()))
        write_text(self._record, "".join(lines))


def _digests(recording: Recording, conf: AudioConf) -> dict[str, str]:
    """What each utterance is made of and how, in a form to compare."""
    state = None
    if os.path.isfile(recording.entry):
        stat = os.stat(recording.entry)
        state = (stat.st_size, stat.st_mtime_ns)
    source = (recording.entry, state, dataclasses.astuple(conf))
    return {
        piece.utterance: hashlib.sha256(repr((source, piece)).encode()).hexdigest()
        for piece in recording.pieces
    }


def _line(made: Made) -> str:
    return " ".join(map(str, made)) + "\n"


def _is_there(made: Made) -> bool:
    try:
        return os.path.getsize(made.path) == made.num_bytes
    except OSError:
        return False


def _failure(recording: Recording, piece: Piece, error: Exception) -> Failure:
    source = recording.entry
    if not piece.segment.is_whole:
        source += f" {piece.segment}"
    return Failure(piece.utterance, source, str(error))
