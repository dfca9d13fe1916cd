import re

import pytest
import torch

from espnet_ensemble.bin import plan
from espnet_ensemble.recipes.planning.costs import Experiment, Workers


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Measure no longer than must be, and write to this disk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "BUDGET", 0.1)


@pytest.fixture
def upstreams(tiny_wavlm, tiny_hubert):
    return ["--upstreams", tiny_wavlm, tiny_hubert]


def test_a_plan_of_what_was_measured(upstreams, capsys):
    options = ["--hours", "960", "--ngpu", "0", "--nj", "4", "--epochs", "8"]
    threads = torch.get_num_threads()
    plan.main([*options, *upstreams])
    assert torch.get_num_threads() == threads
    out = capsys.readouterr().out
    rows = {line[:20].strip(): line for line in out.splitlines()}
    # 960 hours of 50 frames a second, 32 numbers of 2 bytes each, of two upstreams.
    assert "22.12 GB" in rows["features of all"]
    assert "110.59 GB" in rows["audio as stage 3 mak"]
    assert "time, 4 cores" in out and "training, 8 epochs, from these features" in out
    assert re.search(r"Measured here in \d+ s, on made data:", out)
    assert len(re.findall(r"M parameters\): [\d.,]+ x real time on one core", out)) == 2
    assert "RANDOM" not in out
    assert "Extrapolated: in proportion to hours of speech" in out
    assert "GB in each process" not in out


def test_large_corpora_have_a_note_on_espnet():
    experiment = Experiment(60_000, 17_560_976, speeds=3)
    text = "\n".join(plan._extrapolated(experiment, Workers("GPU", 8, 8)))
    assert "Of 52,682,928 utterances, ESPnet holds tables of" in text
    assert "--num_splits_asr in docs/scale.md" in text


@pytest.mark.parametrize(
    "options,message",
    [
        (
            ["--hours", "0"],
            "--hours, --test_hours, --utterances, --epochs: expected numb",
        ),
        (["--hours", "1", "--ngpu", "8"], "--ngpu 8: expected a GPU here"),
        (["--hours", "1", "--asr_config", "x.yaml"], "x.yaml: expected a file"),
    ],
)
def test_what_cannot_be_planned(options, message, upstreams, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(SystemExit, match="1"):
        plan.main([*options, *upstreams])
    assert message in capsys.readouterr().err
