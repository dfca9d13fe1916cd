"""The corpus of the quick-start recipe."""

import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice

import numpy as np
import pytest
import soundfile

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.corpora.mini_synth import augment
from espnet_ensemble.recipes.corpora.mini_synth.espeak import synthesize, variants
from espnet_ensemble.recipes.corpora.mini_synth.language import sentences
from espnet_ensemble.recipes.corpora.mini_synth.prepare import prepare_mini_synth
from espnet_ensemble.recipes.corpora.mini_synth.voices import VOICES, speakers

SETS = ("train", "dev", "test")
SMALL = {"train": 0.8, "dev": 0.4, "test": 0.4}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A small corpus, made by one process."""
    folder = tmp_path_factory.mktemp("mini_synth")
    prepare(folder)
    return folder


def prepare(folder, minutes=SMALL, **options):
    """Make folder/wav and folder/data."""
    return prepare_mini_synth(folder / "wav", folder / "data", minutes, **options)


def contents(folder):
    """Relative path -> bytes of all recordings and tables, whatever the folder's name."""
    paths = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(
            str(folder).encode(), b"FOLDER"
        )
        for path in paths
    }


def table(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


@pytest.mark.parametrize("nj", [1, 2])
def test_same_bytes_again_and_with_any_number_of_processes(corpus, tmp_path, nj):
    prepare(tmp_path, nj=nj)
    assert contents(tmp_path) == contents(corpus)


def test_other_seed_is_other_speech(corpus, tmp_path):
    prepare(tmp_path, seed=1)
    texts = [table(folder / "data" / "train" / "text") for folder in (corpus, tmp_path)]
    assert texts[0].keys() == texts[1].keys()
    assert texts[0] != texts[1]


def test_smaller_corpus_is_a_part_of_the_larger(corpus, tmp_path):
    prepare(tmp_path, {**SMALL, "train": 0.3})
    smaller, larger = (contents(folder / "wav") for folder in (tmp_path, corpus))
    assert smaller.items() < larger.items()


@pytest.mark.parametrize("name", SETS)
def test_data_directory_is_as_kaldi_wants_it(corpus, name):
    folder = corpus / "data" / name
    tables = {path.name: table(path) for path in folder.iterdir()}
    assert set(tables) == {"wav.scp", "text", "utt2spk", "spk2utt", "utt2dur"}
    for path in folder.iterdir():
        keys = [line.split()[0] for line in path.read_text().splitlines()]
        assert keys == sorted(set(keys)), path
        if path.name != "spk2utt":
            assert keys == list(tables["wav.scp"]), path
    assert all(utt.startswith(f"{spk}-") for utt, spk in tables["utt2spk"].items())
    # Sorted by speaker too: some of Kaldi's tools want the speakers in one piece.
    assert list(tables["utt2spk"].values()) == sorted(tables["utt2spk"].values())
    listed = {
        utt: spk for spk, utts in tables["spk2utt"].items() for utt in utts.split()
    }
    assert listed == tables["utt2spk"]
    for utt, path in tables["wav.scp"].items():
        samples, fs = soundfile.read(path, dtype="int16")
        assert (fs, samples.ndim, soundfile.info(path).subtype) == (16000, 1, "PCM_16")
        assert f"{len(samples) / fs:.3f}" == tables["utt2dur"][utt]
        assert 0.15 < np.abs(samples).max() / 32768 < 0.95


def test_sets_share_no_voice_and_no_sentence(corpus):
    for key in ("text", "utt2spk"):
        values = [set(table(corpus / "data" / name / key).values()) for name in SETS]
        assert len(set.union(*values)) == sum(map(len, values))
    voices = [set(VOICES[name].values()) for name in SETS]
    used = {voice.partition("+")[2] for voice in set.union(*voices)}
    assert len(used) == sum(map(len, voices))
    assert used <= set(variants())


def test_language_is_small_in_words_and_large_in_sentences():
    first = list(islice(sentences("train", seed=0), 5000))
    words = {word for sentence in first for word in sentence.split()}
    assert len(words) == 133
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    assert len(set(first)) == len(first)
    assert first == list(islice(sentences("train", seed=0), 5000))
    others = [
        set(islice(sentences(split, seed), 500))
        for split in ("dev", "test")
        for seed in (0, 1)
    ]
    assert not set(first) & set.union(*others)
    assert not (others[0] | others[1]) & (others[2] | others[3])


def test_finetune_has_training_voices_and_other_utterances(corpus, tmp_path):
    prepare(tmp_path, {"finetune": 1.2})
    folder = tmp_path / "data" / "finetune"
    assert set(table(folder / "utt2spk").values()) <= set(speakers("train"))
    texts = list(table(folder / "text").values())
    training = list(table(corpus / "data" / "train" / "text").values())
    assert texts and texts[:10] != training[:10]


def test_unlabelled_has_training_voices_and_no_text(corpus, tmp_path):
    prepare(tmp_path, {"unlabelled": 1.2})
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["unlabelled"]
    folder = tmp_path / "data" / "unlabelled"
    assert not (folder / "text").exists()
    assert set(table(folder / "spk2utt")) <= set(VOICES["train"])
    assert 40 < sum(map(float, table(folder / "utt2dur").values())) < 100
    assert not set(table(folder / "utt2spk")) & set(
        table(corpus / "data/train/utt2spk")
    )


@pytest.mark.slow
def test_killed_run_goes_on(corpus, tmp_path):
    command = [sys.executable, "-m", "espnet_ensemble.bin.prepare_mini_synth"]
    command += ["--output_dir", f"{tmp_path}/data", "--corpus_dir", f"{tmp_path}/wav"]
    command += ["--nj", "2"]
    for name, minutes in SMALL.items():
        command += [f"--{name}_minutes", str(minutes)]
    run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while run.poll() is None and len(list(tmp_path.rglob("*.wav"))) < 5:
        time.sleep(0.005)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    recorded = list(tmp_path.rglob("*.wav"))
    assert 5 <= len(recorded) < len(list(corpus.rglob("*.wav")))
    assert not list(tmp_path.rglob("wav.scp"))
    before = {path: path.stat().st_mtime_ns for path in recorded}
    prepare(tmp_path)
    assert contents(tmp_path) == contents(corpus)
    assert before == {path: path.stat().st_mtime_ns for path in recorded}


def test_run_with_everything_there_does_nothing(corpus, capfd):
    def times():
        return {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}

    before = times()
    prepare(corpus)
    assert times() == before
    assert capfd.readouterr().err == ""


def test_lost_and_empty_recordings_are_made_again(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path, dirs_exist_ok=True)
    lost, empty, *_ = sorted(tmp_path.rglob("*.wav"))
    lost.unlink()
    empty.write_bytes(b"")
    prepare(tmp_path)
    assert contents(tmp_path / "wav") == contents(corpus / "wav")


def test_recordings_of_another_seed_are_refused(corpus):
    with pytest.raises(
        EnsembleError, match=r"settings.json: .*'seed': 0.*'seed': 1.*remove"
    ):
        prepare(corpus, seed=1)


@pytest.mark.parametrize(
    "minutes, message",
    [({"eval": 1}, "expected train, dev.*'eval'"), ({"dev": 0}, "dev.*more than 0")],
)
def test_senseless_minutes_are_refused(tmp_path, minutes, message):
    with pytest.raises(EnsembleError, match=message):
        prepare(tmp_path, minutes)
    assert not list(tmp_path.iterdir())


def test_speech_does_not_depend_on_what_was_said_before():
    first, fs = synthesize("nine of may", "en-us+f2")
    synthesize("switch off the hall light", "en-gb-scotland+m1", rate=150, pitch=20)
    again, _ = synthesize("nine of may", "en-us+f2")
    assert first.dtype == np.float32 and fs == 22050
    assert 0.1 < np.abs(first).max() <= 1
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(text=" "), "text: expected words"),
        (dict(voice="tlh"), "voice 'tlh'.*no such language"),
        (dict(voice="en-us+nobody"), "expected a variant of .*linda.*'nobody'"),
        (dict(rate=20), "rate: expected 80 to 450, got 20"),
        (dict(pitch=100), "pitch: expected 0 to 99, got 100"),
        (dict(pitch_range=-1), "pitch_range: expected 0 to 99, got -1"),
    ],
)
def test_synthesis_errors_name_the_cause(options, message):
    with pytest.raises(ValueError, match=message):
        synthesize(**{"text": "one", "voice": "en-us", **options})


@pytest.mark.parametrize("name", ["espeakng_loader", "scipy.signal"])
def test_missing_package_says_what_to_install(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnsembleError, match=r"pip install '.\[recipes\]'"):
        prepare(tmp_path)


def test_reverberation_and_noise_are_mild():
    rng = np.random.default_rng(0)
    wav = np.sin(np.arange(16000) / 5) * np.hanning(16000)
    for _ in range(20):
        tail = augment.reverberate(wav, 16000, rng) - wav
        noise = augment.add_noise(wav, 16000, rng) - wav
        assert 12 <= -10 * np.log10(np.mean(noise**2) / np.mean(wav**2)) <= 30
        assert 0 < np.mean(tail**2) < np.mean(wav**2)
