#!/usr/bin/env python3
"""What steps cost with many utterances: time and memory, before and after, or beside a peer.

Each step runs in a process of its own on made files, rounds take turns, and a figure is the
median. Seconds are of the processor, with child processes, so that other work on the machine
counts less; Python's start and imports are left out. Memory is what the step adds.

    git worktree add /tmp/before <commit>
    python benchmarks/scale.py wer cer --utterances 28539 --before /tmp/before
    python benchmarks/scale.py wer_rapidfuzz wer_jiwer --utterances 28539 281241

Without --before, the steps of this checkout run alone. Columns are seconds and MB; the ratio
is before / after, in time and in memory.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

REPOSITORY = Path(__file__).resolve().parents[1]
#: What a step needs, and what it does: folder of made files -> function to be timed.
STEPS: dict[str, "Step"] = {}
Work = Callable[[], object]


@dataclass(frozen=True)
class Step:
    """Something to be timed.

    Attributes:
        make: Makes files in a folder, for so many utterances.
        prepare: Imports what is needed; returns what is timed.
    """

    make: Callable[[Path, int], None]
    prepare: Callable[[Path], Work]


def step(make: Callable[[Path, int], None]):
    """Register a step by the name of its function."""

    def register(prepare):
        STEPS[prepare.__name__] = Step(make, prepare)
        return prepare

    return register


# Scoring.


def make_texts(folder: Path, utterances: int) -> None:
    """References of 35 words, and hypotheses with an error in ten: its usual kinds."""
    rng = random.Random(0)
    letters = "eeeetttaaaooiinnsshhrrdlucmfpgwybvk"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 8))) for _ in range(20000)]
    # Frequent words are frequent.
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    with (
        open(folder / "ref", "w") as ref,
        open(folder / "hyp", "w") as hyp,
        open(folder / "utt2spk", "w") as utt2spk,
    ):
        for number in range(utterances):
            utt_id = f"{number // 100:06}-{number:08}"
            said = rng.choices(words, weights, k=rng.randint(5, 65))
            heard = [_mishear(word, words, rng) for word in said]
            print(utt_id, *said, file=ref)
            print(utt_id, *filter(None, heard), file=hyp)
            print(utt_id, utt_id[:6], file=utt2spk)


def _mishear(word: str, words: list[str], rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.05:  # one letter is another one
        place = rng.randrange(len(word))
        return word[:place] + rng.choice("aeiou") + word[place + 1 :]
    if kind < 0.07:
        return rng.choice(words)
    if kind < 0.085:
        return ""
    return f"{word} {rng.choice(words)}" if kind < 0.1 else word


def _score(folder: Path, metric: str, **options) -> Work:
    from espnet_ensemble.recipes.results import write_score
    from espnet_ensemble.recipes.transcripts import (
        build_tokenizers,
        read_transcripts,
        tokenize,
    )

    def work():
        texts = read_transcripts(*(folder / name for name in ("ref", "hyp", "utt2spk")))
        tokens = [
            tokenize(table, build_tokenizers()[metric])
            for table in (texts.ref, texts.hyp)
        ]
        write_score(folder / "score", *tokens, texts.utt2spk, **options)

    return work


@step(make_texts)
def wer(folder: Path) -> Work:
    """Word error rates: tables read, tokens made, all files written."""
    os.environ["PATH"] = (
        ""  # without sclite, which the first versions took by themselves
    )
    return _score(folder, "wer")


@step(make_texts)
def cer(folder: Path) -> Work:
    """Character error rates."""
    os.environ["PATH"] = ""
    return _score(folder, "cer")


@step(make_texts)
def wer_sclite(folder: Path) -> Work:
    """The same by sclite."""
    return _score(folder, "wer", use_sclite=True)


@step(make_texts)
def cer_sclite(folder: Path) -> Work:
    """The same by sclite."""
    return _score(folder, "cer", use_sclite=True)


def _read_texts(folder: Path) -> list[list[str]]:
    return [
        [line.partition(" ")[2].rstrip("\n") for line in open(folder / name)]
        for name in ("ref", "hyp")
    ]


@step(make_texts)
def wer_jiwer(folder: Path) -> Work:
    """jiwer: counts, with its alignments."""
    import jiwer

    return lambda: jiwer.process_words(*_read_texts(folder))


@step(make_texts)
def cer_jiwer(folder: Path) -> Work:
    """jiwer: counts, with its alignments."""
    import jiwer

    return lambda: jiwer.process_characters(*_read_texts(folder))


@step(make_texts)
def wer_rapidfuzz(folder: Path) -> Work:
    """rapidfuzz: operations of least number, which are not sclite's, and no files."""
    from rapidfuzz.distance import Levenshtein

    def work():
        for ref, hyp in zip(*_read_texts(folder), strict=True):
            Levenshtein.editops(ref.split(), hyp.split())

    return work


@step(make_texts)
def cer_rapidfuzz(folder: Path) -> Work:
    """rapidfuzz: operations of least number, which are not sclite's, and no files."""
    from rapidfuzz.distance import Levenshtein

    def work():
        for ref, hyp in zip(*_read_texts(folder), strict=True):
            Levenshtein.editops(ref, hyp)

    return work


# Data directories.


def make_data_dir(folder: Path, utterances: int) -> None:
    """A directory like ESPnet's dump/raw, of audio files that are not there."""
    data_dir = folder / "data"
    data_dir.mkdir()
    names = ("text", "utt2spk", "utt2num_samples", "wav.scp", "spk2utt")
    files = {name: open(data_dir / name, "w") for name in names}
    for first in range(0, utterances, 100):
        spk = f"{first // 100:06}"
        ids = [f"{spk}-{n:08}" for n in range(first, min(first + 100, utterances))]
        print(spk, *ids, file=files["spk2utt"])
        for utt_id in ids:
            print(utt_id, "THE CAT SAT ON THE MAT " * 8, file=files["text"])
            print(utt_id, spk, file=files["utt2spk"])
            print(utt_id, 196_000, file=files["utt2num_samples"])
            print(utt_id, f"dump/raw/{spk}/{utt_id}.flac", file=files["wav.scp"])
    for file in files.values():
        file.close()


@step(make_data_dir)
def validate(folder: Path) -> Work:
    """data_dir validate."""
    from espnet_ensemble.data import datadir

    # The first versions had one function, which also gave the tables.
    check = getattr(datadir, "check", datadir.validate)
    return lambda: check(folder / "data")


@step(make_data_dir)
def fix(folder: Path) -> Work:
    """data_dir fix, where nothing is wrong."""
    from espnet_ensemble.data import datadir

    return lambda: datadir.fix(folder / "data")


@step(make_data_dir)
def filter_lengths(folder: Path) -> Work:
    """filter_lengths, where all fit."""
    from espnet_ensemble.data import length

    return lambda: length.filter_lengths(folder / "data", folder / "kept", 16000)


@step(make_data_dir)
def combine(folder: Path) -> Work:
    """data_dir combine, of this directory and a copy of it at another speed."""
    from espnet_ensemble.data import datadir

    (folder / "copy").mkdir()
    for path in (folder / "data").iterdir():
        # Utterances' and speakers' ids are numbers.
        both = path.name in ("spk2utt", "utt2spk")
        with open(path) as lines, open(folder / "copy" / path.name, "w") as copy:
            for line in lines:
                words = line.split(" ") if both else [line]
                copy.write(" ".join(f"sp{word}" for word in words))
    return lambda: datadir.combine(folder / "both", folder / "data", folder / "copy")


@step(make_data_dir)
def subset(folder: Path) -> Work:
    """data_dir subset, of half of the utterances."""
    from espnet_ensemble.data import datadir

    with open(folder / "data" / "text") as text:
        half = sum(1 for _ in text) // 2
    return lambda: datadir.subset(folder / "data", folder / "half", first=half)


def make_audio_dir(folder: Path, utterances: int) -> None:
    """A directory of one audio file of a hundredth of a second, for all utterances."""
    import soundfile

    make_data_dir(folder, utterances)
    soundfile.write(folder / "x.wav", [0.1] * 160, 16000)
    utt_ids = (f"{n // 100:06}-{n:08}" for n in range(utterances))
    with open(folder / "data" / "wav.scp", "w") as wav_scp:
        wav_scp.writelines(f"{utt_id} {folder}/x.wav\n" for utt_id in utt_ids)
    (folder / "data" / "utt2num_samples").unlink()


@step(make_audio_dir)
def stage_2(folder: Path) -> Work:
    """Copies at three speeds, in FLAC."""
    from espnet_ensemble.data.formatting import speed_perturb

    return lambda: speed_perturb(folder / "data", folder / "sp")


@step(make_audio_dir)
def stage_3(folder: Path) -> Work:
    """Audio in FLAC."""
    from espnet_ensemble.data.formatting import format_audio

    return lambda: format_audio(folder / "data", folder / "raw")


# What ESPnet itself holds.


def make_training(folder: Path, utterances: int) -> None:
    """Shape files and transcripts, as training names them."""
    make_data_dir(folder, utterances)
    with (
        open(folder / "data" / "text") as text,
        open(folder / "speech_shape", "w") as speech_shape,
        open(folder / "text_shape", "w") as text_shape,
    ):
        for number, line in enumerate(text):
            utt_id, said = line.rstrip("\n").split(maxsplit=1)
            print(utt_id, 160_000 + number % 70_000, file=speech_shape)
            print(utt_id, f"{len(said)},30", file=text_shape)


@step(make_training)
def espnet_batches(folder: Path) -> Work:
    """ESPnet's batch sampler: what each process of a training holds of shape files."""
    from espnet2.samplers.build_batch_sampler import build_batch_sampler

    shapes = [str(folder / name) for name in ("speech_shape", "text_shape")]
    return lambda: build_batch_sampler(
        type="numel",
        batch_size=1,
        batch_bins=3_200_000,
        shape_files=shapes,
        sort_in_batch="descending",
        sort_batch="descending",
    )


@step(make_training)
def espnet_texts(folder: Path) -> Work:
    """ESPnet's dataset: what each process, workers among them, holds of transcripts."""
    from espnet2.train.dataset import ESPnetDataset

    source = (str(folder / "data" / "text"), "text", "text")
    return lambda: ESPnetDataset([source])


@step(make_training)
def espnet_paths(folder: Path) -> Work:
    """The same of audio files, where training is from audio: without the cache."""
    from espnet2.train.dataset import ESPnetDataset

    source = (str(folder / "data" / "wav.scp"), "speech", "sound")
    return lambda: ESPnetDataset([source])


# The feature cache.


def make_cache(folder: Path, utterances: int) -> None:
    """A cache of two members, and its data directory: of one audio file, and no features."""
    import soundfile

    from espnet_ensemble.feature_cache import archive
    from espnet_ensemble.feature_cache.dataset import write_combination
    from espnet_ensemble.feature_cache.identity import FeatureIdentity, read_wav
    from espnet_ensemble.feature_cache.member import Member, MemberInfo

    soundfile.write(folder / "x.wav", [0.1] * 160, 16000)
    make_data_dir(folder, utterances)
    utt_ids = [f"{n // 100:06}-{n:08}" for n in range(utterances)]
    with open(folder / "data" / "wav.scp", "w") as wav_scp:
        wav_scp.writelines(f"{utt_id} {folder}/x.wav\n" for utt_id in utt_ids)
    audio, members = read_wav(folder / "x.wav").identity, []
    write = _write_arks if hasattr(archive, "append_feats") else _write_archives
    for name in ("wavlm_base", "hubert_base"):
        features = FeatureIdentity(
            upstream=name, layer="last", layers=[12], extra_conf=None,
            fingerprint="0123456789abcdef", feature_size=768, fs=16000,
            hop_length=320, speech_fs=16000, dtype="float32",
        )  # fmt: skip
        member = Member(
            folder / "feats" / name / "data", MemberInfo(features, "float16")
        )
        member.shards.mkdir(parents=True)
        write(member, utt_ids, audio)
        members.append(member)
    write_combination(folder / "feats", members, folder / "data")


def _write_archives(member, utt_ids: list[str], audio) -> None:
    from espnet_ensemble.feature_cache.archive import Archive, Entry
    from espnet_ensemble.feature_cache.index import make_index
    from espnet_ensemble.feature_cache.shard import archive_name

    def archives():
        for number, first in enumerate(range(0, len(utt_ids), 100)):
            path = member.shards / archive_name(number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(bytes(1000))
            entries = {
                utt_id: Entry((row * 940_000,), (940_000,), 0, 612, audio)
                for row, utt_id in enumerate(utt_ids[first : first + 100])
            }
            yield Archive(path, 1000, "float16", entries, {})

    make_index(member.folder, archives(), member.shards)
    member.info.write(member.folder / "cache.yaml")


def _write_arks(member, utt_ids: list[str], audio) -> None:
    """As version 0.2 did, and before."""
    from espnet_ensemble.feature_cache.archive import Entry, write_index

    with member.being_made():
        for number, first in enumerate(range(0, len(utt_ids), 200)):
            ark = member.shards / f"{number:04}.ark"
            part = utt_ids[first : first + 200]
            ark.write_bytes(bytes(sum(len(utt_id) + 2 for utt_id in part)))
            entries = {
                utt_id: Entry(row * 940_000, 1, 0, 612, audio)
                for row, utt_id in enumerate(part)
            }
            write_index(ark.with_suffix(".index"), entries)


@step(make_cache)
def open_cache(folder: Path) -> Work:
    """FeatureCache, as training and each of its data loader's workers has it."""
    from espnet_ensemble.feature_cache.dataset import FeatureCache

    (path,) = folder.glob("feats/combinations/*/data/members.yaml")
    return lambda: FeatureCache(path)


@step(make_cache)
def loader_worker(folder: Path) -> Work:
    """Own memory of a data loader's worker that has looked up every utterance."""
    from espnet_ensemble.feature_cache.dataset import FeatureCache

    (path,) = folder.glob("feats/combinations/*/data/members.yaml")
    cache = FeatureCache(path)

    def look_up() -> Cost:
        start = time.process_time()
        for utt_id in cache:
            cache.num_frames(utt_id)
        return Cost(time.process_time() - start, _memory("RssAnon"))

    def work() -> Cost:
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as worker:
            before = worker.submit(_memory, "RssAnon").result()
            after = worker.submit(_run_in_worker).result()
        return Cost(after.seconds, after.megabytes - before)

    # The worker has the function as it was forked.
    _worker.clear()
    _worker.append(look_up)
    return work


_worker: list[Callable[[], "Cost"]] = []


def _run_in_worker() -> "Cost":
    return _worker[0]()


@step(make_cache)
def extract_again(folder: Path) -> Work:
    """extract where all is complete, but for loading the upstreams."""
    from espnet_ensemble.feature_cache.identity import DataSet
    from espnet_ensemble.feature_cache.member import Member

    def work():
        data = DataSet.read(folder / "data")
        for path in sorted(folder.glob("feats/*/data/cache.yaml")):
            if not Member.open(path.parent).is_complete(data, skip=False):
                raise RuntimeError(f"{path}: expected a complete member")

    return work


@step(make_cache)
def check_training(folder: Path) -> Work:
    """What is compared before training: utterances of the shape file, and audio files."""
    from espnet_ensemble.integrations.espnet2 import checks

    (path,) = folder.glob("feats/combinations/*/data/members.yaml")
    shape_file = folder / "speech_shape"
    with open(folder / "data" / "text") as text, open(shape_file, "w") as shapes:
        shapes.writelines(f"{line.split(maxsplit=1)[0]} 612,768\n" for line in text)
    args = argparse.Namespace(
        frontend="ensemble",
        frontend_conf={"upstreams": ["wavlm_base", "hubert_base"]},
        multiple_iterator=False,
        train_shape_file=[str(shape_file)],
        train_data_path_and_name_and_type=[(str(path), "speech", "feature_cache")],
        valid_shape_file=[],
        valid_data_path_and_name_and_type=[],
    )
    return lambda: checks.check_training(args)


# Running them.


@dataclass(frozen=True)
class Cost:
    """What a run of a step took."""

    seconds: float
    megabytes: float


def _memory(name: str) -> float:
    """VmRSS, VmHWM or RssAnon of this process, in MB."""
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) / 1000
    raise KeyError(name)


def run_here(name: str, folder: Path) -> Cost:
    """Run a step in this process, for once."""
    work = STEPS[name].prepare(folder)
    own, memory, start = _memory("RssAnon"), _memory("VmRSS"), sum(os.times()[:4])
    result = work()
    if isinstance(result, Cost):
        return result
    seconds = sum(os.times()[:4]) - start
    if name == "open_cache":
        # What is mapped is shared, and the system takes it back when it likes.
        megabytes = _memory("RssAnon") - own
    else:
        megabytes = _memory("VmHWM") - memory
    del result
    return Cost(seconds, max(0, megabytes))


def run_with(checkout: Path, *args: object) -> str:
    """Run this script in a process of its own, with the package of a checkout."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout


def compare(
    name: str, utterances: int, checkouts: list[Path], rounds: int
) -> list[str]:
    """Measure a step with each checkout in turn: a row of the table."""
    costs: dict[Path, list[Cost]] = {checkout: [] for checkout in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        made = {checkout: Path(folder, str(n)) for n, checkout in enumerate(checkouts)}
        for checkout, path in made.items():
            path.mkdir()
            run_with(checkout, "--make", name, path, utterances)
        for _ in range(rounds):
            for checkout, path in made.items():
                # Each run finds the files as they were made.
                with tempfile.TemporaryDirectory() as copy:
                    shutil.copytree(path, copy, dirs_exist_ok=True, symlinks=True)
                    printed = run_with(checkout, "--run", name, copy)
                costs[checkout].append(Cost(**json.loads(printed.splitlines()[-1])))
    seconds = [statistics.median(c.seconds for c in of) for of in costs.values()]
    memory = [statistics.median(c.megabytes for c in of) for of in costs.values()]
    row = [name, f"{utterances}", *(f"{s:.2f}" for s in seconds)]
    row += [f"{m:.0f}" for m in memory]
    if len(checkouts) == 2:
        row += [f"{of[0] / max(of[1], 1e-3):.1f}" for of in (seconds, memory)]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--utterances", type=int, nargs="+", default=[28539])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--before", type=Path, help="another checkout of this project")
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        name, folder, utterances = args.make
        STEPS[name].make(Path(folder), int(utterances))
        return
    if args.run:
        name, folder = args.run
        print(json.dumps(vars(run_here(name, Path(folder)))))
        return
    checkouts = [*filter(None, [args.before]), REPOSITORY]
    names = ["before", "after"][-len(checkouts) :]
    heading = ["step", "utterances", *(f"s {n}" for n in names)]
    heading += [*(f"MB {n}" for n in names), *["x time", "x MB"][: 2 * len(names) - 2]]
    rows = [
        compare(name, number, checkouts, args.rounds)
        for name in args.steps or STEPS
        for number in args.utterances
    ]
    print(tabulate(rows, heading, disable_numparse=True))


if __name__ == "__main__":
    main()
