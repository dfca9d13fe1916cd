"""Cuts of recordings, each written as an audio file of its own.

What a run has finished is not made again by the next one, also after it was killed.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

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
        files: What was made, now or before, by the utterance's id.
        failures: The others, sorted by id.
    """

    files: dict[str, AudioFile]
    failures: list[FailedUtterance]


def write_cuts(
    folder: PathLike, recordings: Sequence[Recording], conf: AudioConf, nj: int = 1
) -> WrittenCuts:
    """Write an audio file for each utterance.

    The files are in 256 subfolders, as file systems are slow with many in one. A file
    that is what is asked for already is not copied. ``record`` in the folder has a line
    of JSON for each utterance that is finished: a file gets its name when it is
    complete, and its line after that, so whatever the record has is complete. Utterances
    whose source and options are as recorded are not made again.

    Args:
        folder: Where to write them. One process at a time may do that.
        recordings: What to cut.
        conf: How audio is written.
        nj: How many recordings are worked on at a time.
    """
    folder = Path(folder)
    record = folder / "record"
    writer = _CutWriter(folder, conf)
    recorded = {file.utt_id: file for file in _read_record(record)}
    files = {
        file.utt_id: file
        for recording in recordings
        for file in writer.find_finished(recording, recorded)
    }
    del recorded
    failures = []
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    # This also ends a line that a killed run left half-written.
    _write_record(record, files)
    results = _write_all(writer, _without(recordings, files), nj)
    total = sum(len(recording.cuts) for recording in recordings) - len(files)
    progress = tqdm(
        results, desc=str(folder.parent), total=total, unit="utt", disable=None
    )
    with record.open("a", encoding="utf-8", buffering=1) as lines:
        for result in progress:
            if isinstance(result, FailedUtterance):
                failures.append(result)
            else:
                files[result.utt_id] = result
                lines.write(_line(result))
    _write_record(record, files)
    return WrittenCuts(files, sorted(failures, key=lambda failed: failed.utt_id))


def _without(
    recordings: Iterable[Recording], finished: dict[str, AudioFile]
) -> Iterator[Recording]:
    for recording in recordings:
        cuts = tuple(cut for cut in recording.cuts if cut.utt_id not in finished)
        if cuts:
            yield replace(recording, cuts=cuts)


@dataclass(frozen=True)
class _CutWriter:
    """Writes the cuts of a recording; several threads may, of different ones."""

    folder: Path
    conf: AudioConf

    def find_finished(
        self, recording: Recording, recorded: dict[str, AudioFile]
    ) -> Iterator[AudioFile]:
        """Files that are there and were made of what they would be made of today."""
        cuts = [cut for cut in recording.cuts if cut.utt_id in recorded]
        for cut, digest in self._digests(replace(recording, cuts=tuple(cuts))):
            file = recorded[cut.utt_id]
            if file.source_digest == digest and _has_size(file.path, file.num_bytes):
                yield file

    def write(self, recording: Recording) -> list[AudioFile | FailedUtterance]:
        """Open a recording once, and write all its cuts."""
        entry = recording.entry
        try:
            cuts = self._digests(recording)
            with open_audio(entry) as sound:
                return [self._try_cut(entry, cut, key, sound) for cut, key in cuts]
        except (AudioError, OSError) as error:
            return [_failure(entry, cut, error) for cut in recording.cuts]

    def _digests(self, recording: Recording) -> list[tuple[Cut, str]]:
        """What each cut is made of and how, in a form to compare."""
        entry = recording.entry
        if not recording.cuts:
            return []
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
    writer: _CutWriter, recordings: Iterable[Recording], nj: int
) -> Iterator[AudioFile | FailedUtterance]:
    pool = ThreadPoolExecutor(nj)  # soundfile and soxr release the GIL
    pending: set[Future] = set()
    try:
        for recording in recordings:
            pending.add(pool.submit(writer.write, recording))
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


def _write_record(path: Path, files: dict[str, AudioFile]) -> None:
    with (
        atomic_write(path) as part,
        open(part, "w", encoding="utf-8", newline="\n") as lines,
    ):
        lines.writelines(_line(files[utt_id]) for utt_id in sorted(files))


def _line(file: AudioFile) -> str:
    return json.dumps(vars(file), ensure_ascii=False) + "\n"


def _failure(entry: str, cut: Cut, error: Exception) -> FailedUtterance:
    source = entry if cut.segment.is_whole else f"{entry} {cut.segment}"
    return FailedUtterance(cut.utt_id, source, str(error))
