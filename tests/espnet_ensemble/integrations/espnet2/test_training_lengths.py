"""How long the utterances of training were."""

import pytest

from espnet_ensemble.files import write_yaml
from espnet_ensemble.integrations.espnet2.training_lengths import mean_utt_seconds


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    shapes = tmp_path / "exp" / "asr_stats" / "train" / "speech_shape"
    shapes.parent.mkdir(parents=True)
    shapes.write_text("a 16000\nb 32000\n")
    (tmp_path / "exp" / "asr").mkdir()
    config = {
        "train_shape_file": ["exp/asr_stats/train/speech_shape"],
        "frontend_conf": {"fs": "8k"},
    }
    write_yaml(tmp_path / "exp" / "asr" / "config.yaml", config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def test_the_recipe_still_has_them(recipe):
    assert mean_utt_seconds(recipe / "exp" / "asr" / "config.yaml") == 3.0
    assert mean_utt_seconds("../exp/asr/config.yaml") == 3.0


def test_they_are_unknown_where_they_are_gone_or_no_samples(recipe):
    shapes = recipe / "exp" / "asr_stats" / "train" / "speech_shape"
    shapes.write_text("a 120,80\n")
    assert mean_utt_seconds(recipe / "exp" / "asr" / "config.yaml") is None
    shapes.unlink()
    assert mean_utt_seconds(recipe / "exp" / "asr" / "config.yaml") is None
    write_yaml(recipe / "exp" / "asr" / "config.yaml", {"train_shape_file": []})
    assert mean_utt_seconds(recipe / "exp" / "asr" / "config.yaml") is None
