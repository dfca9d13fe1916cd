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


def test_arguments_change_the_frontend_as_espnet_does():
    config = ensemble(upstreams=["a"], fusion_conf={"size": 3})
    words = ["--frontend_conf", "fusion_conf.size=5", "--seed", "3"]
    words += ["--frontend_conf={dtype: float16}", "--frontend_conf", "fs=8k"]
    assert config.with_arguments(words).content["frontend_conf"] == {
        "upstreams": ["a"],
        "fusion_conf": {"size": 5},
        "dtype": "float16",
        "fs": "8k",
    }
    assert config.content["frontend_conf"]["fusion_conf"] == {"size": 3}
    other = config.with_arguments(["--frontend", "default"])
    assert other.content["frontend"] == "default"


def test_arguments_about_anything_else_change_nothing():
    config = ensemble(upstreams=["a"])
    assert (
        config.with_arguments(["--max_epoch", "3", "--encoder_conf", "a=1"]) is config
    )


@pytest.mark.parametrize("value", [["x"], [], ["a={"]])
def test_arguments_that_are_wrong(value):
    with pytest.raises(EnsembleError, match="^--asr_args: "):
        ensemble(upstreams=["a"]).with_arguments(["--frontend_conf", *value])


def test_another_sample_rate_is_in_the_configuration():
    config = ensemble(upstreams=["a"])
    assert config.with_fs("16000") is config
    assert config.with_fs("8k").content["frontend_conf"]["fs"] == "8k"
    filterbanks = TrainingConfig("train", {"frontend": "default"})
    assert filterbanks.with_fs("8k") is filterbanks
    with pytest.raises(EnsembleError, match="^fs: "):
        config.with_fs("fast")


def test_configurations_that_differ_have_files_that_do(tmp_path):
    config = ensemble(upstreams=["a"])
    paths = {config.with_fs(fs).write(tmp_path).name for fs in ("16k", "8k", "44100")}
    assert len(paths) == 3 and "train_a.yaml" in paths
