"""Cuts of recordings, each written as an audio file of its own.

What a run has finished is not made again by the next one, also after it was killed.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO

import soundfile
from tqdm import tqdm

from espnet_ensemble.data.audio import (
    SUBTYPE,
    AudioConf,
    AudioError,
    change_speed,
    open_audio,
    read_audio,
    write_audio,
)
from espnet_ensemble.data.streams import SortedRows, match
from espnet_ensemble.data.tables import Segment
from espnet_ensemble.files import (
    FileState,
    PathLike,
    atomic_write,
    remove_unfinished,
)

# Recordings that are submitted at a time, for each thread: the others wait unread.
_IN_FLIGHT = 4


@dataclass(frozen=True)
class Cut:
    """What becomes one utterance.

    Attributes:
        utt_id: The utterance's id.
        segment: Its part of the recording.
        speed: Factor of tempo and pitch.
    """

    utt_id: str
    segment: Segment
    speed: Fraction = Fraction(1)

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its recording, as it is."""
        return self.speed == 1 and self.segment.is_whole


@dataclass(frozen=True)
class Recording:
    """Audio, and what is cut from it.

    Attributes:
        entry: Its entry of ``wav.scp``: a path, or a shell command and "|".
        cuts: The utterances.
    """

    entry: str
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class AudioFile:
    """The audio of an utterance in a file of its own.

    Attributes:
        utt_id: The utterance's id.
        path: The file.
        num_samples: Its length.
        num_bytes: Its size.
        source_digest: Hash of what it was made of and how: entry, size and time of the
            recording, cut, options.
    """

    utt_id: str
    path: str
    num_samples: int
    num_bytes: int
    source_digest: str


@dataclass(frozen=True)
class FailedUtterance:
    """An utterance that has no audio.

    Attributes:
        utt_id: The utterance's id.
        source: What it is cut from, with the times where it is a part.
        reason: What is wrong.
    """

    utt_id: str
    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.utt_id}: {self.source}: {self.reason}"


@dataclass(frozen=True)
class WrittenCuts:
    """What became of cuts.

    Attributes:
        record: The file that lists what was made, now or before.
        size: How many that are.
        failures: The others, sorted by id.
    """

    record: Path
    size: int
    failures: list[FailedUtterance]

    def files(self) -> Iterator[AudioFile]:
        """What was made, sorted by id."""
        return _read_record(self.record)


def write_cuts(
    folder: PathLike,
    recordings: Iterable[Recording],
    conf: AudioConf,
    nj: int = 1,
    total: int | None = None,
) -> WrittenCuts:
    """Write an audio file for each utterance.

    The files are in 256 subfolders, as file systems are slow with many in one. A file
    that is what is asked for already is not copied. ``record`` in the folder has a line
    of JSON for each utterance that is finished: a file gets its name when it is
    complete, and its line after that, so whatever the record has is complete. Utterances
    whose source and options are as recorded are not made again.

    Memory does not grow with the number of recordings: few are in flight at a time.

    Args:
        folder: Where to write them. One process at a time may do that.
        recordings: What to cut; read twice where there is a record.
        conf: How audio is written.
        nj: How many recordings are worked on at a time.
        total: How many utterances there are, for the progress bar.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    record = folder / "record"
    writer, failures = _CutWriter(folder, conf), list[FailedUtterance]()
    progress = tqdm(
        _write_all(writer, _with_recorded(record, recordings), nj),
        desc=str(folder.parent), total=total, unit="utt", disable=None,
    )  # fmt: skip
    with record.open("a", encoding="utf-8", buffering=1) as lines:
        if not _ends_whole(record):
            lines.write("\n")  # a killed run left half a line
        made = SortedRows(_note(progress, lines, failures))
    with (
        atomic_write(record) as part,
        open(part, "w", encoding="utf-8", newline="\n") as sorted_lines,
    ):
        sorted_lines.writelines(line for _, line in made)
    failures.sort(key=lambda failed: failed.utt_id)
    return WrittenCuts(record, len(made), failures)


def _note(
    results: Iterable["_Finished | AudioFile | FailedUtterance"],
    lines: IO[str],
    failures: list[FailedUtterance],
) -> Iterator[tuple[str, str]]:
    """Note what was made, as soon as it is; its id and its line."""
    for result in results:
        if isinstance(result, FailedUtterance):
            failures.append(result)
            continue
        file = result.file if isinstance(result, _Finished) else result
        line = _line(file)
        if file is result:
            lines.write(line)
        yield file.utt_id, line


def _with_recorded(
    record: Path, recordings: Iterable[Recording]
) -> Iterator[tuple[Recording, dict[str, AudioFile]]]:
    """Recordings, and what a record has of their cuts."""
    lines = SortedRows(
        (file.utt_id, number, _line(file))
        for number, file in enumerate(_read_record(record))
    )
    if not lines:
        yield from ((recording, {}) for recording in recordings)
        return
    # Of an utterance that was made anew, the last line counts.
    last = (
        (utt_id, [*group][-1][2]) for utt_id, group in groupby(lines, itemgetter(0))
    )
    cuts = SortedRows(
        (cut.utt_id, number)
        for number, recording in enumerate(recordings)
        for cut in recording.cuts
    )
    known = SortedRows((number, line) for _, number, line in match(cuts, last))
    groups = groupby(known, itemgetter(0))
    at, group = next(groups, (-1, iter(())))
    for number, recording in enumerate(recordings):
        recorded = {}
        if number == at:
            files = (AudioFile(**json.loads(line)) for _, line in group)
            recorded = {file.utt_id: file for file in files}
            at, group = next(groups, (-1, iter(())))
        yield recording, recorded


@dataclass(frozen=True)
class _Finished:
    """A file that was there already."""

    file: AudioFile


@dataclass(frozen=True)
class _CutWriter:
    """Writes the cuts of a recording; several threads may, of different ones."""

    folder: Path
    conf: AudioConf

    def write(
        self, recording: Recording, recorded: dict[str, AudioFile]
    ) -> list[_Finished | AudioFile | FailedUtterance]:
        """Open a recording once, and write its cuts, save those that are finished."""
        entry = recording.entry
        cuts = self._digests(recording)
        finished = list(self._find_finished(cuts, recorded))
        there = {found.file.utt_id for found in finished}
        left = [(cut, digest) for cut, digest in cuts if cut.utt_id not in there]
        if not left:
            return [*finished]
        try:
            with open_audio(entry) as sound:
                made = [self._try_cut(entry, *cut, sound) for cut in left]
        except (AudioError, OSError) as error:
            made = [_failure(entry, cut, error) for cut, _ in left]
        return [*finished, *made]

    def _find_finished(
        self, cuts: list[tuple[Cut, str]], recorded: dict[str, AudioFile]
    ) -> Iterator[_Finished]:
        """Files that are there and were made of what they would be made of today."""
        for cut, digest in cuts:
            file = recorded.get(cut.utt_id)
            if file and file.source_digest == digest:
                if _has_size(file.path, file.num_bytes):
                    yield _Finished(file)

    def _digests(self, recording: Recording) -> list[tuple[Cut, str]]:
        """What each cut is made of and how, in a form to compare."""
        entry = recording.entry
        state = FileState.of(entry) if os.path.isfile(entry) else None
        sources = [repr((entry, state, cut, self.conf)) for cut in recording.cuts]
        digests = [hashlib.sha256(source.encode()).hexdigest() for source in sources]
        return list(zip(recording.cuts, digests, strict=True))

    def _try_cut(
        self, entry: str, cut: Cut, digest: str, sound: soundfile.SoundFile
    ) -> AudioFile | FailedUtterance:
        try:
            path, num_samples = self._write_cut(entry, cut, sound)
            num_bytes = os.path.getsize(path)
            return AudioFile(cut.utt_id, path, num_samples, num_bytes, digest)
        except (AudioError, OSError, soundfile.SoundFileError) as error:
            return _failure(entry, cut, error)

    def _write_cut(
        self, entry: str, cut: Cut, sound: soundfile.SoundFile
    ) -> tuple[str, int]:
        """Write a file, unless the recording is one; its path and number of samples."""
        samples = read_audio(sound, cut.segment, self.conf.ref_channel)
        fs = self.conf.fs or sound.samplerate
        if cut.is_whole and self._is_as_asked(entry, sound, fs):
            return entry, len(samples)
        samples = change_speed(samples, sound.samplerate, fs, cut.speed)
        if not len(samples):
            raise AudioError(f"too short: nothing is left of it at {fs} Hz")
        path = self._path(cut.utt_id)
        path.parent.mkdir(exist_ok=True)
        write_audio(path, samples, fs, self.conf.audio_format)
        return str(path), len(samples)

    def _is_as_asked(self, entry: str, sound: soundfile.SoundFile, fs: int) -> bool:
        return not entry.endswith("|") and (
            (sound.format, sound.subtype, sound.channels, sound.samplerate)
            == (self.conf.audio_format.upper(), SUBTYPE, 1, fs)
        )

    def _path(self, utt_id: str) -> Path:
        if "/" in utt_id:
            raise AudioError("expected no '/' in the name of an utterance, found one")
        subfolder = f"{zlib.crc32(utt_id.encode()) % 256:02x}"
        return self.folder / subfolder / f"{utt_id}.{self.conf.audio_format}"


def _write_all(
    writer: _CutWriter,
    recordings: Iterable[tuple[Recording, dict[str, AudioFile]]],
    nj: int,
) -> Iterator[_Finished | AudioFile | FailedUtterance]:
    pool = ThreadPoolExecutor(nj)  # soundfile and soxr release the GIL
    pending: set[Future] = set()
    try:
        for recording, recorded in recordings:
            pending.add(pool.submit(writer.write, recording, recorded))
            if len(pending) >= _IN_FLIGHT * nj:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        for future in as_completed(pending):
            yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _has_size(path: str, num_bytes: int) -> bool:
    try:
        return os.path.getsize(path) == num_bytes
    except OSError:
        return False


def _read_record(path: Path) -> Iterator[AudioFile]:
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield AudioFile(**json.loads(line))
            except (ValueError, TypeError):
                # Half-written by a killed run, or by version 0.1: made anew.
                continue


def _ends_whole(path: Path) -> bool:
    """Whether a file is empty, or ends with a line's end."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


def _line(file: AudioFile) -> str:
    return json.dumps(vars(file), ensure_ascii=False) + "\n"


def _failure(entry: str, cut: Cut, error: Exception) -> FailedUtterance:
    source = entry if cut.segment.is_whole else f"{entry} {cut.segment}"
    return FailedUtterance(cut.utt_id, source, str(error))
