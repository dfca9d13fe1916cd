"""From discs to data directories."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from espnet_ensemble.data.audio import open_audio
from espnet_ensemble.data.datadir import validate
from espnet_ensemble.testing.wsj import SENTENCES, disc_path, make_discs

RECIPE = Path(__file__).parents[4] / "egs2" / "wsj" / "asr1"
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


def prepare(local, folder, *options, wsj0="WSJ0", wsj1="WSJ1"):
    """Run the command with one process, and give its status and what it printed."""
    command = ["--wsj0", f"{folder}/{wsj0}", "--wsj1", f"{folder}/{wsj1}", "--nj", "1"]
    command += ["--output_dir", f"{folder}/data", "--flac_dir", f"{folder}/flac"]
    local("prepare_wsj").main([*command, *options])


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


def test_discs(local, tmp_path, capsys):
    recordings = make_discs(tmp_path)
    prepare(local, tmp_path)
    check(tmp_path, recordings)
    assert (tmp_path / "data" / "nlsyms.txt").read_text() == "<NOISE>\n"
    output = capsys.readouterr().out
    assert "train_si284: 7 utt, 3 speakers, 0.00 h" in output
    assert "warning: train_si284: 37416 utterances are in the complete" in output


def test_merged_discs(local, tmp_path):
    recordings = make_discs(tmp_path)
    merge(tmp_path)
    prepare(local, tmp_path, wsj0="wsj0", wsj1="wsj1")
    check(tmp_path, recordings)


def test_one_folder_for_both_with_links_to_discs(local, tmp_path):
    recordings = make_discs(tmp_path)
    (tmp_path / "both").mkdir()
    for disc in tmp_path.glob("WSJ?/*"):
        (tmp_path / "both" / disc.name).symlink_to(disc)
    (tmp_path / "both" / "again").symlink_to(tmp_path / "both")
    prepare(local, tmp_path, wsj0="both", wsj1="both")
    check(tmp_path, recordings)


def test_run_with_everything_there_decodes_nothing(local, discs, capfd):
    prepare(local, discs)
    flacs = list(discs.glob("flac/**/*.flac"))
    assert len(flacs) == len(TEXTS)
    before = {path: path.stat().st_mtime_ns for path in flacs}
    lost = flacs.pop()
    lost.unlink()
    capfd.readouterr()
    prepare(local, discs)
    assert "decode: 100%" in capfd.readouterr().err
    assert all(path.stat().st_mtime_ns == before[path] for path in flacs)
    assert lost.exists()
    prepare(local, discs)
    assert "decode" not in capfd.readouterr().err


def test_subset_is_balanced_and_the_same_everywhere(local):
    module = local("prepare_wsj")
    rng = np.random.default_rng(0)
    names = [f"{s:03d}c{n:04d}" for s in range(20) for n in range(100)]
    # The last speaker has little.
    utterances = [module.Utterance(u, None, Path(u), "") for u in names[:-95]]
    num_samples = {u.flac: int(16000 * rng.uniform(1, 15)) for u in utterances}
    chosen = module.balanced_subset(utterances, num_samples, hours=1)
    assert len({u.utt_id for u in chosen}) == len(chosen)
    assert chosen == module.balanced_subset(utterances[::-1], num_samples, hours=1)
    seconds = {}
    for utterance in chosen:
        length = num_samples[utterance.flac] / 16000
        seconds[utterance.speaker] = seconds.get(utterance.speaker, 0) + length
    assert 3600 <= sum(seconds.values()) < 3615
    assert len(seconds) == 20
    last = seconds.pop("019")
    assert last == sum(num_samples[Path(u)] for u in names[-100:-95]) / 16000
    assert max(seconds.values()) - min(seconds.values()) < 15
    # Which utterances of a speaker: not the first ones.
    assert sorted(u.utt_id for u in chosen if u.speaker == "000") != names[:20]


def test_subset_directory(local, discs):
    prepare(local, discs, "--hours", "0.0015")
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
        rf"train_si284: recordings are listed .*\n.*si_tr_s.ndx: {PLAIN}\n$",
    ),
    "no transcriptions": (
        remove(DOT),
        r"train_si284: recordings are in no .dot file:\n.*01i/01ic0201.wv1\n.*01ic0202.wv1",
    ),
    "no transcription": (
        edit(DOT, b"01ic0202", b"01ic0203"),
        r"train_si284: recordings are in no .dot file:\n.*01i/01ic0202.wv1\n$",
    ),
    "broken transcription": (
        edit(DOT, b"(01ic0202)", b""),
        "01ic0200.dot:2: expected a transcription and an utterance",
    ),
    "cut-off recording": (
        cut_off(PLAIN, 3000),
        r"recordings cannot be used:\n.*46hc0202.wv1: cut off: .* found 1976\n$",
    ),
    "empty recording": (cut_off(PLAIN, 0), "46hc0202.wv1: expected a SPHERE file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_discs_before_anything_is_decoded(local, discs, capsys, name):
    change, message = BROKEN[name]
    change(discs)
    with pytest.raises(SystemExit) as error:
        prepare(local, discs)
    assert error.value.code == 1
    output = capsys.readouterr().err
    assert re.search(message, output[output.index("prepare_wsj.py: ") :])
    assert not list(discs.glob("flac/**/*.flac")) and not (discs / "data").exists()


def test_recordings_cut_off_in_compressed_samples(local, discs, capsys):
    cut_off(COMPRESSED, 3000)(discs)
    with pytest.raises(SystemExit):
        prepare(local, discs)
    assert "011c0201.wv1: cut off: expected 12000 samples" in capsys.readouterr().err
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
def test_wrong_folders(local, discs, capsys, folders, message):
    with pytest.raises(SystemExit):
        prepare(local, discs, **folders)
    assert re.search(message, capsys.readouterr().err)


def test_empty_folder_name(local, tmp_path, capsys):
    with pytest.raises(SystemExit):
        local("prepare_wsj").main(["--wsj0", "", "--wsj1", ""])
    assert "found ''; set WSJ0 in db.sh" in capsys.readouterr().err


def test_data_sh(tmp_path):
    recordings = make_discs(tmp_path)
    (tmp_path / "local").symlink_to(RECIPE / "local")
    (tmp_path / "db.sh").write_text(f"WSJ0={tmp_path}/WSJ0\nWSJ1={tmp_path}/WSJ1\n")
    subprocess.run(
        ["local/data.sh", "--flac_dir", f"{tmp_path}/flac", "--nj", "2"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "python": sys.executable},
    )
    check(tmp_path, recordings)
    assert len(recordings) == sum(map(len, SENTENCES.values()))


def test_links_lead_somewhere():
    links = [path for path in RECIPE.rglob("*") if path.is_symlink()]
    assert len(links) >= 10
    assert all(path.exists() and not os.path.isabs(os.readlink(path)) for path in links)
