"""Fine-tuning of the quick-start recipe's upstreams with CTC."""

import doctest

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCTC, AutoProcessor, pipeline

from espnet_ensemble.data.datadir import write
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend

FAMILIES = ("hubert", "wav2vec2", "wavlm")
TINY = "--num_steps 3 --batch_seconds 3 --warmup_steps 1".split()
TINY += "--log_interval 1 --save_interval 1".split()


@pytest.fixture(scope="module")
def finetune(local, songs):
    """Run the command: finetune(upstream, folder, option, ..., data_dir=songs)."""

    def call(upstream, folder, *options, data_dir=songs):
        required = f"--upstream {upstream} --data_dir {data_dir} --output_dir {folder}"
        local("finetune").main([*required.split(), *TINY, *options])

    return call


@pytest.fixture(scope="module")
def models(finetune, upstreams, tmp_path_factory):
    """Three steps of a family's fine-tuning: models(family) -> folder."""
    folder = tmp_path_factory.mktemp("models")

    def get(family):
        if not (folder / family).exists():
            finetune(upstreams(family), folder / family)
        return folder / family

    return get


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_result_is_a_complete_checkpoint(models, sing, family):
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
def test_upstream_is_the_encoder_without_the_head(models, sing, family):
    folder = models(family)
    frontend = EnsembleFrontend(upstreams=[str(folder)])
    lengths = torch.tensor([16000, 4000])
    speech = torch.zeros(2, 16000)
    for wav, text in zip(speech, ("aä a", "ä"), strict=True):
        wav[: 4000 * len(text)] = torch.from_numpy(sing(text))
    feats, feats_lens = frontend(speech, lengths)
    assert feats_lens.tolist() == [49, 12]
    bare = AutoModel.from_pretrained(folder).eval()
    extractor = AutoProcessor.from_pretrained(folder).feature_extractor
    for wav, length, ours, frames in zip(
        speech, lengths, feats, feats_lens, strict=True
    ):
        inputs = extractor(
            wav[:length].numpy(), sampling_rate=16000, return_tensors="pt"
        )
        with torch.no_grad():
            theirs = bare(inputs["input_values"]).last_hidden_state[0]
        torch.testing.assert_close(ours[:frames], theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_interrupted_training_ends_as_undisturbed(
    finetune, upstreams, models, interrupt, assert_same_run, tmp_path, family
):
    interrupt(2, lambda: finetune(upstreams(family), tmp_path / family))
    assert not (tmp_path / family).exists()
    finetune(upstreams(family), tmp_path / family)
    assert_same_run(tmp_path / family, models(family))


@pytest.mark.parametrize(
    "option", ["--freeze_feature_encoder", "--no-freeze_feature_encoder"]
)
def test_feature_encoder(finetune, upstreams, tmp_path, option):
    finetune(upstreams("hubert"), tmp_path / "m", option)
    before, after = weights(upstreams("hubert")), weights(tmp_path / "m")
    changed = {
        key for key in before if not torch.equal(before[key], after[f"hubert.{key}"])
    }
    is_conv = {key for key in before if key.startswith("feature_extractor.")}
    assert "encoder.layers.0.attention.q_proj.weight" in changed
    assert bool(changed & is_conv) == (option == "--no-freeze_feature_encoder")


def test_card_tells_the_error_rate(
    finetune, upstreams, songs, sing, texts, tmp_path, capsys
):
    folder = tmp_path / "m"
    # So low a rate keeps the random head, which writes something.
    options = f"--lr 1e-6 --valid_dir {songs}".split()
    finetune(upstreams("hubert"), folder, *options)
    transcribe = pipeline("automatic-speech-recognition", str(folder))
    edits = 0
    for text in texts.values():
        found = transcribe(sing(text).astype(np.float32))["text"]
        assert found
        edits += torchaudio.functional.edit_distance(found, text)
    cer = edits / sum(map(len, texts.values()))
    assert f"{songs}: {cer:.1%} greedy character" in capsys.readouterr().out
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"- Greedy character error rate on `{songs}`: {cer:.1%}\n" in card
    assert f"- Made from: `{upstreams('hubert')}`; " in card
    assert "CTC over 5 symbols; 5% of the frames masked, dropout 0.1\n" in card
    assert "- Speeds: 1.0\n" in card
    assert "`python local/finetune.py --upstream" in card
    assert "| 3 |" in card


def test_loss_goes_down(finetune, upstreams, tmp_path):
    options = "--num_steps 20 --warmup_steps 5 --log_interval 5".split()
    finetune(upstreams("hubert"), tmp_path / "m", *options)
    curve = np.loadtxt(tmp_path / "m/train_log.csv", delimiter=",", skiprows=1)
    assert curve[-1, 1] < 0.5 * curve[0, 1]


def test_text_longer_than_its_frames_adds_nothing(finetune, upstreams, sing, tmp_path):
    long, short = tmp_path / "long", tmp_path / "short"
    for folder, text in ((long, "a" * 99), (short, "a")):
        folder.mkdir()
        soundfile.write(folder / "u.wav", sing("aä"), 16000)
        tables = {"wav.scp": {"u": f"{folder}/u.wav"}, "text": {"u": text}}
        write(folder, {**tables, "utt2spk": {"u": "u"}})
        finetune(
            upstreams("hubert"), tmp_path / f"{folder.name}_model", data_dir=folder
        )
    losses = [
        np.loadtxt(tmp_path / f"{name}_model/train_log.csv", delimiter=",", skiprows=1)
        for name in ("long", "short")
    ]
    assert (losses[0][:, 1] == 0).all() and (losses[1][:, 1] > 0).all()


def test_bfloat16(finetune, upstreams, models, tmp_path):
    finetune(upstreams("wavlm"), tmp_path / "m", "--bfloat16")
    curves = [
        np.loadtxt(folder / "train_log.csv", delimiter=",", skiprows=1)[:, 1]
        for folder in (tmp_path / "m", models("wavlm"))
    ]
    assert (curves[0] != curves[1]).any()
    np.testing.assert_allclose(*curves, rtol=0.05)


def test_upstream_that_lacks_weights_is_refused(finetune, upstreams, tmp_path, capsys):
    upstream = tmp_path / "upstream"
    upstream.mkdir()
    for path in upstreams("hubert").iterdir():
        (upstream / path.name).write_bytes(path.read_bytes())
    kept = weights(upstream)
    del kept["encoder.layer_norm.weight"]
    save_file(kept, upstream / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SystemExit):
        finetune(upstream, tmp_path / "m")
    error = capsys.readouterr().err
    assert "would be random: hubert.encoder.layer_norm.weight" in error


def test_text_with_the_mark_of_a_space_is_refused(local, tmp_path):
    utterance = local("finetune_data").LabelledSpeech("u", np.zeros(1), "a|b")
    with pytest.raises(DataError, match=r"u: expected a text without '\|', found 'a"):
        local("finetune").make_tokenizer([utterance], tmp_path)


def test_speed_of_zero_is_refused(local, capsys):
    with pytest.raises(SystemExit):
        local("finetune").main(
            "--upstream x --output_dir y --speed_factors 0 1".split()
        )
    assert "--speed_factors: expected above 0" in capsys.readouterr().err


def test_examples_in_docstrings(local):
    results = doctest.testmod(local("finetune"))
    assert results.attempted and not results.failed
