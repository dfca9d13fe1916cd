"""MMS: adapters of a language, beside the weights."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForCTC

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2.packed_config import check_packed_upstream
from espnet_ensemble.testing.upstreams import save_huggingface, tiny_huggingface
from espnet_ensemble.upstream import UpstreamConf, UpstreamError, load_upstream


@pytest.fixture(scope="module")
def mms(tmp_path_factory):
    """A checkpoint with adapters of its own, and files of two languages."""
    folder = tmp_path_factory.mktemp("mms")
    model = tiny_huggingface("Wav2Vec2", "large", "ForCTC", adapter_attn_dim=4)
    save_huggingface(folder, model, do_normalize=True)
    for number, language in enumerate(("deu", "fra")):
        torch.manual_seed(number)
        adapters = {
            key: torch.randn(value.shape)
            for key, value in model._get_adapters().items()
        }
        save_file(adapters, folder / f"adapter.{language}.safetensors")
    return str(folder)


def load(name, language):
    conf = None if language is None else {"language": language}
    return load_upstream(UpstreamConf(name, extra_conf=conf))


@torch.no_grad()
def test_features_are_those_of_transformers_with_that_adapter(mms, speech):
    wavs, lengths = speech
    wav = wavs[:1] - wavs[:1].mean()
    wav = wav / (wav.var(correction=0) + 1e-7).sqrt()
    fingerprints = set()
    for language in (None, "deu", "fra"):
        upstream = load(mms, language)
        bare = Wav2Vec2ForCTC.from_pretrained(mms).eval()
        if language:
            bare.load_adapter(language, local_files_only=True, use_safetensors=True)
        expected = bare.wav2vec2(wav).last_hidden_state
        (feats,), _ = upstream(wavs, lengths)
        torch.testing.assert_close(feats[:1], expected, rtol=1e-4, atol=1e-5)
        fingerprints.add(upstream.fingerprint)
    assert len(fingerprints) == 3


def test_what_is_not_there_is_refused(mms, tiny_wav2vec2, tmp_path):
    with pytest.raises(UpstreamError, match="expected adapter.ita.safetensors"):
        load(mms, "ita")
    with pytest.raises(UpstreamError, match="expected a checkpoint with adapters"):
        load(tiny_wav2vec2, "deu")
    with pytest.raises(UpstreamError, match="a name such as deu, found '../x'"):
        load(mms, "../x")
    with pytest.raises(EnsembleError, match="unknown key 'lang'; expected language"):
        load_upstream(UpstreamConf(mms, extra_conf={"lang": "deu"}))


def test_half_an_adapter_is_refused(mms):
    weights = load_file(f"{mms}/adapter.deu.safetensors")
    weights.pop("wav2vec2.encoder.layers.0.adapter_layer.norm.weight", None)
    save_file(dict(list(weights.items())[1:]), f"{mms}/adapter.half.safetensors")
    with pytest.raises(UpstreamError, match="is missing"):
        load(mms, "half")


def test_a_packed_model_may_name_a_language():
    conf = UpstreamConf("facebook/mms-1b-all", extra_conf={"language": "deu"})
    assert list(check_packed_upstream(conf, ())) == []
    conf = UpstreamConf("facebook/mms-1b-all", extra_conf={"language": "../x"})
    assert "expected numbers" in next(check_packed_upstream(conf, ()))
