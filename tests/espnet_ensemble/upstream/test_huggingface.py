import json
import pickle
import re
import shutil

import pytest
import torch
import transformers
from huggingface_hub.utils import are_progress_bars_disabled
from transformers import AutoFeatureExtractor, AutoModel

from espnet_ensemble.upstream import UpstreamConf, UpstreamError, load_upstream
from espnet_ensemble.upstream.waveform import zero_mean_unit_var_norm

FAMILIES = [
    ("Wav2Vec2", "base"),
    ("Wav2Vec2", "large"),
    ("Hubert", "base"),
    ("Hubert", "large"),
    ("WavLM", "base"),
    ("WavLM", "large"),
    ("UniSpeech", "base"),
    ("UniSpeechSat", "base"),
    ("UniSpeechSat", "large"),
    ("Data2VecAudio", "base"),
    ("Wav2Vec2Conformer", "large"),
    ("Wav2Vec2Bert", "base"),
]


def load(name, layer="last"):
    return load_upstream(UpstreamConf(name, layer)).eval()


def bare_hidden_states(folder, wav):
    """All hidden states of one utterance, by transformers alone.

    The last is `last_hidden_state`, S3PRL's last, also in transformers versions that end
    `hidden_states` before the final layer norm.
    """
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(
        wav.numpy(), sampling_rate=16000, return_tensors="pt", padding=True
    )
    out = AutoModel.from_pretrained(folder).eval()(**inputs, output_hidden_states=True)
    return [*out.hidden_states[:-1], out.last_hidden_state]


def assert_same(feats, reference):
    error = (feats - reference).norm() / reference.norm()
    assert error <= 1e-4, error


@pytest.mark.parametrize("do_normalize", [False, True])
@pytest.mark.parametrize("family,style", FAMILIES)
@torch.no_grad()
def test_batch_equals_transformers_on_each_utterance_alone(
    family, style, do_normalize, models, speech
):
    wavs, lengths = speech
    folder = models(family, style, do_normalize)
    states, num_frames = load(folder, "weighted_sum")(wavs, lengths)

    for item, length in enumerate(lengths.tolist()):
        if family == "Wav2Vec2Bert" and length < 720:
            continue  # the bare model fails on a single stacked frame
        reference = bare_hidden_states(folder, wavs[item, :length])
        # w2v-BERT's own last stacked frame is half padding, and masked.
        frames = reference[0].size(1)
        if family == "Wav2Vec2Bert":
            frames = (1 + (length - 400) // 160) // 2
        assert num_frames[item] == frames
        assert len(states) == len(reference) == 4
        for state, expected in zip(states, reference, strict=True):
            assert_same(state[item, :frames], expected[0, :frames])


@pytest.mark.parametrize("layer", [0, 1, 2, 3, [2, 0], -2])
@pytest.mark.parametrize("family,style", FAMILIES)
@torch.no_grad()
def test_layers_equal_and_higher_ones_are_dropped(family, style, layer, models, speech):
    wavs, lengths = speech
    folder = models(family, style)
    every, _ = load(folder, "weighted_sum")(wavs, lengths)
    upstream = load(folder, layer)
    states, num_frames = upstream(wavs, lengths)

    wanted = [i % 4 for i in ([layer] if isinstance(layer, int) else layer)]
    assert len(upstream.model.encoder.layers) == max(*wanted, 1)
    for state, index in zip(states, wanted, strict=True):
        for item, frames in enumerate(num_frames.tolist()):
            torch.testing.assert_close(
                state[item, :frames], every[index][item, :frames]
            )


def test_normalization_is_the_feature_extractor_s(speech):
    wavs, lengths = speech
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    normalized = zero_mean_unit_var_norm(wavs, lengths)
    for wav, length, ours in zip(wavs, lengths.tolist(), normalized, strict=True):
        expected = extractor(wav[:length].numpy(), sampling_rate=16000)
        expected = torch.from_numpy(expected["input_values"][0])
        torch.testing.assert_close(ours[:length], expected, rtol=1e-4, atol=1e-5)
        assert not ours[length:].any()


@torch.no_grad()
@pytest.mark.parametrize("family", ["Wav2Vec2", "Wav2Vec2Bert"])
@pytest.mark.parametrize("length", [1, 160, 399, 559])
def test_too_short_utterance_gives_one_frame(family, length, models):
    upstream = load(models(family))
    wavs = torch.randn(2, 4000) * 0.1
    lengths = torch.tensor([4000, length])
    wavs[1, length:] = 0
    (feats,), num_frames = upstream(wavs, lengths)
    (alone,), frames_alone = upstream(wavs[1:, :length], lengths[1:])
    assert num_frames[1] == frames_alone[0] == 1
    assert feats[1, 0].isfinite().all()
    assert_same(feats[1, 0], alone[0, 0])


@pytest.mark.parametrize("family", ["Wav2Vec2", "Hubert", "WavLM"])
@torch.no_grad()
def test_checkpoint_with_ctc_head_loads_without_it(family, tmp_path, speech):
    from espnet_ensemble.testing.upstreams import save_huggingface, tiny_huggingface

    wavs, lengths = speech
    model = tiny_huggingface(family, head="ForCTC", vocab_size=8)
    (feats,), frames = load(save_huggingface(tmp_path / "ctc", model))(wavs, lengths)
    encoder = getattr(model, model.base_model_prefix)
    expected = encoder(wavs[:1]).last_hidden_state
    assert_same(feats[0, : frames[0]], expected[0])


def test_loading_shows_nothing_and_downloads_still_do(tiny_wavlm, capfd):
    load(tiny_wavlm)
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()
    assert not are_progress_bars_disabled()


def test_fingerprint_sees_every_weight_and_not_the_layer(models, tmp_path):
    folder = models("WavLM")
    assert load(folder).fingerprint == load(folder, 1).fingerprint
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.encoder.layers[2].final_layer_norm.bias[3] += 1e-3
    model.save_pretrained(tmp_path)
    shutil.copy(f"{folder}/preprocessor_config.json", tmp_path)
    assert load(str(tmp_path)).fingerprint != load(folder).fingerprint


def test_unreachable_id_says_what_to_fetch():
    with pytest.raises(
        UpstreamError, match="hf download microsoft/no-such --local-dir"
    ):
        load("microsoft/no-such")


@pytest.mark.parametrize("name", ["./no/such", "/no/such", "exp/no/such"])
def test_missing_folder(name):
    with pytest.raises(UpstreamError, match="there is no such folder"):
        load(name)


def test_folder_without_preprocessor_config(models, tmp_path):
    AutoModel.from_pretrained(models("WavLM")).save_pretrained(tmp_path)
    with pytest.raises(UpstreamError, match="preprocessor_config.json"):
        load(str(tmp_path))


def test_checkpoint_that_lacks_weights(models, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(models("WavLM"), tmp_path / "incomplete")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layers.1.attention.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UpstreamError, match=r"layers\.1\.attention\.q_proj\.weight"):
        load(str(folder))


def test_unsupported_family(tmp_path):
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(
        UpstreamError, match="is a 'bert' model; expected one of wav2vec2"
    ):
        load(str(tmp_path))


def test_layer_out_of_range_comes_before_weights(models, tmp_path):
    folder = shutil.copytree(models("WavLM"), tmp_path / "no_weights")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="layer: 4 is out of range"):
        load(str(folder), 4)


def test_code_in_a_downloaded_checkpoint_is_not_run(models, tmp_path):
    import json

    folder = shutil.copytree(models("WavLM"), tmp_path / "hostile")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "hostile.Hostile", "AutoConfig": "hostile.Conf"}
    (folder / "config.json").write_text(json.dumps(config))
    witness = tmp_path / "witness"
    (folder / "hostile.py").write_text(f"open({str(witness)!r}, 'w')")
    load(str(folder))
    assert not witness.exists()

    class Hostile:
        def __reduce__(self):
            return open, (str(witness), "w")

    (folder / "model.safetensors").unlink()
    with open(folder / "pytorch_model.bin", "wb") as f:
        pickle.dump({"encoder": Hostile()}, f)
    with pytest.raises(UpstreamError, match="holds code, which is never run") as error:
        load(str(folder))
    assert not witness.exists()
    assert "weights_only" not in str(error.value)


def test_code_of_an_unknown_family_is_neither_run_nor_asked_for(tmp_path, monkeypatch):
    witness = tmp_path / "witness"
    auto_map = {"AutoConfig": "hostile.Conf", "AutoModel": "hostile.Model"}
    config = {"model_type": "hostile", "auto_map": auto_map}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "hostile.py").write_text(f"open({str(witness)!r}, 'w')")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(UpstreamError, match="code of its own; expected a model of one"):
        load(str(tmp_path))
    assert not witness.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        lambda content: b"",
    ],
    ids=["cut off", "pointer", "empty"],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_weights_are_named(name, damage, models, tmp_path):
    folder = shutil.copytree(models("WavLM"), tmp_path / "damaged")
    if name == "pytorch_model.bin":
        torch.save(AutoModel.from_pretrained(folder).state_dict(), folder / name)
        (folder / "model.safetensors").unlink()
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UpstreamError, match=f"{folder}.*its weights cannot be read"):
        load(str(folder))


@pytest.mark.parametrize("layer", ["last", 1])
@pytest.mark.parametrize("family,style", FAMILIES)
def test_all_that_trains_gets_a_gradient(family, style, layer, models, speech):
    upstream = load(models(family, style), layer).train()
    (states,), _ = upstream(*speech)
    states.square().sum().backward()
    trains = {k: p for k, p in upstream.named_parameters() if p.requires_grad}
    assert [key for key, p in trains.items() if p.grad is None] == []
    fixed = set(dict(upstream.named_parameters())) - set(trains)
    assert all(re.search("masked_spec_embed|conformer|pos_conv", key) for key in fixed)


def test_an_index_of_weights_that_leads_out_of_the_folder(tiny_hubert, tmp_path):
    folder = shutil.copytree(tiny_hubert, tmp_path / "downloaded")
    weights = (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    for name in ("../model.safetensors", str(weights)):
        index.write_text(json.dumps({"weight_map": {"masked_spec_embed": name}}))
        with pytest.raises(UpstreamError, match=f"names of files beside it.*{name}"):
            load_upstream(UpstreamConf(str(folder)))
    for content in ("version https://git-lfs", "[]", "{}"):
        index.write_text(content)
        with pytest.raises(UpstreamError, match="index.json: expected the weight_map"):
            load_upstream(UpstreamConf(str(folder)))
