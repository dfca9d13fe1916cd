"""From discs to data directories."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from espnet_ensemble.data.audio import open_audio
from espnet_ensemble.data.datadir import validate
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.corpora.wsj.prepare import (
    Recording,
    balanced_subset,
    prepare_wsj,
)
from espnet_ensemble.testing.wsj import SENTENCES, disc_path, make_discs

TEXTS = {
    "011c0201": "A PROFIT ,COMMA",
    "011c0202": "OF FOUR POINT TWO PERCENT .PERIOD <NOISE>",
    "01ic0201": "THE I. B. M. SHARES",
    "01ic0202": "SHE *SOLD* THEM -DASH",
    "46hc0201": "FOUR HUNDRED",
    "46hc0202": "TWO HUNDRED",
    "46hc0203": "ONE",
    "4k0c0301": "THE MARKET FELL",
    "4k0c0302": "AND ROSE",
    "440c0401": "NOT A SHARE",
    "440c0402": "OF IT",
    "4oac0201": "SEVEN SHARES",
    "4oac0202": "NINE",
}
SPEAKERS = {
    "train_si284": ["011", "01i", "46h"],
    "train_si84": ["011", "01i"],
    "test_dev93": ["4k0"],
    "test_eval92": ["440"],
    "test_eval93": ["4oa"],
}


@pytest.fixture
def discs(tmp_path):
    """Small discs of both corpora in tmp_path/WSJ0 and tmp_path/WSJ1."""
    make_discs(tmp_path)
    return tmp_path


def prepare(folder, wsj0="WSJ0", wsj1="WSJ1", **options):
    """Make folder/data and folder/flac."""
    roots = (folder / wsj0, folder / wsj1)
    return prepare_wsj(*roots, folder / "data", folder / "flac", **options)


def check(folder, recordings):
    """The data directories are valid, and have the discs' samples and texts."""
    for name, speakers in SPEAKERS.items():
        tables = validate(folder / "data" / name)
        expected = [utt for utt in sorted(TEXTS) if utt[:3] in speakers]
        assert tables["text"] == {utt: TEXTS[utt] for utt in expected}
        assert tables["utt2spk"] == {utt: utt[:3] for utt in expected}
        for utt, entry in tables["wav.scp"].items():
            with open_audio(entry) as sound:
                assert (sound.samplerate, sound.channels) == (16000, 1)
                np.testing.assert_array_equal(
                    sound.read(dtype="int16"), recordings[utt]
                )
            seconds = len(recordings[utt]) / 16000
            assert tables["utt2dur"][utt] == f"{seconds:.3f}"


def merge(folder):
    """The discs' content in folder/wsj0 and folder/wsj1, as some copies have it."""
    for disc in folder.glob("WSJ?/*"):
        for source in disc.iterdir():
            shutil.copytree(source, folder / source.name.lower(), dirs_exist_ok=True)
    for name in ("WSJ0", "WSJ1"):
        shutil.rmtree(folder / name)


def test_discs(tmp_path, caplog):
    recordings = make_discs(tmp_path)
    assert len(recordings) == sum(map(len, SENTENCES.values()))
    made = prepare(tmp_path)
    check(tmp_path, recordings)
    assert (tmp_path / "data" / "nlsyms.txt").read_text() == "<NOISE>\n"
    assert (made["train_si284"].num_utts, made["train_si284"].num_spks) == (7, 3)
    assert "train_si284: 37416 utterances are in the complete" in caplog.text


def test_with_several_processes(tmp_path):
    recordings = make_discs(tmp_path)
    prepare(tmp_path, nj=2)
    check(tmp_path, recordings)


def test_merged_discs(tmp_path):
    recordings = make_discs(tmp_path)
    merge(tmp_path)
    prepare(tmp_path, wsj0="wsj0", wsj1="wsj1")
    check(tmp_path, recordings)


def test_one_folder_for_both_with_links_to_discs(tmp_path):
    recordings = make_discs(tmp_path)
    (tmp_path / "both").mkdir()
    for disc in tmp_path.glob("WSJ?/*"):
        (tmp_path / "both" / disc.name).symlink_to(disc)
    (tmp_path / "both" / "again").symlink_to(tmp_path / "both")
    prepare(tmp_path, wsj0="both", wsj1="both")
    check(tmp_path, recordings)


def test_run_with_everything_there_decodes_nothing(discs, capfd):
    prepare(discs)
    flacs = list(discs.glob("flac/**/*.flac"))
    assert len(flacs) == len(TEXTS)
    before = {path: path.stat().st_mtime_ns for path in flacs}
    lost = flacs.pop()
    lost.unlink()
    capfd.readouterr()
    prepare(discs)
    assert "decode: 100%" in capfd.readouterr().err
    assert all(path.stat().st_mtime_ns == before[path] for path in flacs)
    assert lost.exists()
    prepare(discs)
    assert "decode" not in capfd.readouterr().err


def test_subset_is_balanced_and_the_same_everywhere():
    rng = np.random.default_rng(0)
    names = [f"{s:03d}c{n:04d}" for s in range(20) for n in range(100)]
    # The last speaker has little.
    recordings = [Recording(u, None, Path(u), "") for u in names[:-95]]
    num_samples = {u.flac: int(16000 * rng.uniform(1, 15)) for u in recordings}
    chosen = balanced_subset(recordings, num_samples, hours=1)
    assert len({u.utt_id for u in chosen}) == len(chosen)
    assert chosen == balanced_subset(recordings[::-1], num_samples, hours=1)
    seconds = {}
    for recording in chosen:
        length = num_samples[recording.flac] / 16000
        seconds[recording.spk] = seconds.get(recording.spk, 0) + length
    assert 3600 <= sum(seconds.values()) < 3615
    assert len(seconds) == 20
    last = seconds.pop("019")
    assert last == sum(num_samples[Path(u)] for u in names[-100:-95]) / 16000
    assert max(seconds.values()) - min(seconds.values()) < 15
    # Which recordings of a speaker: not the first ones.
    assert sorted(u.utt_id for u in chosen if u.spk == "000") != names[:20]


def test_subset_directory(discs):
    prepare(discs, hours=0.0015)
    subset = validate(discs / "data" / "train_0.0015h")
    whole = validate(discs / "data" / "train_si284")
    assert set(subset["utt2spk"].values()) == {"011", "01i", "46h"}
    assert len(subset["text"]) < len(whole["text"])
    assert all(whole["wav.scp"][u] == path for u, path in subset["wav.scp"].items())


def remove(path):
    """A change of the discs."""
    return lambda folder: disc_path(folder, path).unlink()


def edit(path, old, new):
    """Another one."""

    def change(folder):
        data = disc_path(folder, path).read_bytes()
        assert old in data
        disc_path(folder, path).write_bytes(data.replace(old, new))

    return change


def cut_off(path, size):
    """Another one."""
    return lambda folder: os.truncate(disc_path(folder, path), size)


INDEX = "13-34.1/wsj1/doc/indices/si_tr_s.ndx"
DOT = "11-10.1/wsj0/transcrp/dots/si_tr_s/01i/01ic0200.dot"
PLAIN = "13-1.1/wsj1/si_tr_s/46h/46hc0202.wv1"
COMPRESSED = "11-1.1/wsj0/si_tr_s/011/011c0201.wv1"
BROKEN = {
    "no list": (
        remove(INDEX),
        f"train_si284: expected the list {INDEX}, found none; disc 13-34.1 is missing",
    ),
    "no such list": (
        edit(INDEX, b"13_1_1: wsj1", b"wsj1"),
        "si_tr_s.ndx:3: expected a disc and a file, .* found 'wsj1/si_tr_s/46h/",
    ),
    "empty list": (cut_off(INDEX, 0), "si_tr_s.ndx: expected a list of recordings"),
    "no recording": (
        remove(PLAIN),
        rf"train_si284: recordings are listed .*\n.*si_tr_s.ndx: {PLAIN}$",
    ),
    "no transcriptions": (
        remove(DOT),
        r"train_si284: recordings are in no .dot file:\n.*01i/01ic0201.wv1\n.*01ic0202.wv1",
    ),
    "no transcription": (
        edit(DOT, b"01ic0202", b"01ic0203"),
        r"train_si284: recordings are in no .dot file:\n.*01i/01ic0202.wv1$",
    ),
    "broken transcription": (
        edit(DOT, b"(01ic0202)", b""),
        "01ic0200.dot:2: expected a transcription and an utterance",
    ),
    "cut-off recording": (
        cut_off(PLAIN, 3000),
        r"recordings cannot be used:\n.*46hc0202.wv1: cut off: .* found 1976$",
    ),
    "empty recording": (cut_off(PLAIN, 0), "46hc0202.wv1: expected a SPHERE file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_discs_before_anything_is_decoded(discs, name):
    change, message = BROKEN[name]
    change(discs)
    with pytest.raises(EnsembleError, match=message):
        prepare(discs)
    assert not list(discs.glob("flac/**/*.flac")) and not (discs / "data").exists()


def test_recordings_cut_off_in_compressed_samples(discs):
    cut_off(COMPRESSED, 3000)(discs)
    message = (
        "1 of 13 recordings cannot be used:\n.*011c0201.wv1: cut off: expected 12000"
    )
    with pytest.raises(EnsembleError, match=message):
        prepare(discs)
    assert len(list(discs.glob("flac/**/*.flac"))) == len(TEXTS) - 1
    assert not (discs / "data").exists()


@pytest.mark.parametrize(
    "folders, message",
    [
        ({"wsj0": "data"}, "WSJ0: expected the folder with .* LDC93S6A or .*/data'"),
        ({"wsj1": "none"}, "WSJ1: expected the folder with .* LDC94S13A .*/none'"),
        ({"wsj1": "WSJ0"}, "train_si284: expected the list 13-34.1/.*disc 13-34.1"),
    ],
)
def test_wrong_folders(discs, folders, message):
    with pytest.raises(EnsembleError, match=message):
        prepare(discs, **folders)
