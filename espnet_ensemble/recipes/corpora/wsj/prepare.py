#!/usr/bin/env python3
"""Make data directories of the Wall Street Journal corpus from LDC's discs.

============ =========== =========================================================
train_si284  37416 utt   WSJ0's and WSJ1's speaker-independent training sets
train_si84    7138 utt   WSJ0's
train_10h     10 h       a part of train_si284, see :func:`balanced_subset`
test_dev93     503 utt   Nov'93 development test, hub 1 (64k words)
test_eval92    333 utt   Nov'92 evaluation test, 20k words, non-verbalised punctuation
test_eval93    213 utt   Nov'93 evaluation test, hub 1 (64k words)
============ =========== =========================================================

The primary microphone (``.wv1``), written once as FLAC files. Utterances are named as on
the discs; their first three letters are the speaker. Texts: see ``transcripts.py``.
"""

import argparse
import hashlib
import heapq
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
import soundfile
from tqdm import tqdm

from espnet_ensemble.data import datadir
from espnet_ensemble.data.audio import AudioError, write_audio
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.files import write_text
from espnet_ensemble.recipes.corpora.wsj.discs import Discs, read_index
from espnet_ensemble.recipes.corpora.wsj.sphere import FS, decode, read_header
from espnet_ensemble.recipes.corpora.wsj.transcripts import NOISE, normalize, read_dot

Pathlike = Union[str, Path]

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
# The list of WSJ0's training set has this speaker, whom no disc transcribes.
_NO_TRANSCRIPTS = "wsj0/si_tr_s/401/"


class Utterance(NamedTuple):
    """A recording on the discs, its FLAC file, and its text, if there is one."""

    utt_id: str
    sphere: Path
    flac: Path
    text: str | None

    @property
    def speaker(self) -> str:
        """The speaker's three letters."""
        return self.utt_id[:3]


def prepare_wsj(
    wsj0: Pathlike,
    wsj1: Pathlike,
    output_dir: Pathlike,
    flac_dir: Pathlike,
    hours: float = HOURS,
    nj: int = 1,
) -> dict[str, Path]:
    """Make the FLAC files that are not there yet, and the data directories.

    Args:
        wsj0: Folder of the discs of LDC93S6A or LDC93S6B.
        wsj1: Folder of the discs of LDC94S13A or LDC94S13B; it may be the same.
        output_dir: Where the data directories go, and ``nlsyms.txt``.
        flac_dir: Where the FLAC files go. wav.scp names them by this path as given.
        hours: Length of the balanced subset.
        nj: Number of processes.

    Returns:
        The data directories by name.

    Raises:
        DataError: If a list, a recording or a transcription is missing or malformed, or a
            recording is cut off. All is looked for before anything is decoded, and all
            recordings are decoded before the data directories are made.
    """
    discs = Discs(_roots(wsj0, wsj1))
    sets = {name: _list_set(name, discs, Path(flac_dir)) for name in INDICES}
    utterances = {u.flac: u for found in sets.values() for u in found}
    num_samples = make_flacs(list(utterances.values()), nj)
    sets[subset_name(hours)] = balanced_subset(sets["train_si284"], num_samples, hours)
    output_dir = Path(output_dir)
    symbols = {w for u in sets["train_si284"] for w in u.text.split() if "<" in w}
    output_dir.mkdir(parents=True, exist_ok=True)
    write_text(
        output_dir / "nlsyms.txt",
        "".join(f"{symbol}\n" for symbol in sorted(symbols | {NOISE})),
    )
    return {
        name: _write_data_dir(output_dir / name, found, num_samples)
        for name, found in sets.items()
    }


def subset_name(hours: float) -> str:
    """The balanced subset's data directory: train_10h for 10 hours."""
    return f"train_{hours:g}h"


def balanced_subset(
    utterances: Iterable[Utterance], num_samples: Mapping[Path, int], hours: float
) -> list[Utterance]:
    """Choose utterances so that all speakers have about the same time.

    The speaker who has the least time so far (of several, the first by name) gives the
    next utterance, until the hours are full. A speaker's utterances come in the order of
    the MD5 sums of their names: a shuffle that is the same everywhere.

    Args:
        utterances: To choose from.
        num_samples: Their numbers of samples, by FLAC file.
        hours: At least so much is chosen, or everything.
    """
    waiting: dict[str, list[Utterance]] = {}
    for utterance in sorted(utterances, key=_shuffled, reverse=True):
        waiting.setdefault(utterance.speaker, []).append(utterance)
    chosen, total = [], 0
    turns = [(0, speaker) for speaker in sorted(waiting)]
    while turns and total < hours * 3600 * FS:
        length, speaker = heapq.heappop(turns)
        chosen.append(waiting[speaker].pop())
        total += num_samples[chosen[-1].flac]
        if waiting[speaker]:
            turn = (length + num_samples[chosen[-1].flac], speaker)
            heapq.heappush(turns, turn)
    return chosen


def make_flacs(utterances: list[Utterance], nj: int) -> dict[Path, int]:
    """Make the FLAC files that are not there yet.

    Returns:
        Numbers of samples by FLAC file.

    Raises:
        DataError: If a recording cannot be decoded; all others are made.
    """
    num_samples, missing = {}, []
    for utterance in utterances:
        try:
            num_samples[utterance.flac] = soundfile.info(utterance.flac).frames
        except soundfile.LibsndfileError:  # not there or, after a power cut, empty
            missing.append(utterance)
    if not missing:
        return num_samples
    progress = partial(tqdm, total=len(missing), unit="utt", mininterval=1)
    with ThreadPoolExecutor(8) as threads:
        checked = progress(threads.map(_check_header, missing), desc="check")
        _raise_first([problem for problem in checked if problem])
    for folder in {utterance.flac.parent for utterance in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    if nj == 1:
        results = list(progress(map(_make_flac, missing), desc="decode"))
    else:
        # Not fork: a process that has started threads must not.
        with ProcessPoolExecutor(nj, mp_context=get_context("spawn")) as pool:
            made = pool.map(_make_flac, missing, chunksize=16)
            results = list(progress(made, desc="decode"))
    _raise_first([result for result in results if isinstance(result, str)])
    num_samples.update(zip((u.flac for u in missing), results))
    return num_samples


def _roots(wsj0: Pathlike, wsj1: Pathlike) -> list[Path]:
    editions = {"WSJ0": "LDC93S6A or LDC93S6B", "WSJ1": "LDC94S13A or LDC94S13B"}
    roots = dict(zip(editions, (wsj0, wsj1)))
    for name, root in roots.items():
        if not str(root) or not Path(root).is_dir():
            raise DataError(
                f"{name}: expected the folder with the discs of {editions[name]}, found "
                f"{str(root)!r}; set {name} in db.sh"
            )
    return list(dict.fromkeys(Path(root).resolve() for root in roots.values()))


def _list_set(name: str, discs: Discs, flac_dir: Path) -> list[Utterance]:
    """Find a set's recordings and transcriptions.

    Raises:
        DataError: If a list, a recording or a transcription is not there.
    """
    utterances: dict[str, Utterance] = {}
    lost, untranscribed = [], []
    for index in INDICES[name]:
        path = discs.find(index)
        if path is None:
            raise DataError(
                f"{name}: expected the list {index}, found none; disc "
                f"{index.split('/')[0]} is missing, or WSJ0 and WSJ1 are not the folders "
                "with the discs"
            )
        for listed in read_index(path):
            if _NO_TRANSCRIPTS in listed.lower():
                continue
            sphere = discs.find(listed)
            if sphere is None:
                lost.append(f"{path}: {listed}")
                continue
            utterance = _utterance(listed, sphere, discs, flac_dir)
            if utterance.text is None:
                untranscribed.append(str(sphere))
            utterances[utterance.utt_id] = utterance
    _raise_first(lost, f"{name}: recordings are listed that are on none of the discs")
    _raise_first(untranscribed, f"{name}: recordings are in no .dot file")
    if len(utterances) != COUNTS[name]:
        print(
            f"warning: {name}: {COUNTS[name]} utterances are in the complete corpus, "
            f"found {len(utterances)}"
        )
    return sorted(utterances.values())


def _utterance(listed: str, sphere: Path, discs: Discs, flac_dir: Path) -> Utterance:
    _, _, name = listed.lower().removesuffix(".wv1").partition("/")
    *_, folder, speaker, utt_id = name.split("/")
    dot = discs.find(f"{folder}/{speaker}/{utt_id[:6]}00.dot")
    transcript = _read_dot(dot).get(utt_id) if dot else None
    text = None if transcript is None else normalize(transcript)
    return Utterance(utt_id, sphere, flac_dir / f"{name}.flac", text)


_read_dot = lru_cache(maxsize=None)(read_dot)


def _raise_first(problems: list[str], what: str = "") -> None:
    """Raise an error about some problems, if there are any."""
    if not problems:
        return
    shown = "".join(f"\n    {problem}" for problem in problems[:5])
    more = f"\n    and {len(problems) - 5} more" if len(problems) > 5 else ""
    raise DataError(f"{what or 'recordings cannot be used'}:{shown}{more}")


def _check_header(utterance: Utterance) -> str:
    """What is wrong with a recording, or nothing."""
    try:
        read_header(utterance.sphere)
    except AudioError as error:
        return str(error)
    return ""


def _make_flac(utterance: Utterance) -> int | str:
    """Write a FLAC file; return its number of samples, or what is wrong."""
    try:
        samples = decode(utterance.sphere)
    except AudioError as error:
        return str(error)
    write_audio(utterance.flac, samples / np.float32(32768), FS, "flac")
    return len(samples)


def _shuffled(utterance: Utterance) -> bytes:
    return hashlib.md5(utterance.utt_id.encode()).digest()


def _write_data_dir(
    data_dir: Path, utterances: list[Utterance], num_samples: Mapping[Path, int]
) -> Path:
    seconds = {u.utt_id: num_samples[u.flac] / FS for u in utterances}
    tables = {
        "wav.scp": {u.utt_id: str(u.flac) for u in utterances},
        "text": {u.utt_id: u.text for u in utterances},
        "utt2spk": {u.utt_id: u.speaker for u in utterances},
        "utt2dur": {utt_id: f"{length:.3f}" for utt_id, length in seconds.items()},
    }
    datadir.write(data_dir, tables)
    datadir.validate(data_dir)
    speakers = set(tables["utt2spk"].values())
    hours = sum(seconds.values()) / 3600
    print(f"{data_dir}: {len(seconds)} utt, {len(speakers)} speakers, {hours:.2f} h")
    return data_dir


def get_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description="Make data directories of WSJ. A run that was cut short goes on where "
        "it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--wsj0", required=True, help="folder of the discs of LDC93S6A/B"
    )
    parser.add_argument(
        "--wsj1", required=True, help="folder of the discs of LDC94S13A/B"
    )
    parser.add_argument("--output_dir", default="data", help="for data directories")
    parser.add_argument("--flac_dir", default="downloads/wsj", help="for FLAC files")
    parser.add_argument(
        "--hours", type=float, default=HOURS, help="length of the balanced subset"
    )
    parser.add_argument(
        "--nj", type=int, default=len(os.sched_getaffinity(0)), help="processes"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make them."""
    parser = get_parser()
    try:
        prepare_wsj(**vars(parser.parse_args(cmd)))
    except DataError as error:
        parser.exit(1, f"prepare_wsj.py: {error}\n")


if __name__ == "__main__":
    main()
