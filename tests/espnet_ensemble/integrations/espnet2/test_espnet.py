"""ESPnet's own entry points train, average, resume and decode a model with the plugin."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet2.bin import asr_inference, asr_train
from espnet2.tasks.asr import ASRTask
from repository import REPOSITORY

from espnet_ensemble.errors import EnsembleError

pytestmark = pytest.mark.slow

FS = 16000
PITCHES = {"a": 300, "b": 700, "c": 1500}
CONF = REPOSITORY / "conf"


def say(text: str, generator: np.random.Generator) -> np.ndarray:
    """A letter is 0.1 s of its pitch, with noise and a pause."""
    time = np.arange(FS // 10) / FS
    pause = np.zeros(FS // 20)
    tones = [
        np.append(0.3 * np.sin(2 * np.pi * PITCHES[c] * time), pause) for c in text
    ]
    wav = np.concatenate(tones)
    return wav + 0.005 * generator.standard_normal(len(wav))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A Kaldi-style data directory of 16 utterances, with its token list and shapes."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    lines = {"wav.scp": [], "text": [], "speech_shape": [], "text_shape": []}
    for i in range(16):
        text = "".join(generator.choice(list(PITCHES), size=generator.integers(3, 8)))
        wav = say(text, generator)
        soundfile.write(folder / f"utt{i:02}.wav", wav, FS)
        lines["wav.scp"].append(f"utt{i:02} {folder}/utt{i:02}.wav")
        lines["text"].append(f"utt{i:02} {text}")
        lines["speech_shape"].append(f"utt{i:02} {len(wav)}")
        lines["text_shape"].append(f"utt{i:02} {len(text)},6")
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n")
    tokens = ["<blank>", "<unk>", *PITCHES, "<sos/eos>"]
    (folder / "tokens.txt").write_text("\n".join(tokens) + "\n")
    return folder


def config(
    folder: Path, upstreams, fusion, head="transformer2_ctc", **overrides
) -> Path:
    """A shared configuration, cut to the size of a test."""
    conf = yaml.safe_load((CONF / "tuning" / f"train_asr_{head}.yaml").read_text())
    conf["frontend_conf"].update(upstreams=upstreams, fusion=fusion)
    if conf["encoder"] == "transformer":
        conf["encoder_conf"].update(output_size=32, attention_heads=4, linear_units=64)
    conf.update(batch_bins=40000, num_workers=0, keep_nbest_models=2, specaug=None)
    conf.update(scheduler=None, optim_conf={"lr": 0.003}, **overrides)
    path = folder / f"{head}.yaml"
    path.write_text(yaml.safe_dump(conf))
    return path


def train_args(data: Path, conf: Path, exp: Path, *more: str) -> list:
    args = ["--config", conf, "--output_dir", exp, "--token_list", data / "tokens.txt"]
    args += ["--token_type", "char", "--ngpu", "0", "--use_preprocessor", "true"]
    for split in ("train", "valid"):
        for name, kind in (("speech", "sound"), ("text", "text")):
            source = data / ("wav.scp" if name == "speech" else name)
            args += [
                f"--{split}_data_path_and_name_and_type",
                f"{source},{name},{kind}",
            ]
            args += [f"--{split}_shape_file", data / f"{name}_shape"]
    return [str(arg) for arg in (*args, *more)]


def decode(data: Path, exp: Path, model: str = "valid.cer_ctc.ave.pth") -> dict:
    args = ["--config", CONF / "decode_asr_ctc.yaml", "--output_dir", exp / "decode"]
    args += ["--asr_train_config", exp / "config.yaml", "--asr_model_file", exp / model]
    args += ["--data_path_and_name_and_type", f"{data / 'wav.scp'},speech,sound"]
    args += ["--beam_size", "4"]  # there are 6 tokens
    asr_inference.main(
        [str(arg) for arg in (*args, "--ngpu", "0", "--num_workers", "0")]
    )
    lines = (exp / "decode" / "1best_recog" / "text").read_text().splitlines()
    return dict(line.partition(" ")[::2] for line in lines)


def letter_errors(hypotheses: dict, data: Path) -> float:
    import editdistance

    references = dict(line.split() for line in (data / "text").read_text().splitlines())
    assert set(hypotheses) == set(references)
    errors = sum(editdistance.eval(references[k], hypotheses[k]) for k in references)
    return errors / sum(map(len, references.values()))


@pytest.mark.parametrize(
    "fusion,layer", [("concat", "last"), ("attention", "weighted_sum")]
)
def test_train_resume_average_and_decode(fusion, layer, data, tmp_path, models):
    upstreams = [{"name": models(f), "layer": layer} for f in ("WavLM", "Hubert")]
    conf, exp = config(tmp_path, upstreams, fusion), tmp_path / "exp"

    asr_train.main(train_args(data, conf, exp, "--max_epoch", "4"))
    checkpoint = torch.load(exp / "4epoch.pth", weights_only=True)
    frontend = {k: v for k, v in checkpoint.items() if k.startswith("frontend.")}
    assert frontend.pop("frontend.fingerprints").shape == (2, 32)
    assert frontend.pop("frontend.probes").shape == (2, 17)
    assert bool(frontend) == (fusion == "attention")
    assert not any("upstream" in key for key in frontend)

    asr_train.main(train_args(data, conf, exp, "--max_epoch", "12", "--resume", "true"))
    log = (
        exp / "checkpoint.pth",
        exp / "12epoch.pth",
        exp / "valid.cer_ctc.ave_2best.pth",
    )
    assert all(path.exists() for path in log)
    reporter = torch.load(exp / "checkpoint.pth", weights_only=False)["reporter"]
    losses = [reporter["stats"][e]["train"]["loss"] for e in range(1, 13)]
    assert len(losses) == 12 and losses[-1] < 0.5 * losses[0]

    assert letter_errors(decode(data, exp), data) < 0.5


def test_losses_on_each_upstream_are_in_the_log_and_decoding_is_unaffected(
    data, tmp_path, tiny_wavlm, tiny_hubert
):
    model_conf = {"ctc_weight": 1.0, "extract_feats_in_collect_stats": False}
    model_conf |= {"member_ctc_weight": 0.3, "refinement_weight": 0.1}
    names = [Path(tiny_wavlm).name, Path(tiny_hubert).name]
    conf = config(
        tmp_path,
        [tiny_wavlm, tiny_hubert],
        "projection",
        head="ctc",
        model="ensemble",
        model_conf=model_conf,
    )
    exp = tmp_path / "exp"
    asr_train.main(
        train_args(data, conf, tmp_path / "stats", "--collect_stats", "true")
    )
    asr_train.main(train_args(data, conf, exp, "--max_epoch", "2"))
    stats = torch.load(exp / "checkpoint.pth", weights_only=False)["reporter"]["stats"]
    for split in ("train", "valid"):
        of_each = {f"loss_member_ctc_{name}" for name in names}
        assert {"loss_ctc", "loss_refinement", *of_each} <= stats[2][split].keys()
    assert set(decode(data, exp)) == {f"utt{i:02}" for i in range(16)}


def test_ctc_layer_only_is_all_that_trains(data, tmp_path, tiny_wavlm, tiny_hubert):
    conf = config(tmp_path, [tiny_wavlm, tiny_hubert], "concat", head="ctc")
    exp = tmp_path / "exp"
    asr_train.main(train_args(data, conf, exp, "--max_epoch", "2"))
    checkpoint = torch.load(exp / "2epoch.pth", weights_only=True)
    assert set(checkpoint) == {
        "frontend.fingerprints",
        "frontend.probes",
        "ctc.ctc_lo.weight",
        "ctc.ctc_lo.bias",
    }
    assert set(decode(data, exp)) == {f"utt{i:02}" for i in range(16)}


def test_an_experiment_goes_on_with_its_own_settings_only(data, tmp_path, tiny_wavlm):
    exp = tmp_path / "exp"

    def train(conf, *more):
        asr_train.main(train_args(data, conf, exp, "--resume", "true", *more))

    conf = config(tmp_path, [tiny_wavlm], "concat", head="ctc")
    train(conf, "--max_epoch", "1")
    weights = (exp / "1epoch.pth").read_bytes()
    before = (exp / "config.yaml").read_text()

    upstreams = [{"layer": 1, "name": tiny_wavlm}]
    other = config(tmp_path, upstreams, "concat", head="ctc", optim="sgd")
    with pytest.raises(EnsembleError) as error:
        train(other, "--max_epoch", "2", "--seed", "7")
    first, *differences, advice = str(error.value).splitlines()
    assert first == f"{exp} was trained with other settings:"
    assert differences == [
        f"  frontend_conf.upstreams: {[tiny_wavlm]!r} then, {upstreams!r} now",
        "  optim: 'adam' then, 'sgd' now",
        "  seed: 0 then, 7 now",
    ]
    assert "--asr_tag" in advice
    assert (exp / "config.yaml").read_text() == before

    conf = config(tmp_path, [tiny_wavlm], "concat", head="ctc", keep_nbest_models=3)
    train(conf, "--max_epoch", "2", "--num_workers", "1", "--log_interval", "1")
    assert (exp / "2epoch.pth").exists()
    assert (exp / "1epoch.pth").read_bytes() == weights

    # Without --resume, ESPnet trains anew.
    other = config(tmp_path, upstreams, "concat", head="ctc", optim="sgd")
    asr_train.main(train_args(data, other, exp, "--max_epoch", "1"))
    assert (exp / "1epoch.pth").read_bytes() != weights


def test_statistics_stage_does_not_load_upstreams(data, tmp_path):
    conf = config(tmp_path, ["microsoft/not-reachable-here"], "concat")
    stats = tmp_path / "stats"
    asr_train.main(train_args(data, conf, stats, "--collect_stats", "true"))
    shapes = (stats / "train" / "speech_shape").read_text()
    assert shapes == (data / "speech_shape").read_text()


def test_other_weights_are_refused_when_decoding(data, tmp_path, models):
    conf = config(tmp_path, [models("WavLM"), models("Hubert")], "concat", head="ctc")
    exp = tmp_path / "exp"
    asr_train.main(train_args(data, conf, exp, "--max_epoch", "1"))
    trained = yaml.safe_load((exp / "config.yaml").read_text())
    trained["frontend_conf"]["upstreams"][0] = models("WavLM", "large")
    (exp / "config.yaml").write_text(yaml.safe_dump(trained))
    with pytest.raises(RuntimeError, match="WavLM-large.* has other weights"):
        ASRTask.build_model_from_file(exp / "config.yaml", exp / "1epoch.pth")


def test_trainable_upstreams_and_freeze_param(data, tmp_path, tiny_wavlm):
    conf = config(tmp_path, [tiny_wavlm], "concat", head="ctc", init="xavier_uniform")
    settings = yaml.safe_load(conf.read_text())
    settings["frontend_conf"]["frozen"] = False
    conf.write_text(yaml.safe_dump(settings))
    exp = tmp_path / "exp"
    extractor = "frontend.upstreams.0.model.feature_extractor"
    asr_train.main(
        train_args(data, conf, exp, "--max_epoch", "1", "--freeze_param", extractor)
    )

    from transformers import AutoModel

    published = AutoModel.from_pretrained(tiny_wavlm).state_dict()
    trained = torch.load(exp / "1epoch.pth", weights_only=True)
    prefix = "frontend.upstreams.0.model."
    for key, weight in trained.items():
        if key.startswith(prefix):
            same = torch.equal(weight, published[key[len(prefix) :]])
            assert same == key.startswith(extractor), key


def test_training_on_two_processes_through_espnet_s_launcher(data, tmp_path, models):
    """The launcher starts `espnet-ensemble-python`, twice, as on two machines."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        '#!/bin/sh\n# Run the command on this machine.\nshift\nexec bash -c "$*"\n'
    )
    (tmp_path / "path.sh").touch()  # the launcher has every host source it
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    env = dict(os.environ, PATH=f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    env.update(OMP_NUM_THREADS="1")
    conf = config(tmp_path, [models("WavLM"), models("Hubert")], "attention")
    exp = tmp_path / "exp"
    python = [sys.executable, "-m", "espnet_ensemble.bin.python"]
    train = [*python, "-W", "ignore", "-m", "espnet2.bin.asr_train"]
    launch = [*python, "-W", "ignore", "-m", "espnet2.bin.launch", "--ngpu", "0"]
    launch += ["--host", "here,there", "--log", str(tmp_path / "train.log")]
    launch += ["--init_file_prefix", str(tmp_path / "init_"), "--", *train]
    launch += train_args(data, conf, exp, "--max_epoch", "1", "--batch_bins", "40000")
    result = subprocess.run(
        launch, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "world_size=2" in result.stderr
    assert (exp / "1epoch.pth").exists()
