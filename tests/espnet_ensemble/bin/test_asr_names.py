"""The command that asr.sh asks for names, and that writes its training configuration."""

import shlex
import subprocess

import pytest
import yaml

from espnet_ensemble.bin.asr_names import main

CONFIG = """\
frontend: ensemble
frontend_conf:
    upstreams: [wavlm_base, {name: upstreams/hubert, layer: 3}]
    fusion: sum
    fs: 16k
encoder: transformer
"""


@pytest.fixture
def names(tmp_path, monkeypatch, capsys):
    """Run the command: names(option, value, ...) -> the names, as a shell reads them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.yaml").write_text(CONFIG)

    def run(*options):
        main(["--asr_config", "train.yaml", *options])
        lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
        return dict(word.split("=", 1) for (word,) in lines)

    return run


def written(names):
    with open(names["asr_config"]) as file:
        return yaml.safe_load(file)


def test_without_options_nothing_but_the_configuration_s_name_changes(names):
    made = names()
    assert made["asr_config"] == "exp/conf/train_wavlm_base_hubert-layer3_sum.yaml"
    assert made["asr_exp"] == "exp/asr_train_wavlm_base_hubert-layer3_sum_raw_char"
    assert written(made) == yaml.safe_load(CONFIG)


def test_upstreams_leave_the_frontend_s_other_options(names):
    made = names("--upstreams", " wav2vec2 microsoft/wavlm-large ", "--expdir", "e")
    assert made["asr_config"] == "e/conf/train_wav2vec2_wavlm-large_sum.yaml"
    config = written(made)
    assert config["frontend_conf"] == {
        "upstreams": ["wav2vec2", "microsoft/wavlm-large"],
        "fusion": "sum",
        "fs": "16k",
    }
    assert config["encoder"] == "transformer"


def test_frontend_config_takes_the_place_of_all(names, tmp_path):
    frontend = {"frontend": "ensemble", "frontend_conf": {"upstreams": ["data2vec"]}}
    (tmp_path / "frontend.yaml").write_text(yaml.safe_dump(frontend))
    made = names("--frontend_config", "frontend.yaml")
    assert made["asr_config"] == "exp/conf/train_data2vec.yaml"
    assert written(made) == {**frontend, "encoder": "transformer"}


def test_options_of_asr_sh_may_look_like_options(names):
    made = names("--asr_args=--max_epoch 3", "--lang=en", "--inference_args=--x=1")
    assert made["asr_exp"].endswith("_sum_raw_en_char_max_epoch3")
    assert made["inference_tag"] == "inference_x1_asr_model_valid.cer_ctc.ave"


def test_a_shell_takes_the_names_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.yaml").write_text(CONFIG)
    wild = "$(touch ran); `touch ran` 'x' \"y\" *"
    main(["--asr_config", "train.yaml", "--asr_exp", wild, "--asr_tag", "a\nb"])
    script = f'{capsys.readouterr().out}printf "%s|" "$asr_exp" "$asr_tag"'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, check=True, text=True
    )
    assert done.stdout == f"{wild}|a\nb|"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected keys and values, found"),
        ("{", "while parsing"),
        ("encoder: conformer", "unknown key 'encoder'; expected frontend"),
        (
            "{frontend: ensemble, frontend_conf: {upstreams: [{nam: x}]}}",
            "expected a name, or a mapping with name",
        ),
    ],
)
def test_wrong_files_are_named(text, message, names, tmp_path, capsys):
    (tmp_path / "frontend.yaml").write_text(text)
    with pytest.raises(SystemExit) as exit:
        names("--frontend_config", "frontend.yaml")
    error = capsys.readouterr().err
    assert exit.value.code == 1
    assert error.startswith("asr_names: frontend.yaml: ") and message in error
