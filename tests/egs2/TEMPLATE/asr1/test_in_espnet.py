"""ESPnet's own asr.sh, unmodified, against ours: ESPNET_ROOT names a checkout of ESPnet.

What that must have, and how long this takes, is in docs/espnet.md.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from repository import REPOSITORY

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.recipes.linking import link_recipes
from espnet_ensemble.testing.recipes import clone_recipe

ESPNET_ROOT = os.environ.get("ESPNET_ROOT")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        ESPNET_ROOT is None,
        reason="ESPNET_ROOT names no checkout of ESPnet; it takes minutes (docs/espnet.md)",
    ),
    pytest.mark.skipif(
        shutil.which("sclite") is None,
        reason="stage 13 of ESPnet's asr.sh needs sclite",
    ),
]

CORPUS = "--nj 2 --train_minutes 1 --dev_minutes 0.2 --test_minutes 0.2"
DECODED = "decode_asr_ctc_asr_model_valid.cer_ctc.ave"


def run(folder, *options):
    """Run run.sh on one core: sums depend on the number of threads, by a rounding."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        ["./run.sh", "--local_data_opts", CORPUS, *options],
        cwd=folder,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert done.returncode == 0, done.stdout
    print(done.stdout)
    return done.stdout


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A recipe of ours in ESPnet's checkout, of which it writes nothing; stages 1 to 14."""
    root = tmp_path_factory.mktemp("espnet")
    (root / "egs2").mkdir()
    for name in ("egs2/TEMPLATE", "tools", "utils"):
        (root / name).symlink_to(Path(ESPNET_ROOT).resolve() / name)
    if not (root / "egs2/TEMPLATE/asr1/utils/parse_options.sh").exists():
        pytest.skip(f"{ESPNET_ROOT}: expected Kaldi's utils, found none")
    link_recipes(root, REPOSITORY)
    folder = root / "egs2" / "mini_synth" / "asr1_ensemble"
    options = ["--asr_args", "--max_epoch 3", "--asr_tag", "audio"]
    options += ["--cache_feats", "false", "--skip_packing", "false"]
    output = run(folder, *options, "--stop_stage", "14")
    assert "Use ESPnet trainer" in output
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = clone_recipe(REPOSITORY, tmp_path_factory.mktemp("ours"), "mini_synth")
    options = ["--asr_args", "--max_epoch 3", "--asr_tag", "audio"]
    options += ["--cache_feats", "false", "--use_espnet_inference", "true"]
    run(folder, *options)
    return folder


def losses(exp):
    reporter = torch.load(exp / "checkpoint.pth", weights_only=False)["reporter"]
    return {
        (epoch, split): stats[split]["loss"]
        for epoch, stats in reporter["stats"].items()
        for split in ("train", "valid")
    }


def test_tokens_shapes_losses_and_text_are_the_same(stock, ours):
    tokens = "data/token_list/char/tokens.txt"
    assert (stock / tokens).read_text() == (ours / tokens).read_text()
    for split in ("train", "valid"):
        for shape in ("speech_shape", "text_shape.char"):
            name = f"exp/asr_stats_raw_char/{split}/{shape}"
            assert read_table(stock / name) == read_table(ours / name)
    found, expected = (losses(folder / "exp/asr_audio") for folder in (stock, ours))
    assert len(expected) == 6
    assert found == expected
    text = f"exp/asr_audio/{DECODED}/test/text"
    assert (stock / text).read_text() == (ours / text).read_text()
    results = (stock / "exp/asr_audio/RESULTS.md").read_text().splitlines()
    rows = [line for line in results if line.startswith("|decode")]
    assert set(rows) <= set(
        (ours / "exp/asr_audio/RESULTS.md").read_text().splitlines()
    )
    assert len(rows) == 2


def test_what_stage_14_packs_carries_the_upstreams_and_no_paths(stock):
    (archive,) = (stock / "exp" / "asr_audio").glob("*.zip")
    with zipfile.ZipFile(archive) as file:
        names = file.namelist()
        config = yaml.safe_load(file.read("exp/asr_audio/config.yaml"))
        # Into RESULTS.md, ESPnet's script writes that a file of its own is not there.
        ours = [name for name in names if name != "exp/asr_audio/RESULTS.md"]
        assert str(stock).encode() not in b"".join(map(file.read, ours))
    upstreams = config["frontend_conf"]["upstreams"]
    assert upstreams == ["upstreams/wavlm_ctc", "upstreams/hubert_ctc"]
    for upstream in upstreams:
        assert f"{upstream}/config.json" in names
    assert {"README.md", "ensemble.yaml", "exp/asr_audio/RESULTS.md"} <= set(names)


def test_training_from_features_by_one_option(stock):
    options = ["--asr_args", "--max_epoch 3", "--asr_tag", "cached", "--stage", "11"]
    run(stock, *options, "--cache_feats", "true", "--stop_stage", "11")
    config = (stock / "exp/asr_cached/config.yaml").read_text()
    assert "train/members.yaml" in config and "valid/members.yaml" in config
    # They are stored as float16.
    expected = losses(stock / "exp/asr_audio")
    assert losses(stock / "exp/asr_cached") == pytest.approx(expected, rel=1e-4)


def test_lightning_trains_and_its_model_is_decoded(stock, tmp_path, monkeypatch):
    pytest.importorskip("lightning", reason="an extra of ESPnet from 202611 on")
    # asr.sh starts it through SLURM.
    srun = tmp_path / "srun"
    srun.write_text('#!/usr/bin/env bash\nshift\nexec "$@"\n')
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    # Its averaging reads checkpoints with options in them, which torch refuses since 2.6.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trainer = "devices=1 accelerator=cpu max_epochs=3 log_every_n_steps=1"
    criterion = "best_model_criterion=[[valid/cer_ctc,min,3]]"
    conf = " ".join(
        f"--lightning_conf {word}" for word in (*trainer.split(), criterion)
    )
    options = ["--asr_args", conf, "--asr_tag", "lightning", "--use_lightning", "true"]
    options += ["--stage", "11", "--stop_stage", "12"]
    options += ["--inference_asr_model", "valid.cer_ctc.ave_3best.pth"]
    output = run(stock, *options)
    assert "Use PyTorch Lightning trainer" in output
    (text,) = (stock / "exp/asr_lightning").glob("decode_*/test/text")
    assert len(read_table(text)) == len(read_table(stock / "dump/raw/test/text"))
