"""The stage script's options: what it says before it starts anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cache_runs import NUM_SAMPLES, write_noises
from noise_wav import wav
from repository import REPOSITORY

from espnet_ensemble.bin.pack import main as pack

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
    bundle_upstreams upload_dry_run inference_tag inference_asr_model inference_ngram use_ngram ngram_exp ngram_num batch_size score_opts local_score_opts hf_repo
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
        "best_model_criterion: [[valid, cer_ctc, min]]\n"
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


def test_help_shows_the_stages(asr):
    _, output = asr("--help")
    stages = re.search(r"\nStages:\n(.*?)\n\n", output, re.DOTALL).group(1)
    script = (TEMPLATE / "asr.sh").read_text()
    numbers = re.findall(r"^stage_(\d+)\(\)", script, re.MULTILINE)
    assert re.findall(r"^  (\d+)\t\S", stages, re.MULTILINE) == numbers
    loop = re.search(r"for number in ([\d ]+); do", script).group(1)
    assert loop.split() == numbers


def test_help_shows_the_defaults_of_the_recipe(asr):
    """They are the options before it."""
    code, output = asr(*SETS, "--nj", "3", "--asr_args", "--max_epoch 3", "--help")
    assert code == 0
    assert re.search(r"^  --nj 3 +# parallel jobs$", output, re.MULTILINE)
    assert re.search(r"^  --train_set train +# training set", output, re.MULTILINE)
    assert re.search(r'^  --asr_args "--max_epoch 3" +# ', output, re.MULTILINE)


def test_help_needs_no_reader(recipe):
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", "./asr.sh --help | head -n 1"],
        cwd=recipe,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("Usage: ") and done.stderr == ""


def test_help_lists_espnet_s_options_and_their_defaults(asr):
    code, output = asr("--help")
    assert code == 0
    listed = re.findall(r"^  --(\w+) .*# \S", output, flags=re.MULTILINE)
    assert set(ESPNET_OPTIONS) <= set(listed)
    assert "--nj 32 " in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--use_lm", "false", "--use_lm", "true"],
            "--use_lm true: expected false: there is no neural language model; --use_ngram",
        ),
        (["--num-ref", "2"], "--num_ref 2: expected 1: for several speakers at once, "),
        (
            ["--auxiliary_data_tags", "lid_utt"],
            "lid_utt: expected nothing: for further",
        ),
        (["--use_lm"], "--use_lm: expected a value"),
        (
            ["--nbpe", "5000"],
            "--nbpe is for --token_type bpe, the default of ESPnet's asr.sh; here it is char",
        ),
        (["--stagee", "1"], "unknown option '--stagee'"),
        (["--PATH", "/"], "unknown option '--PATH'"),
        (["--stage"], "--stage: expected a value"),
        (["stage"], "expected --option value, found 'stage'"),
        (["--skip_train", "yes"], "--skip_train: expected true or false, found 'yes'"),
        (["--stage", "foo"], "--stage: expected a number, found 'foo'"),
        (["--stop_stage", "1.5"], "--stop_stage: expected a number, found '1.5'"),
        (["--stage", "010"], "--stage: expected a number, found '010'"),
        (
            ["--skip_stages", "2,4"],
            "--skip_stages: expected numbers of stages, such as",
        ),
        (["--ngpu", "all"], "--ngpu: expected a number, found 'all'"),
        (["--nj", "0"], "--nj: expected a number from 1, found '0'"),
        (
            ["--max_wav_duration", "x"],
            "--max_wav_duration: expected seconds, found 'x'",
        ),
        (
            [*SETS, *CONFIG, "--stage", "12", "--stop_stage", "11"],
            "--stage 12 comes after --stop_stage 11",
        ),
        (
            [*SETS, *CONFIG, "--valid_set", "a b"],
            "expected one train_set and one valid",
        ),
        ([*SETS, *CONFIG, "--fs", "fast"], "asr_names: fs: "),
        (
            [*SETS, *CONFIG, "--asr_args", "it's"],
            "asr_names: --asr_args it's: expected",
        ),
        ([*SETS, *CONFIG, "--upstreams", "wavlm_bse"], "Close names: wavlm_base"),
        (
            [*SETS, *CONFIG, "--asr_args", "--frontend_conf fusion_cnf={}"],
            "asr_names: frontend_conf: unknown key 'fusion_cnf'",
        ),
        (SETS[2:] + CONFIG, "--train_set is required"),
        (SETS[:2] + SETS[4:] + CONFIG, "--valid_set is required"),
        (SETS[:4] + CONFIG, "--test_sets is required"),
        (SETS, "--asr_config is required"),
        ([*SETS, *CONFIG, "--valid_set", "train"], "must differ, found train for both"),
        ([*SETS, *CONFIG, "--test_sets", "a train"], "train is the training set"),
        ([*SETS, *CONFIG, "--feats_type", "fbank"], "--feats_type fbank: expected raw"),
        ([*SETS, *CONFIG, "--audio_format", "mp3"], "mp3: expected wav or flac"),
        (
            [*SETS, *CONFIG, "--feats_normalize", "cmvn"],
            "expected utt_mvn or global_mvn",
        ),
        ([*SETS, *CONFIG, "--token_type", "phn"], "phn: expected char, word or bpe"),
        (
            [*SETS, *CONFIG, "--ngram_token_type", "bpe"],
            "--ngram_token_type bpe: expected word or char",
        ),
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


STOCK = """
    --lang en --ngpu 1 --nj 16 --gpu_inference true --inference_nj 2 --nbpe 5000
    --max_wav_duration 30 --audio_format flac.ark --feats_type raw --use_lm true
    --use_word_lm false --lm_config conf/train_lm.yaml --num_splits_asr 1
    --lm_train_text data/train/text --bpe_train_text data/train/text --use_k2 false
    --k2_config conf/k2.yaml --feats_normalize uttmvn --max_wav_duration 20.
""".split()


def test_what_asks_for_nothing_of_espnet_s_options_is_taken(asr):
    nothing = ["--stage", "6", "--stop_stage", "8"]
    given = [*STOCK, *SETS, *CONFIG, "--ngpu", "0", "--use_lm", "false", *nothing]
    code, output = asr(*given, "--token_type", "bpe")
    assert code == 0, output
    assert "without effect" not in output


def test_what_a_default_of_espnet_s_would_have_used_is_said(asr):
    nothing = ["--stage", "6", "--stop_stage", "8"]
    lm = ["--lm_config", "lm.yaml", "--lm_train_text", "text", "--lm_args", "--lr 1"]
    code, output = asr(*SETS, *CONFIG, *lm, *nothing)
    assert code == 0, output
    assert "Note: without effect: --lm_config --lm_args: --use_lm is true by" in output


def test_defaults_that_differ_are_in_the_docs(asr):
    """As in help: (ESPnet: value)."""
    _, output = asr("--help")
    noted = re.findall(r"^  --(\w+) .* # .*ESPnet: ([^)]*)\)", output, re.MULTILINE)
    docs = (REPOSITORY / "docs" / "recipes.md").read_text()
    rows = re.findall(r"^\| `--(\w+)` \| .* \| `(.*)` \|$", docs, re.MULTILINE)
    assert noted and sorted(rows) == sorted(noted)


@pytest.mark.parametrize(
    ("stage", "missing", "maker"),
    [
        (3, "data/train/wav.scp", 1),
        (4, "dump/raw/org/train/wav.scp", 3),
        (5, "dump/raw/lm_train.txt", 4),
        (9, "dump/raw/lm_train.txt", 4),
        (10, "dump/raw/train/wav.scp", 4),
        (11, "exp/asr_stats_raw_char/train/speech_shape", 10),
        (12, "exp/asr_train_wavlm_base_raw_char/config.yaml", 11),
        (13, "asr_model_valid.cer_ctc.ave/test/.done", 12),
        (14, "exp/asr_train_wavlm_base_raw_char/config.yaml", 11),
    ],
)
def test_a_stage_names_what_is_missing_and_who_makes_it(stage, missing, maker, asr):
    more = ["--skip_packing", "false", "--ngpu", "0"]
    more += ["--use_ngram", "true", "--stop_stage", "9"] if stage == 9 else []
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
    _, output = asr(*SETS, *CONFIG, *options[:-1], "11", "--ngpu", "0")
    assert "exp/asr_stats_raw_en_bpe50_sp/train/speech_shape is missing" in output


def test_an_n_gram_of_the_training_text(asr, recipe):
    text = recipe / "dump" / "raw" / "lm_train.txt"
    text.parent.mkdir(parents=True)
    text.write_text("utt1 a can\nutt2 ban\n")
    stage_9 = [*SETS, *CONFIG, "--stage", "9", "--stop_stage", "9", "--ngpu", "0"]
    ngram = [*stage_9, "--use_ngram", "true", "--ngram_num", "2"]
    code, output = asr(*ngram)
    assert code == 0, output
    assert "\tban\t" in (recipe / "exp" / "ngram" / "2gram.arpa").read_text()
    assert "exp/ngram/2gram.arpa is up to date" in asr(*ngram)[1]


def test_training_sets_of_one_dump_folder_keep_their_texts(recipe, asr):
    """The second one's stage 4 came after the first one's, and before its stage 5."""
    for name, text in {"train": "a b c", "part": "a", "dev": "a"}.items():
        folder = recipe / "dump" / "raw" / "org" / name
        folder.mkdir(parents=True)
        (folder / "wav.wav").write_bytes(wav(0.5))
        tables = {"wav.scp": folder / "wav.wav", "text": text, "utt2spk": "a"}
        tables |= {"spk2utt": "a", "utt2num_samples": "8000"}
        for table, value in tables.items():
            (folder / table).write_text(f"a {value}\n")
    all_of_it = [*SETS, *CONFIG, "--ngpu", "0"]
    part = [*all_of_it, "--train_set", "part", "--lang", "part"]
    for options, stage in [(all_of_it, 4), (part, 4), (all_of_it, 5), (part, 5)]:
        code, output = asr(*options, "--stage", str(stage), "--stop_stage", str(stage))
        assert code == 0, output
    for folder, tokens in {"token_list": "abc", "part_token_list": "a"}.items():
        found = (recipe / "data" / folder / "char" / "tokens.txt").read_text().split()
        assert set(found) - {"<space>"} == {"<blank>", "<unk>", "<sos/eos>", *tokens}


def test_statistics_without_the_data(recipe, asr):
    """As with --dumpdir misspelt."""
    for path in ("train/speech_shape", "valid/text_shape.char"):
        (recipe / "exp/asr_stats_raw_char" / path).parent.mkdir(parents=True)
        (recipe / "exp/asr_stats_raw_char" / path).touch()
    options = ["--stage", "11", "--ngpu", "0", "--dumpdir", "dumpx"]
    code, output = asr(*SETS, *CONFIG, *options)
    assert code == 2
    assert "dumpx/raw/train/wav.scp is missing: stage 4 makes it" in output


def test_gpus_that_there_are_not_stop_only_stages_that_need_them(asr, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    options = [*SETS, *CONFIG, "--ngpu", "1"]
    code, output = asr(*options, "--stage", "11")
    assert code != 0 and "--ngpu 1: expected so many GPUs on this machine" in output
    _, output = asr(*options, "--stage", "3", "--stop_stage", "5")
    assert "GPU" not in output and "data/train/wav.scp is missing" in output


DECODING_STAND_IN = """#!/usr/bin/env bash
# Python on a machine of two GPUs. Decoding says who it is, and writes empty results.
case "$*" in
    *device_count*) echo 2 ;;
    *bin.asr_names*) # here there need not be any
        exec espnet-ensemble-python "${@/--gpu_inference=true/--gpu_inference=false}" ;;
    *asr_inference_ctc*)
        [ ! -e broken ] || exit 1
        echo "$@" >> decoded
        while [ $# -gt 0 ]; do
            if [ "$1" = --output_dir ]; then
                mkdir -p "$2/1best_recog"
                touch "$2"/1best_recog/{text,token,token_int,score}
            fi
            shift
        done ;;
    *) exec espnet-ensemble-python "$@" ;;
esac
"""


@pytest.fixture
def two_gpus(recipe, asr):
    """Run stage 12 on two sets where there are two GPUs -> exit code, output."""
    python = recipe / "python"
    python.write_text(DECODING_STAND_IN)
    python.chmod(0o755)
    exp = recipe / "exp" / "asr"
    exp.mkdir(parents=True)
    (exp / "config.yaml").write_text("decoder: null\n")
    (exp / "valid.cer_ctc.ave.pth").touch()
    for name in ("one", "two"):
        data = recipe / "dump" / "raw" / name
        data.mkdir(parents=True)
        (data / "wav.scp").write_text("a a.wav\nb b.wav\nc c.wav\n")
        (data / "utt2num_samples").write_text("a 100\nb 300\nc 200\n")
    options = ["--test_sets", "one two", "--asr_exp", "exp/asr", "--skip_train", "true"]
    options += ["--gpu_inference", "true", "--python", "./python", "--stage", "12"]
    return lambda: asr(*CONFIG, *options, "--stop_stage", "12")


def test_here_every_gpu_decodes_its_part_of_all_sets(recipe, two_gpus):
    code, output = two_gpus()
    assert code == 0, output
    calls = sorted((recipe / "decoded").read_text().splitlines())
    assert [call.split()[-2:] for call in calls] == [
        ["--device", "cuda:0"],
        ["--device", "cuda:1"],
    ]
    assert all(call.count("--key_file") == 2 for call in calls)
    logdir = (
        recipe
        / "exp"
        / "asr"
        / "inference_asr_model_valid.cer_ctc.ave"
        / "two"
        / "logdir"
    )
    parts = [(logdir / f"keys.{job}.scp").read_text() for job in (1, 2)]
    assert parts == ["c 200\n", "b 300\na 100\n"]


def test_a_job_that_fails_ends_the_script_and_its_bar(recipe, two_gpus):
    (recipe / "broken").touch()
    code, output = two_gpus()  # through a pipe: it would not come back with a bar left
    assert code != 0 and "2 job(s) failed" in output


def test_audio_of_several_channels(recipe, asr):
    """What the message advises is an option; perturbed speech has one channel already."""
    for name in ("train", "dev", "test"):
        folder = recipe / "data" / name
        folder.mkdir(parents=True)
        soundfile.write(folder / "a.wav", np.full((800, 2), (0.25, 0.5)), 16000)
        tables = {"text": "X", "utt2spk": "a", "spk2utt": "a"}
        for table, value in {**tables, "wav.scp": f"{folder}/a.wav"}.items():
            (folder / table).write_text(f"a {value}\n")
    options = [*SETS, *CONFIG, "--stage", "2", "--stop_stage", "3", "--nj", "1"]
    options += ["--speed_perturb_factors", "1.0"]
    code, output = asr(*options)
    assert code != 0 and "found 2; choose one with --ref_channel" in output
    code, output = asr(*options, "--ref_channel", "1")
    assert code == 0, output
    for made in ("org/train_sp", "test"):
        path = recipe / "dump" / "raw" / made / "wav.scp"
        samples, _ = soundfile.read(recipe / path.read_text().split()[1])
        assert samples.ndim == 1 and samples[400] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.slow
def test_a_published_model_is_decoded_with(recipe, asr, build_model, models):
    """With a run.sh's options of another model; nothing is trained."""
    exp = recipe / "exp" / "asr"
    build_model(exp, [models("WavLM"), models("Hubert")], fs="16k")
    made = ["--asr_train_config", f"{exp}/config.yaml"]
    made += ["--asr_model_file", f"{exp}/valid.ave_2best.pth"]
    pack(["asr", *made, "--outpath", f"{recipe}/mine.zip"])
    (recipe / "data").mkdir()
    folder = write_noises(recipe / "data")
    for name, value in {"text": "a b", "utt2spk": "alice"}.items():
        (folder / name).write_text("".join(f"{k} {value}\n" for k in NUM_SAMPLES))
    options = [*CONFIG, "--test_sets", "train", "--upstreams", "hubert_base"]
    options += ["--download_model", "mine.zip", "--ngpu", "0", "--asr_args", "--lr 1"]
    code, output = asr(*options, "--stage", "2", "--stop_stage", "13")
    assert code == 0, output
    results = (recipe / "exp" / "mine" / "RESULTS.md").read_text()
    assert "|inference_asr_model_valid.ave_2best/train|7|14|" in results
    assert "Stage 11" not in output and not (recipe / "exp" / "conf").exists()


def test_options_reach_local_data_sh_as_words(recipe, asr):
    (recipe / "local").mkdir()
    (recipe / "local" / "data.sh").write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    (recipe / "local" / "data.sh").chmod(0o755)
    options = ["--local_data_opts", "--dir '/a b' *", "--stop_stage", "1"]
    code, output = asr(*SETS, *CONFIG, *options)
    assert code == 0 and "<--dir></a b><*>" in output


def test_backends(recipe, asr, monkeypatch):
    monkeypatch.setenv("cmd_backend", "sge")
    code, output = asr(*SETS, *CONFIG)
    assert code != 0 and "cmd_backend: expected local or slurm, found 'sge'" in output


def test_nothing_to_do(asr):
    code, output = asr(*SETS, *CONFIG, "--stage", "6", "--stop_stage", "9")
    assert code == 0 and "Successfully finished" in output
