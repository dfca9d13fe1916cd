"""A published model becomes an experiment that asr.sh decodes with."""

import shlex
import shutil
from pathlib import Path

import pytest
import torch

from espnet_ensemble.bin.download_model import main
from espnet_ensemble.bin.pack import main as pack
from espnet_ensemble.files import read_yaml

CHECKPOINT = "valid.ave_2best.pth"


@pytest.fixture
def archive(build_model, tmp_path, monkeypatch, tiny_wavlm, tiny_hubert):
    """What stage 14 makes."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    build_model(Path("exp/asr"), [tiny_wavlm, tiny_hubert], fs="16k")
    pack(
        [
            *("asr", "--asr_train_config", "exp/asr/config.yaml"),
            *("--asr_model_file", f"exp/asr/{CHECKPOINT}", "--outpath", "mine.zip"),
        ]
    )
    return tmp_path / "mine.zip"


def download(model_tag, capsys):
    capsys.readouterr()
    main([str(model_tag), "--expdir", "exps"])
    lines = capsys.readouterr().out.splitlines()
    return {k: shlex.split(v)[0] for k, v in (line.split("=", 1) for line in lines)}


def check(names, folder):
    assert names == {
        "asr_exp": folder,
        "asr_config": f"{folder}/config.yaml",
        "inference_asr_model": CHECKPOINT,
        "model_bpemodel": "none",
        "model_unused": "",
    }
    config = read_yaml(names["asr_config"])
    assert config["frontend"] == "ensemble" and config["decoder"] is None
    assert all(Path(x).is_absolute() for x in config["frontend_conf"]["upstreams"])
    found, made = (
        torch.load(Path(exp, CHECKPOINT), weights_only=True)
        for exp in (folder, "exp/asr")
    )
    assert found.keys() == made.keys()


def test_an_archive(archive, capsys):
    check(download(archive, capsys), "exps/mine")
    check(download(archive, capsys), "exps/mine")


def test_a_model_of_the_hub(archive, capsys):
    """It comes from the cache that huggingface_hub has filled."""
    repo = Path.home() / ".cache/espnet_model_zoo/models--user--model"
    shutil.unpack_archive(archive, repo / "snapshots" / "0123")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0123")
    check(download("user/model", capsys), "exps/user/model")
    link = Path("exps/user/model/model_link").read_text()
    assert link == "https://huggingface.co/user/model\n"


def test_no_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        main(["user/nothing"])
    assert "download_model: user/nothing: expected an archive, or" in (
        capsys.readouterr().err
    )
    assert not Path("exp").exists()
