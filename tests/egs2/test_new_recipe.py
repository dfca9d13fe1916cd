"""A recipe that new-recipe has made, as its user runs it."""

import csv
import re

import numpy as np
import pytest
import soundfile
from repository import REPOSITORY

from espnet_ensemble.bin.main import main
from espnet_ensemble.data.datadir import validate
from espnet_ensemble.recipes.corpora.mini_synth.prepare import prepare_mini_synth
from espnet_ensemble.testing.recipes import run_script

UPSTREAMS = REPOSITORY / "egs2" / "mini_synth" / "asr1" / "upstreams"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout without recipes, which is the working directory."""
    folder = tmp_path / "checkout"
    (folder / "egs2").mkdir(parents=True)
    for name in ("conf", "local", "egs2/TEMPLATE"):
        (folder / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(folder)
    return folder


PLACES = ["in a checkout", pytest.param("with the package", marks=pytest.mark.slow)]


@pytest.fixture(params=PLACES)
def recipe(request, tmp_path, monkeypatch):
    """Where to make a recipe, which is the working directory."""
    if request.param == "in a checkout":
        return request.getfixturevalue("checkout") / "egs2" / "mine" / "asr1"
    monkeypatch.chdir(tmp_path)
    return tmp_path / "egs2" / "mine" / "asr1"


def make_noises(folder, num_utts=6):
    """Audio files of 0.3 s, and a text beside each."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(num_utts):
        samples = generator.normal(scale=0.1, size=13230)
        soundfile.write(folder / f"it's {number}.wav", samples, 44100)
        (folder / f"it's {number}.txt").write_text(f"say {'abcdef'[number]}\n")


def test_stages_1_to_5(recipe, tmp_path):
    make_noises(tmp_path / "my audio")
    main(["new-recipe", "mine", "--audio_dir", str(tmp_path / "my audio")])
    done = run_script(recipe, "./run.sh", "--stop_stage", "5")
    assert done.returncode == 0, done.stdout
    assert "data/train: 4 utterances, valid" in done.stdout
    tables = [validate(recipe / "dump/raw" / name) for name in ("train", "dev", "test")]
    assert [len(table["text"]) for table in tables] == [4, 1, 1]
    utt_id, wav = next(iter(tables[0]["wav.scp"].items()))
    assert re.fullmatch(r"it's_\d", utt_id)
    assert soundfile.info(recipe / wav).samplerate == 16000
    tokens = (recipe / "data/token_list/char/tokens.txt").read_text().split()
    assert {"<space>", "s", "a", "y"} <= set(tokens)


def test_a_corpus_that_is_not_named_yet(checkout):
    main(["new-recipe", "mine"])
    done = run_script(checkout / "egs2/mine/asr1", "./run.sh", "--stop_stage", "1")
    assert done.returncode == 1
    assert "expected a folder of audio files" in done.stdout
    assert "write it into AUDIO_DIR of db.sh" in done.stdout


def export_mini_synth(folder, minutes):
    """mini_synth as people have a corpus: audio files, and a table."""
    made = prepare_mini_synth(folder / "audio", folder / "data", minutes, nj=2)
    with open(folder / "table.tsv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t")
        rows.writerow(["file", "spk", "text", "set"])
        for name, data_dir in made.items():
            tables = validate(data_dir.path)
            for utt_id, wav in tables["wav.scp"].items():
                path = wav.removeprefix(f"{folder}/audio/")
                row = [tables["utt2spk"][utt_id], tables["text"][utt_id], name]
                rows.writerow([path, *row])


@pytest.mark.slow
def test_from_a_folder_of_audio_to_error_rates(checkout, tmp_path):
    corpus = tmp_path / "corpus"
    export_mini_synth(corpus, {"train": 4.0, "dev": 0.5, "test": 0.5})
    options = ["--audio_dir", str(corpus / "audio")]
    options += ["--transcripts", str(corpus / "table.tsv")]
    main(["new-recipe", "mine", *options])
    recipe = checkout / "egs2" / "mine" / "asr1"
    options = ["--upstreams", f"{UPSTREAMS}/wavlm_ctc {UPSTREAMS}/hubert_ctc"]
    # So little speech has 7 batches in an epoch.
    options += ["--asr_args", "--max_epoch 10 --scheduler_conf warmup_steps=50"]
    done = run_script(recipe, "./run.sh", *options, "--ngpu", "0")
    assert done.returncode == 0, done.stdout
    (results,) = recipe.glob("exp/asr_*/RESULTS.md")
    rows = re.findall(r"^\|.*/test\|(.*)\|$", results.read_text(), flags=re.MULTILINE)
    word_error_rate = float(rows[0].split("|")[-2])
    assert word_error_rate < 40, results.read_text()
