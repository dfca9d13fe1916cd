"""Fine-tuning of the quick-start recipe's upstreams with CTC."""

import doctest
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCTC, AutoProcessor, pipeline

from espnet_ensemble.data.datadir import write
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend

FAMILIES = ("hubert", "wav2vec2", "wavlm")
TINY = "--num_steps 3 --batch_seconds 3 --warmup_steps 1".split()
TINY += "--log_interval 1 --save_interval 1".split()
PITCHES = {"a": 300, "ä": 800, " ": 0}
ORDER = ("hubert", "wavlm", "wav2vec2")
TEXTS = {"u1": "aä", "u2": "ä a", "u3": "a äa", "u4": "äaä aä", "u5": "ä", "u6": "a a"}


def sing(text):
    """A note of a quarter of a second for each character, with a little noise."""
    time = np.arange(4000) / 16000
    notes = [np.sin(2 * np.pi * PITCHES[character] * time) for character in text]
    noise = np.random.default_rng(len(text)).standard_normal(4000 * len(text))
    # Untrained layer norms would amplify what rounding makes of silence.
    return 0.5 * np.concatenate(notes) + 0.01 * noise


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A data directory: of one recording and of one more, cut into the others."""
    folder = tmp_path_factory.mktemp("speech")
    soundfile.write(folder / "u1.wav", sing(TEXTS["u1"]), 16000)
    whole, segments = [np.zeros(0)], {"u1": "u1 0 -1"}
    for utterance, text in list(TEXTS.items())[1:]:
        start = len(np.concatenate(whole)) / 16000
        whole.append(sing(text))
        segments[utterance] = f"rest {start} {start + len(text) / 4}"
    soundfile.write(folder / "rest.wav", np.concatenate(whole), 16000)
    recordings = {name: f"{folder / name}.wav" for name in ("u1", "rest")}
    tables = {
        "wav.scp": recordings,
        "segments": segments,
        "text": TEXTS,
        "utt2spk": {utterance: utterance for utterance in TEXTS},
    }
    write(folder, tables)
    return folder


@pytest.fixture(scope="module")
def upstreams(local, tmp_path_factory):
    """A family's model as pre-training leaves it: upstreams(family) -> folder."""
    folder = tmp_path_factory.mktemp("upstreams")

    def get(family):
        if not (folder / family).exists():
            torch.manual_seed(0)
            model = local("pretrain_objectives").make_objective(family, 8).model
            local("pretrain").save_model(model, folder / family)
        return folder / family

    return get


@pytest.fixture(scope="module")
def models(local, speech, upstreams, tmp_path_factory):
    """Three steps of a family's fine-tuning: models(family) -> folder."""
    folder = tmp_path_factory.mktemp("models")

    def get(family):
        if not (folder / family).exists():
            finetune(local, speech, upstreams(family), folder / family)
        return folder / family

    return get


def finetune(local, speech, upstream, folder, *options):
    local("finetune").main(
        ["--upstream", str(upstream), "--data_dir", str(speech)]
        + ["--output_dir", str(folder), *TINY, *options]
    )


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_result_is_a_complete_checkpoint(models, family):
    folder = models(family)
    model, loading = AutoModelForCTC.from_pretrained(folder, output_loading_info=True)
    assert model.config.model_type == family
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.feature_extractor.do_normalize
    inputs = processor(
        sing("aä a"), sampling_rate=16000, text="aä a", return_tensors="pt"
    )
    assert inputs["labels"].tolist() == [[3, 4, 2, 3]]
    assert processor.decode([0, 3, 4, 4, 0, 2, 3]) == "aä a"
    assert model.eval()(inputs["input_values"]).logits.shape == (1, 49, 5)
    assert model.config.pad_token_id == processor.tokenizer.pad_token_id == 0
    assert sorted(path.name for path in folder.parent.glob(f"{family}*")) == [family]


@pytest.mark.parametrize("family", FAMILIES)
def test_upstream_is_the_encoder_without_the_head(models, family):
    folder = models(family)
    frontend = EnsembleFrontend(upstreams=[str(folder)])
    lengths = torch.tensor([16000, 4000])
    speech = torch.zeros(2, 16000)
    for wav, text in zip(speech, ("aä a", "ä")):
        wav[: 4000 * len(text)] = torch.from_numpy(sing(text))
    feats, feats_lens = frontend(speech, lengths)
    assert feats_lens.tolist() == [49, 12]
    bare = AutoModel.from_pretrained(folder).eval()
    extractor = AutoProcessor.from_pretrained(folder).feature_extractor
    for wav, length, ours, frames in zip(speech, lengths, feats, feats_lens):
        inputs = extractor(
            wav[:length].numpy(), sampling_rate=16000, return_tensors="pt"
        )
        with torch.no_grad():
            theirs = bare(inputs["input_values"]).last_hidden_state[0]
        torch.testing.assert_close(ours[:frames], theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_interrupted_training_ends_as_undisturbed(
    local, speech, upstreams, models, tmp_path, monkeypatch, family
):
    module, folder = local("finetune"), tmp_path / family
    save = module.save_checkpoint

    def stop_after_two(path, objective, optimizer, step, rows):
        save(path, objective, optimizer, step, rows)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_checkpoint", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            finetune(local, speech, upstreams(family), folder)
    assert not folder.exists()
    finetune(local, speech, upstreams(family), folder)
    ours, theirs = weights(folder), weights(models(family))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    curves = [
        np.loadtxt(path / "train_log.csv", delimiter=",", skiprows=1)
        for path in (folder, models(family))
    ]
    np.testing.assert_array_equal(curves[0][:, :-1], curves[1][:, :-1])


def test_finished_model_is_left_alone(local, speech, upstreams, models, capsys):
    finetune(local, speech, upstreams("hubert"), models("hubert"), "--num_steps", "9")
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", ["--freeze_feature_encoder", "--no-freeze_feature_encoder"]
)
def test_feature_encoder(local, speech, upstreams, tmp_path, option):
    finetune(local, speech, upstreams("hubert"), tmp_path / "m", option)
    before, after = weights(upstreams("hubert")), weights(tmp_path / "m")
    changed = {
        key for key in before if not torch.equal(before[key], after[f"hubert.{key}"])
    }
    is_conv = {key for key in before if key.startswith("feature_extractor.")}
    assert "encoder.layers.0.attention.q_proj.weight" in changed
    assert bool(changed & is_conv) == (option == "--no-freeze_feature_encoder")


def test_card_tells_the_error_rate(local, speech, upstreams, tmp_path, capsys):
    folder = tmp_path / "m"
    # So low a rate keeps the random head, which writes something.
    options = f"--lr 1e-6 --valid_dir {speech}".split()
    finetune(local, speech, upstreams("hubert"), folder, *options)
    transcribe = pipeline("automatic-speech-recognition", str(folder))
    edits = 0
    for text in TEXTS.values():
        found = transcribe(sing(text).astype(np.float32))["text"]
        assert found
        edits += torchaudio.functional.edit_distance(found, text)
    cer = edits / sum(map(len, TEXTS.values()))
    assert f"{speech}: {cer:.1%} greedy character" in capsys.readouterr().out
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"- Greedy character error rate on `{speech}`: {cer:.1%}\n" in card
    assert f"- Made from: `{upstreams('hubert')}`; " in card
    assert "CTC over 5 symbols; 5% of the frames masked, dropout 0.1\n" in card
    assert "- Speeds: 1.0\n" in card
    assert "`python local/finetune.py --upstream" in card
    assert "| 3 |" in card


def test_loss_goes_down(local, speech, upstreams, tmp_path):
    options = "--num_steps 20 --warmup_steps 5 --log_interval 5".split()
    finetune(local, speech, upstreams("hubert"), tmp_path / "m", *options)
    curve = np.loadtxt(tmp_path / "m/train_log.csv", delimiter=",", skiprows=1)
    assert curve[-1, 1] < 0.5 * curve[0, 1]


def test_text_longer_than_its_frames_adds_nothing(local, upstreams, tmp_path):
    long, short = tmp_path / "long", tmp_path / "short"
    for folder, text in ((long, "a" * 99), (short, "a")):
        folder.mkdir()
        soundfile.write(folder / "u.wav", sing("aä"), 16000)
        tables = {"wav.scp": {"u": f"{folder}/u.wav"}, "text": {"u": text}}
        write(folder, {**tables, "utt2spk": {"u": "u"}})
        finetune(local, folder, upstreams("hubert"), tmp_path / f"{folder.name}_model")
    losses = [
        np.loadtxt(tmp_path / f"{name}_model/train_log.csv", delimiter=",", skiprows=1)
        for name in ("long", "short")
    ]
    assert (losses[0][:, 1] == 0).all() and (losses[1][:, 1] > 0).all()


def test_bfloat16(local, speech, upstreams, models, tmp_path):
    finetune(local, speech, upstreams("wavlm"), tmp_path / "m", "--bfloat16")
    curves = [
        np.loadtxt(folder / "train_log.csv", delimiter=",", skiprows=1)[:, 1]
        for folder in (tmp_path / "m", models("wavlm"))
    ]
    assert (curves[0] != curves[1]).any()
    np.testing.assert_allclose(*curves, rtol=0.05)


def test_batches_keep_to_their_limit(local, speech, models):
    module = local("finetune")
    processor = AutoProcessor.from_pretrained(models("hubert"))
    utterances = module.read_utterances(speech, 16000)
    assert {utt.key: utt.text for utt in utterances} == TEXTS
    for utterance in utterances:
        np.testing.assert_allclose(utterance.samples, sing(utterance.text), atol=1e-4)
    args = module.get_parser().parse_args(
        "--upstream x --output_dir y --batch_seconds 1.25".split()
    )
    batches = module.make_batches(args, processor, utterances)
    keys = [[utt.key for utt in batch] for batch in batches]
    assert keys == [["u5", "u1"], ["u2"], ["u6"], ["u3"], ["u4"]]


def test_errors_name_the_place(local, tmp_path):
    module = local("finetune")
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    tables = {"wav.scp": {"a": f"{tmp_path}/a.wav"}, "text": {"a": "a|b"}}
    write(tmp_path, {**tables, "utt2spk": {"a": "a"}})
    with pytest.raises(ValueError, match="a: .*/a.wav: expected 16000 Hz, found 8000"):
        module.read_utterances(tmp_path, 16000)
    utterances = module.read_utterances(tmp_path, 8000)
    with pytest.raises(
        ValueError, match=r"a: expected a text without '\|', found 'a\|b'"
    ):
        module.make_tokenizer(utterances, tmp_path)
    tables = {"feats.scp": {"a": "a.ark:2"}, "text": {"a": "a"}}
    write(tmp_path, {**tables, "utt2spk": {"a": "a"}})
    with pytest.raises(ValueError, match="wav.scp: expected this file, found none"):
        module.read_utterances(tmp_path, 16000)


def test_upstream_that_lacks_weights_is_refused(local, speech, upstreams, tmp_path):
    upstream = tmp_path / "upstream"
    upstream.mkdir()
    for path in upstreams("hubert").iterdir():
        (upstream / path.name).write_bytes(path.read_bytes())
    kept = weights(upstream)
    del kept["encoder.layer_norm.weight"]
    save_file(kept, upstream / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="random: hubert.encoder.layer_norm.weight"):
        finetune(local, speech, upstream, tmp_path / "m")


def test_script_finetunes_each_family(local):
    recipe = Path(local("finetune").__file__).parents[1]
    result = subprocess.run(
        ["local/finetune_upstreams.sh", "--num_steps", "3"],
        cwd=recipe,
        env={**os.environ, "python": "echo", "output_dir": "out"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split() for line in result.stdout.splitlines()]
    runs = [line for line in lines if line[0] == "local/finetune.py"]
    names = [
        [run[run.index(o) + 1] for o in ("--upstream", "--output_dir")] for run in runs
    ]
    assert names == [
        *([f"upstreams/{family}", f"out/{family}_ctc_first"] for family in ORDER),
        *([f"out/{family}_ctc_first", f"out/{family}_ctc"] for family in ORDER),
    ]
    parser = local("finetune").get_parser()
    assert {parser.parse_args(run[1:]).num_steps for run in runs} == {3}


def test_speeds(local, speech, models):
    """A tone is as much higher as it is shorter."""
    module = local("finetune")
    processor = AutoProcessor.from_pretrained(models("hubert"))
    args = module.get_parser().parse_args(
        "--upstream x --output_dir y --speed_factors 0.8 1 1.25".split()
    )
    utterance = module.Utterance("u", sing("a").astype(np.float32), "a")
    rng, found = np.random.default_rng(0), set()
    for _ in range(20):
        samples = module.perturb_speed(args, utterance, processor, rng).samples
        peak = np.abs(np.fft.rfft(samples)).argmax()
        found.add((len(samples), round(peak * 16000 / len(samples))))
    assert found == {(5000, 240), (4000, 300), (3200, 375)}


def test_speed_of_zero_is_refused(local, capsys):
    with pytest.raises(SystemExit):
        local("finetune").main(
            "--upstream x --output_dir y --speed_factors 0 1".split()
        )
    assert "--speed_factors: expected above 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["finetune", "training"])
def test_examples_in_docstrings(local, name):
    results = doctest.testmod(local(name))
    assert results.attempted and not results.failed
