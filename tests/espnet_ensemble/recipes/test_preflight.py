"""What asr.sh refuses before its first stage."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet2.tasks.asr import ASRTask

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes import preflight
from espnet_ensemble.recipes.names import AsrNames, NamingOptions
from espnet_ensemble.recipes.preflight import Plan, check_plan
from espnet_ensemble.recipes.training_config import TrainingConfig

ALL = (1, 2, 3, 4, 5, 10, 11, 12, 13)
PLAN = Plan(
    stages=ALL,
    train_set="train",
    valid_set="dev",
    eval_sets=["test"],
    fs="16k",
    asr_args="",
    inference_config="",
    inference_asr_model="valid.cer_ctc.ave.pth",
    cache_feats=True,
    ngpu=0,
    num_nodes=1,
    gpu_inference=False,
    cuda_cmd="run.pl",
    use_ngram="false",
)
CONFIG = {
    "frontend": "ensemble",
    "frontend_conf": {"upstreams": ["wavlm_base"]},
    "best_model_criterion": [["valid", "cer_ctc", "min"]],
}


@pytest.fixture(autouse=True)
def recipe(tmp_path, monkeypatch):
    """A recipe's folder to work in, on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    return tmp_path


def check(config=CONFIG, options=None, **plan):
    config = TrainingConfig("train", config)
    names = AsrNames.of(NamingOptions(**(options or {})), config)
    check_plan(replace(PLAN, **plan), config, names)


def refuses(message, config=CONFIG, **plan):
    with pytest.raises(EnsembleError, match=message):
        check(config, **plan)


def upstreams(*entries, **conf):
    return {**CONFIG, "frontend_conf": {"upstreams": list(entries), **conf}}


def write_set(folder, fs, utt_ids=("utt1", "utt2")):
    folder.mkdir(parents=True)
    soundfile.write(folder / "utt1.flac", np.zeros(99), fs)
    (folder / "wav.scp").write_text(f"utt1 {folder}/utt1.flac\nutt2 none.flac\n")
    (folder / "text").write_text("".join(f"{utt_id} X\n" for utt_id in utt_ids))


def test_what_is_right_is_not_refused(recipe):
    check()
    (recipe / "upstreams" / "wavlm").mkdir(parents=True)
    check(
        upstreams("upstreams/wavlm", "facebook/hubert-base-ls960", "./upstreams/wavlm")
    )
    stock = {"frontend": "default", "encoder": "conformer"}
    check(stock, cache_feats=False, inference_asr_model="valid.acc.ave_10best.pth")


def test_what_reads_language_models_must_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    refuses("kenlm is not installed; .*kenlm-ex", use_ngram="true")
    check(use_ngram="true", stages=(9, 10, 11))


def test_a_checkpoint_that_training_will_not_choose():
    message = (
        "valid.acc.best.pth: expected a checkpoint .* such as valid.cer_ctc.ave.pth"
    )
    refuses(message, inference_asr_model="valid.acc.best.pth")
    refuses("such as valid.acc.ave.pth", {**CONFIG, "best_model_criterion": None})
    for name in ("valid.cer_ctc.ave_5best.pth", "latest.pth", "10epoch.pth"):
        check(inference_asr_model=name)
    check(inference_asr_model="valid.acc.best.pth", stages=(12,))
    more = '--best_model_criterion "valid,acc,max"'
    check(inference_asr_model="valid.acc.best.pth", asr_args=more)


def test_all_problems_are_said_together():
    with pytest.raises(EnsembleError) as error:
        check(upstreams("wavlm_bas", "./no"), ngpu=2, gpu_inference=True)
    title, *problems = str(error.value).splitlines()
    assert title == "4 problems" and len(problems) == 4
    assert all(problem.startswith("- ") for problem in problems)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("wavlm_bas", "unknown upstream 'wavlm_bas'.* Close names: wavlm_base, "),
        ("upstreams/wavlmx", "'upstreams/wavlmx': there is no such folder.*/wavlm$"),
        ("./upstreams/other", "'./upstreams/other': there is no such folder$"),
        ("models/large/wavlm", "'models/large/wavlm': there is no such folder$"),
        (
            {"name": "wavlm_local", "path_or_url": "upstreams/wavlm.pt"},
            "path_or_url not found: upstreams/wavlm.pt. Close names: upstreams/wavlm$",
        ),
        ({"name": "a/b", "extra_conf": {"x": 1}}, "extra_conf: unknown key 'x'"),
    ],
)
def test_an_upstream_that_is_nowhere(entry, message, recipe):
    (recipe / "upstreams" / "wavlm").mkdir(parents=True)
    config = upstreams(entry)
    refuses(message, config, stages=(10,))
    refuses(message, config, stages=(11,))
    check(config, stages=(1, 2, 3, 4, 5, 13))


def test_gpus_that_there_are_not(monkeypatch):
    refuses(
        r"--ngpu 1: expected so many GPUs .*\(stage 11\), found 0; --ngpu 0", ngpu=1
    )
    refuses("--gpu_inference true: expected a GPU .*found none", gpu_inference=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check(ngpu=1, gpu_inference=True)
    refuses("--ngpu 2: expected so many GPUs on this machine", ngpu=2)


def test_gpus_that_are_not_needed_or_elsewhere():
    check(ngpu=1, gpu_inference=True, stages=(1, 2, 3, 4, 5, 10, 13))
    check(ngpu=1, gpu_inference=True, cuda_cmd="slurm.pl --mem 4G")
    check(ngpu=1, num_nodes=2)
    refuses("--ngpu 1", ngpu=1, cuda_cmd="run.pl --max_jobs_run 1")


@pytest.mark.parametrize("stages", [(4,), (10,), (11,), (5, 10, 11, 12)])
def test_audio_at_another_rate_than_is_said(stages, recipe):
    write_set(recipe / "dump/raw/org/train", 16000)
    write_set(recipe / "dump/raw/train", 16000)
    check(stages=stages)
    message = "train: expected audio at 8000 Hz .--fs., found 16000 Hz; give --fs 16000"
    refuses(message, stages=stages, fs="8k")
    check(stages=(3, *stages), fs="8k")


def test_speech_at_another_rate_than_the_model_s(recipe):
    write_set(recipe / "dump/raw/test", 8000)
    exp = recipe / "exp" / "asr_train_wavlm_base_raw_char"
    exp.mkdir(parents=True)
    check(stages=(12,), fs="8k", options={"asr_tag": "not_yet_trained"})
    (exp / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    message = (
        "dump/raw/test: expected audio at 16000 Hz, .*config.yaml.*, found 8000 Hz"
    )
    refuses(f"{message}; begin with stage 3", stages=(12, 13))
    refuses(rf"{message} \(--fs\)", stages=(3, 12), fs="8k")
    check(stages=(3, 12))
    (exp / "config.yaml").write_text(yaml.safe_dump(upstreams("wavlm_base", fs="8k")))
    check(stages=(12,))


def test_statistics_of_other_utterances(recipe):
    for split, name in (("train", "train"), ("valid", "dev")):
        write_set(recipe / "dump/raw" / name, 16000)
        (recipe / "exp/asr_stats_raw_char" / split).mkdir(parents=True)
        shapes = recipe / "exp/asr_stats_raw_char" / split / "speech_shape"
        shapes.write_text("utt1 99\nutt2 99\n")
    check(stages=(11,))
    shapes.write_text("utt1 99\n")
    refuses("valid/speech_shape: expected the utterances of dump/raw/dev", stages=(11,))
    check(stages=(10, 11))


def test_options_that_espnet_has_not():
    message = "training configuration: max_epochs, encodr: ESPnet.* no such option"
    refuses(message, {**CONFIG, "max_epochs": 3, "encodr": "conformer"})
    refuses("configuration: max_epochs", asr_args="--max_epochs 3 --optim_conf lr=1")
    check({**CONFIG, "max_epochs": 3}, stages=(1, 2, 3, 4, 5, 12))
    check(asr_args="--max_ep 3")
    refuses("--config is for --asr_config to give", asr_args="--config other.yaml")


def test_espnet_s_options_are_known_without_asking_it():
    """That would take seconds."""
    sources = "".join(preflight._source(module) for module in preflight._DECLARING)
    options = vars(ASRTask.get_parser().parse_args([]))
    assert [o for o in options if not preflight._is_declared(o, sources)] == []


def test_names_of_folders_that_other_programs_misread():
    check(options={"dumpdir": "a b's", "expdir": "c d"})
    for options, message in (
        ({"dumpdir": "a,b"}, "^a,b/raw: expected a name without comma"),
        ({"asr_tag": "JOBS"}, "^exp/asr_JOBS: expected another name"),
    ):
        with pytest.raises(EnsembleError, match=message):
            check(options=options)


def test_features_that_cannot_be_computed_once():
    config = {"frontend": "default"}
    refuses("--cache_feats true: expected frontend: ensemble .* found default", config)
    config = upstreams("wavlm_base", frozen=False)
    refuses(
        "--cache_feats true: .* found frozen: false; give --cache_feats false", config
    )
    check(config, cache_feats=False)


def test_a_decoding_configuration_that_is_not_there():
    refuses("^decode.yaml: expected a file", inference_config="decode.yaml")
    check(inference_config="decode.yaml", stages=(10, 11))
