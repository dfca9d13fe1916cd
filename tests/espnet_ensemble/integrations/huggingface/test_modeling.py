"""An ensemble is saved and loaded as any model of transformers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from espnet_ensemble import EnsembleConfig, EnsembleError, EnsembleModel, FrontendConf


@pytest.fixture
def copies(tiny_wavlm, tiny_hubert, tmp_path):
    """Two upstreams that may be removed."""
    found = [tmp_path / "up" / "wavlm", tmp_path / "up" / "hubert"]
    for source, target in zip((tiny_wavlm, tiny_hubert), found, strict=True):
        shutil.copytree(source, target)
    return [str(path) for path in found]


def make(upstreams, **conf):
    torch.manual_seed(0)
    return EnsembleModel(EnsembleConfig(frontend_conf={"upstreams": upstreams, **conf}))


def mask_of(lengths, samples):
    return (torch.arange(samples) < lengths.unsqueeze(1)).long()


@torch.no_grad()
def test_what_is_loaded_computes_what_was_saved_on_another_machine(
    copies, tmp_path, speech
):
    wavs, lengths = speech
    layers = [{"name": copies[0], "layer": "weighted_sum"}, copies[1]]
    model = make(layers, fusion="projection", fusion_conf={"proj_dim": 12})
    model.ensemble.layers[0].weights += torch.arange(4.0)
    mask = mask_of(lengths, wavs.size(1))
    expected = model(wavs, mask)
    model.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "up")
    moved = shutil.move(tmp_path / "saved", tmp_path / "moved")
    found = AutoModel.from_pretrained(moved)(wavs, mask)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    assert torch.equal(found.attention_mask, expected.attention_mask)
    config = AutoConfig.from_pretrained(moved)
    assert (config.hidden_size, config.sampling_rate) == (24, 16000)
    names = [entry["name"] for entry in config.frontend_conf["upstreams"]]
    assert names == ["upstreams/wavlm", "upstreams/hubert"]


@torch.no_grad()
def test_features_are_those_of_the_ensemble(tiny_wavlm, tiny_hubert, speech):
    conf = {"upstreams": [tiny_wavlm, tiny_hubert]}
    wavs, lengths = speech
    expected, frames = FrontendConf.parse(conf).build()(wavs, lengths)
    output = make(**conf)(wavs, mask_of(lengths, wavs.size(1)))
    assert torch.equal(output.last_hidden_state, expected)
    assert torch.equal(output.attention_mask.sum(dim=1), frames)
    alone = make(**conf)(wavs[:1]).last_hidden_state
    torch.testing.assert_close(alone[0], expected[0])


@torch.no_grad()
def test_trained_upstreams_are_in_the_weights(copies, tmp_path, speech):
    wavs, _ = speech
    model = make(copies[:1], frozen=False)
    bare = transformers.WavLMModel.from_pretrained(copies[0]).eval()
    expected = bare(wavs[:1]).last_hidden_state
    torch.testing.assert_close(model(wavs[:1]).last_hidden_state, expected)
    for parameter in model.parameters():
        parameter.mul_(1.01)
    expected = model(wavs).last_hidden_state
    model.save_pretrained(tmp_path / "saved")
    found = AutoModel.from_pretrained(tmp_path / "saved")
    assert torch.equal(found(wavs).last_hidden_state, expected)


def test_saving_over_itself_changes_nothing(copies, tmp_path):
    make(copies).save_pretrained(tmp_path / "saved")
    files = {p: p.read_bytes() for p in (tmp_path / "saved").rglob("*") if p.is_file()}
    AutoModel.from_pretrained(tmp_path / "saved").save_pretrained(tmp_path / "saved")
    assert {p: p.read_bytes() for p in files} == files
    assert len(list((tmp_path / "saved").rglob("*"))) == len(files) + 3


def test_the_card_names_upstreams_and_its_snippet_loads_the_model(
    copies, tmp_path, monkeypatch
):
    licence = "---\nlicense: mit\n---\nA model.\n"
    Path(copies[0], "README.md").write_text(licence)
    model = make([*copies, "fbank"], normalize="layer_norm", fusion="sum")
    model.save_pretrained(tmp_path / "saved")
    text = (tmp_path / "saved" / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["library_name"] == "transformers" and "base_model" not in head
    assert (
        "3 frozen self-supervised upstreams (fusion: sum, normalisation: layer_" in text
    )
    rows = [row.split("|")[1:-1] for row in text.splitlines() if row.startswith("|")]
    name, layer, _, stated, fingerprint, included = (cell.strip() for cell in rows[2])
    assert (name, layer) == ("wavlm (made for this model)", "last")
    assert (stated, included) == ("mit", "upstreams/wavlm")
    assert model.ensemble.upstreams[0].fingerprint.hex().startswith(fingerprint)
    assert rows[4][0].strip() == "fbank"
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(text.split("```python\n")[1].split("```")[0], found)
    assert found["features"].shape[::2] == (2, model.output_dim)

    (tmp_path / "saved" / "README.md").write_text("Mine.")
    model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "README.md").read_text() == "Mine."


def test_the_extractor_pads_what_the_model_takes(copies, tmp_path):
    make(copies, fs=8000).save_pretrained(tmp_path / "saved")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "saved")
    wavs = [torch.rand(8000).numpy(), torch.rand(4000).numpy()]
    inputs = extractor(wavs, sampling_rate=8000, padding=True, return_tensors="pt")
    model = AutoModel.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16)
    output = model(**inputs)
    assert output.attention_mask.sum(dim=1).tolist() == [49, 24]
    assert output.last_hidden_state.dtype == model.dtype == torch.bfloat16
    assert (model.sampling_rate, model.hop_size_in_ms) == (8000, 20)


def test_other_weights_of_an_upstream_are_refused(copies, tmp_path):
    make(copies).save_pretrained(tmp_path / "saved")
    other = transformers.HubertModel.from_pretrained(copies[1])
    other.encoder.layers[0].final_layer_norm.bias.data += 1
    other.save_pretrained(tmp_path / "saved" / "upstreams" / "hubert")
    with pytest.raises(EnsembleError, match="'.*/hubert' has other weights"):
        AutoModel.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("name", ["../up/wavlm", "upstreams/x", "/etc/wavlm"])
def test_a_folder_that_leads_elsewhere_is_refused(copies, tmp_path, name):
    make(copies).save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    content = json.loads(path.read_text())
    content["frontend_conf"]["upstreams"][0]["name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(EnsembleError):
        AutoModel.from_pretrained(tmp_path / "saved")


def test_a_published_upstream_is_named_by_its_commit(tmp_path, tiny_wavlm):
    commit = "c" * 40
    snapshot = tmp_path / "models--user--wavlm" / "snapshots" / commit
    shutil.copytree(tiny_wavlm, snapshot)
    refs = tmp_path / "models--user--wavlm" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    model = make(["user/wavlm"], download_dir=str(tmp_path))
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())[
        "frontend_conf"
    ] == {"upstreams": [{"name": "user/wavlm", "revision": commit}]}
    assert not (tmp_path / "saved" / "upstreams").exists()
    loaded = AutoModel.from_pretrained(tmp_path / "saved", cache_dir=str(tmp_path))
    assert loaded.ensemble.upstreams[0].fingerprint == (
        model.ensemble.upstreams[0].fingerprint
    )


def test_what_cannot_be_is_refused(tiny_wavlm, tmp_path, speech):
    model, wavs = make([tiny_wavlm]), speech[0]
    for mask in (torch.ones(5, 10), torch.arange(8000).expand(5, -1) > 3):
        with pytest.raises(ValueError, match=r"\(batch, samples\)|at the end alone"):
            model(wavs, mask)
    with pytest.raises(EnsembleError, match="hf upload"):
        model.save_pretrained(tmp_path, push_to_hub=True)
    model.save_pretrained(tmp_path)
    with pytest.raises(EnsembleError, match="device_map: not an option"):
        AutoModel.from_pretrained(tmp_path, device_map="auto")
    Path(tmp_path, "model.safetensors").unlink()
    with pytest.raises(EnsembleError, match="model.safetensors: expected the weights"):
        AutoModel.from_pretrained(tmp_path)


def test_inside_a_model_that_transformers_loads(tiny_wavlm, tmp_path, speech):
    if int(transformers.__version__.split(".")[0]) < 5:
        pytest.skip("transformers 4 lets no model be loaded inside another")
    make([tiny_wavlm]).save_pretrained(tmp_path / "encoder")

    class SpeechConfig(transformers.PretrainedConfig):
        model_type = "test_speech"
        encoder = None

    class SpeechModel(transformers.PreTrainedModel):
        config_class = SpeechConfig

        def __init__(self, config):
            super().__init__(config)
            self.encoder = AutoModel.from_pretrained(config.encoder)
            self.head = torch.nn.Linear(self.encoder.output_dim, 2)
            self.post_init()

    model = SpeechModel(SpeechConfig(encoder=str(tmp_path / "encoder"))).eval()
    model.save_pretrained(tmp_path / "speech")
    again = SpeechModel.from_pretrained(tmp_path / "speech")
    wavs, _ = speech
    expected = model.head(model.encoder(wavs).last_hidden_state)
    assert torch.equal(again.head(again.encoder(wavs).last_hidden_state), expected)
