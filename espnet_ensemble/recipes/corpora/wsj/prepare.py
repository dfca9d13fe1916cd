"""Data directories of the Wall Street Journal corpus: newspaper sentences, read aloud.

CSR-I and CSR-II, from the Linguistic Data Consortium under its licence: WSJ0 is LDC93S6A
or LDC93S6B, WSJ1 LDC94S13A or LDC94S13B. Layout of the discs::

    11-13.1/wsj0/doc/indices/train/tr_s_wv1.ndx     the recordings of a set
    11-1.1/wsj0/si_tr_s/01i/01ic0201.wv1            speaker 01i, primary microphone
    11-10.1/wsj0/transcrp/dots/si_tr_s/01i/01ic0200.dot     the session's transcriptions

============ =========== =========================================================
train_si284  37416 utt   WSJ0's and WSJ1's speaker-independent training sets
train_si84    7138 utt   WSJ0's
train_10h     10 h       a part of train_si284, see :func:`balanced_subset`
test_dev93     503 utt   Nov'93 development test, hub 1 (64k words)
test_eval92    333 utt   Nov'92 evaluation test, 20k words, non-verbalised punctuation
test_eval93    213 utt   Nov'93 evaluation test, hub 1 (64k words)
============ =========== =========================================================

The primary microphone's recordings (SPHERE) are written once as FLAC files. Utterances are
named as on the discs; their first three letters are the speaker. For the texts, see
:mod:`espnet_ensemble.recipes.corpora.wsj.transcripts`.
"""

import hashlib
import heapq
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from espnet_ensemble.data.audio import write_audio
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, write_text
from espnet_ensemble.recipes.corpora.data_dir import DataDir, Utterance, write_data_dir
from espnet_ensemble.recipes.corpora.parallel import (
    list_first,
    map_processes,
    map_threads,
)
from espnet_ensemble.recipes.corpora.wsj.discs import Discs, read_index
from espnet_ensemble.recipes.corpora.wsj.sphere import FS, decode, read_header
from espnet_ensemble.recipes.corpora.wsj.transcripts import NOISE, normalize, read_dot

logger = logging.getLogger(__name__)

_SI84 = "11-13.1/wsj0/doc/indices/train/tr_s_wv1.ndx"
#: The lists that each set is made of.
INDICES = {
    "train_si284": ("13-34.1/wsj1/doc/indices/si_tr_s.ndx", _SI84),
    "train_si84": (_SI84,),
    "test_dev93": ("13-34.1/wsj1/doc/indices/h1_p0.ndx",),
    "test_eval92": ("11-13.1/wsj0/doc/indices/test/nvp/si_et_20.ndx",),
    "test_eval93": ("13-32.1/wsj1/doc/indices/wsj1/eval/h1_p0.ndx",),
}
#: The numbers of utterances that Kaldi's recipe finds in them, too.
COUNTS = {
    "train_si284": 37416,
    "train_si84": 7138,
    "test_dev93": 503,
    "test_eval92": 333,
    "test_eval93": 213,
}
HOURS = 10.0
_HEADERS_AT_A_TIME = 8
# The list of WSJ0's training set has this speaker, whom no disc transcribes.
_NO_TRANSCRIPTS = "wsj0/si_tr_s/401/"


@dataclass(frozen=True)
class Recording:
    """A recording on the discs, its FLAC file, and its text, if there is one."""

    utt_id: str
    sphere: Path
    flac: Path
    text: str | None

    @property
    def spk(self) -> str:
        """The speaker's three letters."""
        return self.utt_id[:3]


def prepare_wsj(
    wsj0: PathLike,
    wsj1: PathLike,
    output_dir: PathLike,
    flac_dir: PathLike,
    hours: float = HOURS,
    nj: int = 1,
) -> dict[str, DataDir]:
    """Make the FLAC files that are not there yet, and the data directories.

    Args:
        wsj0: Folder of the discs of LDC93S6A or LDC93S6B.
        wsj1: Folder of the discs of LDC94S13A or LDC94S13B; it may be the same.
        output_dir: The parent of the data directories, and of ``nlsyms.txt``.
        flac_dir: The FLAC files' folder. ``wav.scp`` names them by this path as given.
        hours: Length of the balanced subset.
        nj: Number of processes.

    Returns:
        What was made of each set.

    Raises:
        EnsembleError: If a list, a recording or a transcription is missing or malformed,
            or a recording is cut off. All is looked for before anything is decoded, and
            all recordings are decoded before the data directories are made.
    """
    discs = Discs(_roots(wsj0, wsj1))
    sets = {name: _list_set(name, discs, Path(flac_dir)) for name in INDICES}
    recordings = {r.flac: r for found in sets.values() for r in found}
    num_samples = make_flacs(list(recordings.values()), nj)
    sets[subset_name(hours)] = balanced_subset(sets["train_si284"], num_samples, hours)
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    _write_symbols(output_dir / "nlsyms.txt", sets["train_si284"])
    return {
        name: write_data_dir(
            output_dir / name,
            [
                Utterance(r.utt_id, r.spk, r.flac, num_samples[r.flac] / FS, r.text)
                for r in found
            ],
        )
        for name, found in sets.items()
    }


def subset_name(hours: float) -> str:
    """The balanced subset's data directory: train_10h for 10 hours."""
    return f"train_{hours:g}h"


def balanced_subset(
    recordings: Iterable[Recording], num_samples: Mapping[Path, int], hours: float
) -> list[Recording]:
    """Choose recordings so that all speakers have about the same time.

    The speaker who has the least time so far (of several, the first by name) gives the
    next recording, until the hours are full. A speaker's recordings come in the order of
    the MD5 sums of their ids: a shuffle that is the same everywhere.

    Args:
        recordings: To choose from.
        num_samples: Their numbers of samples, by FLAC file.
        hours: At least so much is chosen, or everything.
    """
    waiting: dict[str, list[Recording]] = {}
    for recording in sorted(recordings, key=_shuffled, reverse=True):
        waiting.setdefault(recording.spk, []).append(recording)
    chosen, total = [], 0
    turns = [(0, spk) for spk in sorted(waiting)]
    while turns and total < hours * 3600 * FS:
        length, spk = heapq.heappop(turns)
        chosen.append(waiting[spk].pop())
        total += num_samples[chosen[-1].flac]
        if waiting[spk]:
            heapq.heappush(turns, (length + num_samples[chosen[-1].flac], spk))
    return chosen


def make_flacs(recordings: list[Recording], nj: int) -> dict[Path, int]:
    """Make the FLAC files that are not there yet.

    Returns:
        Numbers of samples by FLAC file.

    Raises:
        EnsembleError: If a recording cannot be decoded; all others are made.
    """
    num_samples, missing = {}, []
    for recording in recordings:
        try:
            num_samples[recording.flac] = soundfile.info(recording.flac).frames
        except soundfile.LibsndfileError:  # not there or, after a power cut, empty
            missing.append(recording)
    if not missing:
        return num_samples
    map_threads(read_header, [r.sphere for r in missing], _HEADERS_AT_A_TIME, "check")
    for folder in {recording.flac.parent for recording in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    made = map_processes(_make_flac, missing, nj, "decode")
    flacs = (recording.flac for recording in missing)
    return {**num_samples, **dict(zip(flacs, made, strict=True))}


def _roots(wsj0: PathLike, wsj1: PathLike) -> list[Path]:
    editions = {"WSJ0": "LDC93S6A or LDC93S6B", "WSJ1": "LDC94S13A or LDC94S13B"}
    roots = dict(zip(editions, (wsj0, wsj1), strict=True))
    for name, root in roots.items():
        if not str(root) or not Path(root).is_dir():
            raise EnsembleError(
                f"{name}: expected the folder with the discs of {editions[name]}, found "
                f"{str(root)!r}; set {name} in db.sh"
            )
    return list(dict.fromkeys(Path(root).resolve() for root in roots.values()))


def _list_set(name: str, discs: Discs, flac_dir: Path) -> list[Recording]:
    """Find a set's recordings and transcriptions.

    Raises:
        EnsembleError: If a list, a recording or a transcription is not there.
    """
    recordings: dict[str, Recording] = {}
    lost, untranscribed = [], []
    for index in INDICES[name]:
        path = _find_list(name, discs, index)
        for listed in read_index(path):
            if _NO_TRANSCRIPTS in listed.lower():
                continue
            sphere = discs.find(listed)
            if sphere is None:
                lost.append(f"{path}: {listed}")
                continue
            recording = _recording(listed, sphere, discs, flac_dir)
            if recording.text is None:
                untranscribed.append(str(sphere))
            recordings[recording.utt_id] = recording
    _refuse(lost, f"{name}: recordings are listed that are on none of the discs")
    _refuse(untranscribed, f"{name}: recordings are in no .dot file")
    if len(recordings) != COUNTS[name]:
        logger.warning(
            "%s: %d utterances are in the complete corpus, found %d",
            name,
            COUNTS[name],
            len(recordings),
        )
    return sorted(recordings.values(), key=lambda recording: recording.utt_id)


def _find_list(name: str, discs: Discs, index: str) -> Path:
    path = discs.find(index)
    if path is None:
        raise EnsembleError(
            f"{name}: expected the list {index}, found none; disc "
            f"{index.split('/')[0]} is missing, or WSJ0 and WSJ1 are not the folders "
            "with the discs"
        )
    return path


def _recording(listed: str, sphere: Path, discs: Discs, flac_dir: Path) -> Recording:
    _, _, name = listed.lower().removesuffix(".wv1").partition("/")
    *_, folder, spk, utt_id = name.split("/")
    dot = discs.find(f"{folder}/{spk}/{utt_id[:6]}00.dot")
    transcript = _read_dot(dot).get(utt_id) if dot else None
    text = None if transcript is None else normalize(transcript)
    return Recording(utt_id, sphere, flac_dir / f"{name}.flac", text)


_read_dot = lru_cache(maxsize=None)(read_dot)


def _refuse(problems: list[str], what: str) -> None:
    if problems:
        raise EnsembleError(f"{what}:{list_first(problems)}")


def _make_flac(recording: Recording) -> int:
    """Write a FLAC file; return its number of samples."""
    samples = decode(recording.sphere)
    write_audio(recording.flac, samples / np.float32(32768), FS, "flac")
    return len(samples)


def _shuffled(recording: Recording) -> bytes:
    return hashlib.md5(recording.utt_id.encode()).digest()


def _write_symbols(path: Path, recordings: Iterable[Recording]) -> None:
    """Write the words that are no words: one token each, not counted in scoring."""
    words = {word for r in recordings for word in (r.text or "").split()}
    found = {word for word in words if "<" in word}
    write_text(path, "".join(f"{word}\n" for word in sorted(found | {NOISE})))
