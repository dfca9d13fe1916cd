"""Systems of each recipe from stage 1 to 13, on small corpora, with tiny upstreams."""

import pytest
import yaml

from espnet_ensemble.bin.table import main
from espnet_ensemble.experiment_tables import smoke
from espnet_ensemble.experiment_tables.smoke import make_sandbox
from espnet_ensemble.testing.recipes import REPOSITORY
from espnet_ensemble.upstream.huggingface import load_huggingface

DECODED = "decode_asr_ctc_asr_model_valid.cer_ctc.ave"
FOUR_SETS = ["dev_clean", "dev_other", "test_clean", "test_other"]


@pytest.fixture
def checkout(tmp_path):
    for name in ("conf", "egs2", "local"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    return tmp_path


@pytest.mark.parametrize(
    "options, exp, upstreams, sets",
    [
        (
            "--table 1 --corpus librilight_10h --upstreams hubert",
            "librilight_10h/asr1/exp/asr_train_asr_ctc_hubert-xlarge-ls960-ft_raw_char"
            "_max_epoch1",
            ["facebook/hubert-xlarge-ls960-ft"],
            FOUR_SETS,
        ),
        (
            "--table 2 --size base --upstreams wavlm+wav2vec2 --head ctc",
            "librispeech_100/asr1/exp/asr_train_asr_ctc_wavlm-base_wav2vec2-base_raw_char"
            "_max_epoch1",
            ["microsoft/wavlm-base", "facebook/wav2vec2-base"],
            FOUR_SETS,
        ),
        (
            "--table 3 --size large --upstreams wavlm+hubert --head transformer8_ctc",
            "wsj/asr1/exp/asr_train_asr_transformer8_ctc_wavlm-large_hubert-large-ll60k"
            "_raw_char_max_epoch1",
            ["microsoft/wavlm-large", "facebook/hubert-large-ll60k"],
            ["org/test_dev93", "test_eval93"],
        ),
    ],
    ids=["librilight_10h", "librispeech_100", "wsj"],
)
def test_system(options, exp, upstreams, sets, checkout, capfd):
    command = [*options.split(), "--smoke", "--root", str(checkout)]
    main(command)
    output = capfd.readouterr().out
    assert "epoch 1: train loss" in output and "1 of 1 systems done" in output
    exp = checkout / "exp" / "smoke" / "egs2" / exp
    config = yaml.safe_load((exp / "config.yaml").read_text())
    assert config["frontend_conf"]["upstreams"] == upstreams
    for name in sets:
        data = exp.parents[1] / "dump" / "raw" / name
        reference = (data / "text").read_text().splitlines()
        hypotheses = (exp / DECODED / name / "text").read_text().splitlines()
        assert [h.split()[0] for h in hypotheses] == [r.split()[0] for r in reference]
        assert (
            f"|{DECODED}/{name}|{len(reference)}|" in (exp / "RESULTS.md").read_text()
        )

    main(command)
    assert "done already" in capfd.readouterr().out


def test_sandbox_that_was_interrupted(tables, checkout, monkeypatch):
    """What was not finished is made anew, and what was stays."""
    systems = [s for s in tables[2].systems if str(s).endswith("base wavlm+hubert ctc")]
    root = checkout / "exp" / "smoke"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(smoke, "make_discs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_sandbox(checkout, root, systems)
    assert not (root / "corpora").exists()
    sandbox = make_sandbox(checkout, root, systems)
    assert {path.name for path in (root / "corpora").iterdir()} == {
        "LibriSpeech",
        "librispeech_finetuning",
        "WSJ0",
        "WSJ1",
    }
    made = {path: path.stat().st_mtime_ns for path in root.rglob("*.flac")}
    assert make_sandbox(checkout, root, systems) == sandbox
    assert made == {path: path.stat().st_mtime_ns for path in root.rglob("*.flac")}


@pytest.mark.parametrize("layer, found", [("last", (24,)), (8, (8,))])
def test_checkpoints_are_found_by_their_names(layer, found, tables, checkout):
    """They have as many layers as the published ones, for other layers than the last."""
    systems = [s for s in tables[2].systems if s.size == "large" and s.head == "ctc"]
    sandbox = make_sandbox(checkout, checkout / "exp" / "smoke", systems)
    for checkpoint in {name for system in systems for name in system.upstreams}:
        upstream = load_huggingface(
            checkpoint, layer, cache_dir=sandbox.env["HF_HUB_CACHE"]
        )
        assert upstream.layers == found
