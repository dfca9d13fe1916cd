import pytest

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.training_config import (
    TrainingConfig,
    read_training_config,
)


def ensemble(**conf):
    return TrainingConfig("train", {"frontend": "ensemble", "frontend_conf": conf})


def test_another_frontend_keeps_its_name_until_upstreams_are_given():
    content = {"frontend": "default", "frontend_conf": {"n_fft": 512}}
    config = TrainingConfig("train", content)
    assert config.name == "train"
    changed = config.with_upstreams(["hubert"])
    assert changed.name == "train_hubert"
    assert changed.content["frontend_conf"] == {"upstreams": ["hubert"]}
    assert config.content["frontend_conf"] == {"n_fft": 512}


def test_a_frontend_without_options_takes_the_old_one_s_away():
    changed = ensemble(upstreams=["a"]).with_frontend({"frontend": "default"})
    assert changed.content == {"frontend": "default"}


@pytest.mark.parametrize(
    ("conf", "tag"),
    [
        ({"upstreams": ["a"], "frozen": False}, "a_trainable"),
        ({"upstreams": [{"name": "a", "layer": [1, 2]}]}, "a-layer1-2"),
        (
            {"upstreams": [{"name": "a", "layer": "weighted_sum"}]},
            "a-layerweighted_sum",
        ),
        ({"upstreams": [{"name": "a", "path_or_url": "x/b.pt"}]}, "a-b"),
        ({"upstreams": ["x/a", "b"], "fusion": "sum", "fs": "16k"}, "a_b_sum"),
    ],
)
def test_tag_tells_systems_apart(conf, tag):
    assert ensemble(**conf).frontend_tag == tag


def test_an_unchanged_file_is_not_written_again(tmp_path):
    config = ensemble(upstreams=["a"])
    path = config.write(tmp_path / "conf")
    before = path.stat().st_mtime_ns
    assert config.write(tmp_path / "conf") == path == tmp_path / "conf" / "train_a.yaml"
    assert path.stat().st_mtime_ns == before
    path.write_text("frontend: default\n")
    config.write(tmp_path / "conf")
    assert TrainingConfig.read(path).content == config.content


def test_a_wrong_frontend_is_told_with_its_file(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("{frontend: ensemble, frontend_conf: {upstreams: []}}")
    with pytest.raises(EnsembleError, match=f"^{path}: upstreams: expected at least"):
        read_training_config(path)
    assert read_training_config(path, upstreams=["a"]).name == "train_a"
