"""The stage script's options: what it says before it starts anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

TEMPLATE = REPOSITORY / "egs2" / "TEMPLATE" / "asr1"
SETS = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test"]
CONFIG = ["--asr_config", "train.yaml"]
ESPNET_OPTIONS = """
    stage stop_stage skip_stages skip_data_prep skip_train skip_eval skip_packing
    skip_upload_hf eval_valid_set ngpu num_nodes nj inference_nj gpu_inference dumpdir
    expdir python local_data_opts train_set valid_set test_sets speed_perturb_factors
    feats_type audio_format fs min_wav_duration max_wav_duration token_type nbpe bpemode
    bpe_train_text bpe_input_sentence_size bpe_nlsyms bpe_char_cover lm_train_text oov
    blank sos_eos nlsyms_txt cleaner hyp_cleaner g2p lang asr_config asr_args asr_tag
    asr_exp asr_stats_dir feats_normalize pretrained_model ignore_init_mismatch
    asr_speech_fold_length asr_text_fold_length inference_config inference_args
    inference_tag inference_asr_model batch_size score_opts local_score_opts hf_repo
""".split()


@pytest.fixture
def recipe(tmp_path):
    """An empty recipe of a clone."""
    (tmp_path / "local").symlink_to(REPOSITORY / "local")
    folder = tmp_path / "egs2" / "corpus" / "asr1"
    folder.mkdir(parents=True)
    for name in ("asr.sh", "cmd.sh", "path.sh", "utils"):
        (folder / name).symlink_to(TEMPLATE / name)
    (folder / "train.yaml").write_text(
        "frontend: ensemble\nfrontend_conf: {upstreams: [wavlm_base]}\n"
    )
    return folder


@pytest.fixture
def asr(recipe):
    """Run asr.sh: asr(option, value, ...) -> exit code, and all that it printed."""

    def run(*options):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["./asr.sh", *options],
            cwd=recipe,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        return done.returncode, done.stdout

    return run


def test_help_lists_espnet_s_options_and_their_defaults(asr):
    code, output = asr("--help")
    assert code == 0
    listed = re.findall(r"^  --(\w+) .*# \S", output, flags=re.MULTILINE)
    assert set(ESPNET_OPTIONS) <= set(listed)
    assert "--nj 32 " in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--use_lm", "true"], "--use_lm of ESPnet's asr.sh is not supported: "),
        (["--num-ref", "2"], "--num_ref of ESPnet's asr.sh is not supported: "),
        (["--use_streaming", "true"], "not supported: decoding is that of"),
        (["--stagee", "1"], "unknown option '--stagee'"),
        (["--PATH", "/"], "unknown option '--PATH'"),
        (["--stage"], "--stage: expected a value"),
        (["stage"], "expected --option value, found 'stage'"),
        (["--skip_train", "yes"], "--skip_train: expected true or false, found 'yes'"),
        (SETS[2:] + CONFIG, "--train_set is required"),
        (SETS[:2] + SETS[4:] + CONFIG, "--valid_set is required"),
        (SETS[:4] + CONFIG, "--test_sets is required"),
        (SETS, "--asr_config is required"),
        ([*SETS, *CONFIG, "--valid_set", "train"], "must differ, found train for both"),
        ([*SETS, *CONFIG, "--test_sets", "a train"], "train is the training set"),
        ([*SETS, *CONFIG, "--feats_type", "fbank"], "--feats_type fbank: expected raw"),
        ([*SETS, *CONFIG, "--audio_format", "mp3"], "mp3: expected wav or flac"),
        ([*SETS, *CONFIG, "--token_type", "phn"], "phn: expected char, word or bpe"),
        ([*SETS, *CONFIG, "--python", "python3"], "expected a python that loads the"),
        ([*SETS, "--asr_config", "other.yaml"], "asr_names: other.yaml: "),
        ([*SETS, *CONFIG, "--frontend_config", "no.yaml"], "asr_names: no.yaml: "),
    ],
)
def test_wrong_options_are_refused_at_once(options, message, asr, recipe):
    code, output = asr(*options)
    assert code != 0
    assert message in output
    assert not (recipe / "data").exists() and not (recipe / "dump").exists()


@pytest.mark.parametrize(
    ("stage", "missing", "maker"),
    [
        (3, "data/train/wav.scp", 1),
        (4, "dump/raw/org/train/wav.scp", 3),
        (5, "dump/raw/lm_train.txt", 4),
        (10, "dump/raw/train/wav.scp", 4),
        (11, "exp/asr_stats_raw_char/train/speech_shape", 10),
        (12, "exp/asr_train_wavlm_base_raw_char/config.yaml", 11),
        (13, "asr_model_valid.cer_ctc.ave/test/.done", 12),
        (14, "exp/asr_train_wavlm_base_raw_char/config.yaml", 11),
    ],
)
def test_a_stage_names_what_is_missing_and_who_makes_it(stage, missing, maker, asr):
    more = ["--skip_packing", "false"]
    code, output = asr(*SETS, *CONFIG, *more, "--stage", str(stage))
    assert code == 2
    assert re.search(
        rf"{re.escape(missing)} is missing: stage {maker} makes it", output
    )


def test_names_of_folders_say_what_was_asked_for(asr):
    options = ["--upstreams", "hubert_base wavlm_base", "--token_type", "bpe", "--nbpe"]
    options += ["50", "--asr_args", "--max_epoch 3 --optim_conf lr=0.1", "--lang", "en"]
    options += ["--speed_perturb_factors", "0.9 1.1", "--stage", "12"]
    _, output = asr(*SETS, *CONFIG, *options)
    name = "asr_train_hubert_base_wavlm_base_raw_en_bpe50_max_epoch3_optim_conflr0.1_sp"
    assert f"exp/{name}/config.yaml is missing" in output
    _, output = asr(*SETS, *CONFIG, *options[:-1], "11")
    assert "exp/asr_stats_raw_en_bpe50_sp/train/speech_shape is missing" in output


def test_backends(recipe, asr, monkeypatch):
    monkeypatch.setenv("cmd_backend", "sge")
    code, output = asr(*SETS, *CONFIG)
    assert code != 0 and "cmd_backend: expected local or slurm, found 'sge'" in output


def test_nothing_to_do(asr):
    code, output = asr(*SETS, *CONFIG, "--stage", "6", "--stop_stage", "9")
    assert code == 0 and "Successfully finished" in output
