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
        lines = capsys.readouterr().out.splitlines()
        assigned = dict(line.split("=", 1) for line in lines)
        return {
            name: value if value.startswith("(") else "".join(shlex.split(value))
            for name, value in assigned.items()
        }

    return run


def written(names):
    with open(names["asr_config"]) as file:
        return yaml.safe_load(file)


def test_without_options_nothing_but_the_configuration_s_name_changes(names):
    made = names()
    assert made["asr_config"] == "exp/conf/train_wavlm_base_hubert-layer3_sum.yaml"
    assert made["asr_exp"] == "exp/asr_train_wavlm_base_hubert-layer3_sum_raw_char"
    assert written(made) == yaml.safe_load(CONFIG)


def test_links_are_called_by_what_they_lead_to(names, tmp_path):
    """conf/train_asr.yaml is a link in all recipes."""
    (tmp_path / "train_asr.yaml").symlink_to("train.yaml")
    (tmp_path / "decode_asr_ctc.yaml").touch()
    (tmp_path / "decode_asr.yaml").symlink_to("decode_asr_ctc.yaml")
    decode = ["--inference_config", "decode_asr_ctc.yaml"]
    linked = ["--asr_config", "train_asr.yaml", *decode[:1], "decode_asr.yaml"]
    assert names(*linked) == names(*decode)
    assert names(*decode)["inference_tag"].startswith("decode_asr_ctc_asr_model_")


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


def test_the_configuration_is_as_the_options_have_it(names):
    """What extraction reads is what training does."""
    made = names("--fs=8k", "--asr_args=--frontend_conf dtype=bfloat16 --max_epoch 3")
    assert made["asr_exp"].startswith("exp/asr_train_wavlm_base_hubert-layer3_sum_raw_")
    frontend_conf = yaml.safe_load(CONFIG)["frontend_conf"]
    assert written(made) == {
        **yaml.safe_load(CONFIG),
        "frontend_conf": {**frontend_conf, "fs": "8k", "dtype": "bfloat16"},
    }
    assert made["asr_config"] != names("--fs=8k")["asr_config"]


def test_features_on_disk_are_told_apart(names):
    """By what the features of an upstream depend on, not by what becomes of them."""
    assert names()["feats_dir"] == names("--upstreams=a/b")["feats_dir"] == "dump/feats"
    fused = "--asr_args=--frontend_conf fusion_conf.size=3"
    assert names(fused)["feats_dir"] == "dump/feats"
    others = ["--fs=8k", "--asr_args=--frontend_conf dtype=float16"]
    folders = [names(option, "--dumpdir=d")["feats_dir"] for option in others]
    assert folders == [
        names("--upstreams=a/b", o, "--dumpdir=d")["feats_dir"] for o in others
    ]
    assert len(set(folders)) == 2 and all(f.startswith("d/feats_") for f in folders)


def test_options_of_several_words_are_arrays(names):
    made = names(
        "--asr_args=--x 'a b' \"it's\"", "--local_data_opts=", "--cache_opts=*"
    )
    assert made["asr_args_words"] == """(--x 'a b' 'it'"'"'s')"""
    assert (made["local_data_opts_words"], made["cache_opts_words"]) == ("()", "('*')")


def test_a_quotation_mark_without_a_second(names, capsys):
    with pytest.raises(SystemExit):
        names("--cache_opts=--storage 'int8")
    assert "--cache_opts --storage 'int8: expected words" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "test_sets", "eval_sets"),
    [
        (["--test_sets=a b a"], "a b", "a b"),
        (["--test_sets=a", "--eval_valid_set=true"], "a", "org/dev a"),
        (["--test_sets=a dev b"], "a b", "org/dev a b"),
        (["--test_sets=", "--eval_valid_set=true"], "", "org/dev"),
    ],
)
def test_sets_to_decode(options, test_sets, eval_sets, names):
    made = names("--valid_set=dev", *options)
    assert made["test_sets"] == test_sets
    assert made["eval_sets"] == eval_sets
    assert made["eval_valid_set"] == str("org/dev" in eval_sets).lower()


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
