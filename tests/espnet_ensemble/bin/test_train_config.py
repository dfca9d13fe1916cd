import pytest
import yaml

from espnet_ensemble.bin.train_config import frontend_tag, main, set_frontend

CONFIG = """\
frontend: ensemble
frontend_conf:
    upstreams: [wavlm_base, {name: upstreams/hubert, layer: 3}]
    fusion: sum
    fs: 16k
encoder: transformer
"""


@pytest.fixture
def make(tmp_path, capsys):
    """Run the command: make(option, value, ...) -> path and content of the result."""
    (tmp_path / "train.yaml").write_text(CONFIG)

    def run(*options):
        config, conf = tmp_path / "train.yaml", tmp_path / "exp" / "conf"
        main(["--asr_config", str(config), "--output_dir", str(conf), *options])
        path = capsys.readouterr().out.strip()
        with open(path) as file:
            return path.rpartition("/")[2], yaml.safe_load(file)

    return run


def test_without_options_nothing_but_the_name_changes(make):
    name, config = make()
    assert name == "train_wavlm_base_hubert-layer3_sum.yaml"
    assert config == yaml.safe_load(CONFIG)


def test_upstreams_leave_the_other_options(make):
    name, config = make("--upstreams", " wav2vec2 microsoft/wavlm-large ")
    assert name == "train_wav2vec2_wavlm-large_sum.yaml"
    assert config["frontend_conf"] == {
        "upstreams": ["wav2vec2", "microsoft/wavlm-large"],
        "fusion": "sum",
        "fs": "16k",
    }
    assert config["encoder"] == "transformer"


def test_frontend_config_takes_the_place_of_all(make, tmp_path):
    frontend = {"frontend": "ensemble", "frontend_conf": {"upstreams": ["data2vec"]}}
    (tmp_path / "frontend.yaml").write_text(yaml.safe_dump(frontend))
    name, config = make("--frontend_config", str(tmp_path / "frontend.yaml"))
    assert name == "train_data2vec.yaml"
    assert config == {**frontend, "encoder": "transformer"}


def test_another_frontend_keeps_its_name_until_upstreams_are_given():
    config = {"frontend": "default", "frontend_conf": {"n_fft": 512}}
    assert frontend_tag(config) == ""
    changed = set_frontend(config, upstreams=["hubert"])
    assert changed["frontend_conf"] == {"upstreams": ["hubert"]}
    assert config["frontend_conf"] == {"n_fft": 512}


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
    ],
)
def test_tag_tells_systems_apart(conf, tag):
    assert frontend_tag({"frontend": "ensemble", "frontend_conf": conf}) == tag


def test_an_unchanged_result_is_not_written_again(make, tmp_path):
    name, _ = make()
    path = tmp_path / "exp" / "conf" / name
    before = path.stat().st_mtime_ns
    make()
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected keys and values, found"),
        ("{", "while parsing"),
        (
            "encoder: conformer",
            "expected the keys frontend and frontend_conf, found enc",
        ),
        (
            "{frontend: ensemble, frontend_conf: {upstreams: [{nam: x}]}}",
            "expected a name, or a mapping with name",
        ),
    ],
)
def test_wrong_files_are_named(text, message, make, tmp_path, capsys):
    path = tmp_path / "frontend.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit) as exit:
        make("--frontend_config", str(path))
    error = capsys.readouterr().err
    assert exit.value.code == 1
    assert f"train_config: {path}: " in error and message in error
