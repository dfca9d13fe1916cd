"""What docs/espnet_ez.md says runs."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from repository import REPOSITORY

pytestmark = pytest.mark.slow
pytest.importorskip("espnetez", reason="needs ESPnet 202511, and six")

# What is too large for a test.
SMALLER = {
    "max_epoch: 30": "max_epoch: 1",
    "output_size: 256": "output_size: 32",
    "num_workers: 2": "num_workers: 0",
    "[:-100]": "[:-4]",
    "[-100:]": "[-4:]",
}


def read_page(replaced):
    """The blocks of code: language -> text."""
    page = (REPOSITORY / "docs" / "espnet_ez.md").read_text(encoding="utf-8")
    for text, other in replaced.items():
        assert text in page
        page = page.replace(text, other)
    return dict(re.findall(r"```(yaml|python)\n(.*?)```", page, re.DOTALL))


def test_the_example_trains_and_transcribes(
    tmp_path, monkeypatch, tiny_wavlm, tiny_hubert, capsys
):
    upstreams = {
        "microsoft/wavlm-base": tiny_wavlm,
        "facebook/hubert-base-ls960": tiny_hubert,
    }
    blocks = read_page({**SMALLER, **upstreams})
    generator = np.random.default_rng(0)
    recordings = [(f"{i}.wav", "two seven"[: 3 + i % 4]) for i in range(12)]
    for path, _ in recordings:
        wav = 0.1 * generator.standard_normal(16000)
        soundfile.write(tmp_path / path, wav, 16000)
    (tmp_path / "recordings.json").write_text(json.dumps(recordings))
    (tmp_path / "train.yaml").write_text(blocks["yaml"])
    (tmp_path / "train.py").write_text(blocks["python"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    found = runpy.run_path("train.py")
    assert found["tokens"][:3] == ["<blank>", "<unk>", "<space>"]
    printed = [line.split(" ")[0] for line in capsys.readouterr().out.splitlines()]
    assert printed[-3:] == ["9.wav", "10.wav", "11.wav"]
    weights = torch.load(Path("exp/asr_ez/valid.cer_ctc.ave.pth"), weights_only=True)
    assert weights["frontend.fingerprints"].shape[0] == 2
    assert not any("upstreams" in name for name in weights)
