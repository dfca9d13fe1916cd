import importlib
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espnet_ensemble.feature_cache.identity import FeatureIdentity
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.testing.upstreams import save_huggingface, tiny_huggingface
from espnet_ensemble.upstream import UpstreamConf, UpstreamError, load_upstream
from espnet_ensemble.upstream.s3prl_hub import (
    evaluate_layers,
    hub_entries,
    import_s3prl_nn,
    removed_torchaudio_names,
    safe_loading,
)

NAMES = {
    "wavlm": "wavlm_local",
    "hubert": "hubert_local",
    "wav2vec2": "wav2vec2_custom",
    "wav2vec2_conformer": "wav2vec2_local",
    "data2vec": "data2vec_local",
    "unispeech_sat": "unispeech_sat_local",
}
POSITIONS = "encoder.pos_conv_embed.conv"
CHECKPOINTS = [(f, s) for f in NAMES for s in ("base", "large")]


@pytest.fixture(scope="module")
def s3prl_nn():
    return import_s3prl_nn()


def load(name, layer="last", **conf):
    return load_upstream(UpstreamConf(name, layer, **conf)).eval()


@torch.no_grad()
def assert_equals_s3prl(upstream, reference, wavs, lengths):
    """Compare a padded batch with `S3PRLUpstream` on each utterance alone."""
    states, num_frames = upstream(wavs, lengths)
    assert len(states) == len(upstream.layers)
    for item, length in enumerate(lengths.tolist()):
        expected, frames = reference(
            wavs[item : item + 1, :length], lengths[item : item + 1]
        )
        assert num_frames[item] == frames[0][0]
        for state, index in zip(states, upstream.layers, strict=True):
            ours, theirs = state[item, : num_frames[item]], expected[index][0]
            error = (ours - theirs).norm() / theirs.norm()
            assert error <= 1e-4, error


@pytest.mark.parametrize("layer", ["weighted_sum", "last", 2, 0])
@pytest.mark.parametrize("family,style", CHECKPOINTS)
def test_batch_equals_s3prl_on_each_utterance_alone(
    family, style, layer, s3prl_checkpoints, s3prl_nn, speech
):
    name, path = NAMES[family], s3prl_checkpoints(family, style)
    upstream = load(name, layer, path_or_url=path)
    assert len(upstream.expert.model.encoder.layers) == max(upstream.layers)
    reference = s3prl_nn.S3PRLUpstream(name, path_or_url=path).eval()
    assert_equals_s3prl(upstream, reference, *speech)


@pytest.mark.parametrize("style", ["base", "large"])
@pytest.mark.parametrize("family", ["Wav2Vec2", "Hubert"])
def test_same_weights_through_both_loaders(family, style, models, s3prl_nn, speech):
    # Not the shortest: S3PRL normalizes it together with zeros that it appends.
    wavs, lengths = (x[:4] for x in speech)
    folder = models(family, style, do_normalize=True)
    name = f"hf_{family.lower()}_custom"
    through_s3prl = load(name, [0, 1, 2], path_or_url=folder)
    reference = s3prl_nn.S3PRLUpstream(name, path_or_url=folder).eval()
    assert_equals_s3prl(through_s3prl, reference, wavs, lengths)

    with torch.no_grad():
        theirs, _ = through_s3prl(wavs, lengths)
        ours, num_frames = load(folder, [0, 1, 2])(wavs, lengths)
    for a, b in zip(ours, theirs, strict=True):
        for item, frames in enumerate(num_frames.tolist()):
            torch.testing.assert_close(
                a[item, :frames], b[item, :frames], rtol=1e-4, atol=1e-4
            )


# What weights are called: in S3PRL's files, and in transformers' folders.
SAME_WEIGHTS = (
    (
        r"^encoder\.pos_conv\.0\.weight_g",
        f"{POSITIONS}.parametrizations.weight.original0",
    ),
    (
        r"^encoder\.pos_conv\.0\.weight_v",
        f"{POSITIONS}.parametrizations.weight.original1",
    ),
    (r"^encoder\.pos_conv\.0", POSITIONS),
    (r"^(feature_extractor\.conv_layers\.\d+)\.0", r"\1.conv"),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2(\.1)?", r"\1.layer_norm"),
    (r"^post_extract_proj", "feature_projection.projection"),
    (r"^layer_norm", "feature_projection.layer_norm"),
    (r"^mask_emb", "masked_spec_embed"),
    (r"\.self_attn_layer_norm", ".layer_norm"),
    (r"\.fc1", ".feed_forward.intermediate_dense"),
    (r"\.fc2", ".feed_forward.output_dense"),
    (r"\.self_attn", ".attention"),
    (r"\.relative_attention_bias", ".rel_attn_embed"),
    (r"\.grep_linear", ".gru_rel_pos_linear"),
    (r"\.grep_a", ".gru_rel_pos_const"),
)
# Of pre-training.
HEADS = ("final_proj", "project_q", "label_embs_concat")


def converted(path, family, style):
    """The model of transformers with the weights of S3PRL's file."""
    checkpoint = torch.load(path, weights_only=True)
    weights = {}
    for name, weight in checkpoint.get("model_weight", checkpoint.get("model")).items():
        for theirs, ours in SAME_WEIGHTS:
            name = re.sub(theirs, ours, name)
        if not name.startswith(HEADS):
            weights[name] = weight
    buckets = {"num_buckets": 32, "max_bucket_distance": 1280}  # as that of the file
    model = tiny_huggingface(family, style, **(buckets if family == "WavLM" else {}))
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("style", ["base", "large"])
@pytest.mark.parametrize(
    ("family", "huggingface"),
    [("wavlm", "WavLM"), ("hubert", "Hubert"), ("wav2vec2", "Wav2Vec2")],
)
@torch.no_grad()
def test_s3prl_s_own_file_and_transformers_folder_of_one_model(
    family, huggingface, style, s3prl_checkpoints, speech, tmp_path
):
    """What `table --loader` chooses between: the same features, in caches of their own."""
    # Not the shortest: S3PRL normalizes it together with zeros that it appends.
    wavs, lengths = (x[:4] for x in speech)
    path = s3prl_checkpoints(family, style)
    model = converted(path, huggingface, style)
    save_huggingface(tmp_path / family, model, do_normalize=style == "large")
    native = {"name": NAMES[family], "path_or_url": path}
    confs = [
        FrontendConf.parse({"upstreams": [{**upstream, "layer": [0, 1, 2, 3]}]})
        for upstream in (native, {"name": str(tmp_path / family)})
    ]
    (theirs,), (ours,) = (conf.load_parts()["upstreams"] for conf in confs)
    states, _ = theirs.eval()(wavs, lengths)
    same, num_frames = ours.eval()(wavs, lengths)
    # Where waveforms are normalized, S3PRL adds 1e-5 to the variance, transformers 1e-7.
    tolerance = 1e-5 if style == "base" else 1e-3
    for a, b in zip(states, same, strict=True):
        for item, frames in enumerate(num_frames.tolist()):
            error = a[item, :frames] - b[item, :frames]
            assert error.norm() <= tolerance * b[item, :frames].norm()

    assert theirs.fingerprint != ours.fingerprint
    s3prl, transformers = map(FeatureIdentity.of, (theirs, ours), confs)
    assert s3prl != transformers and s3prl.tag != transformers.tag


@pytest.mark.parametrize("name", ["fbank", "mfcc", "mel"])
def test_other_architectures_run_one_utterance_at_a_time(name, s3prl_nn, speech):
    reference = s3prl_nn.S3PRLUpstream(name).eval()
    assert_equals_s3prl(load(name), reference, *speech)


@pytest.mark.parametrize("length", [1, 300, 799, 1000])
@torch.no_grad()
def test_short_utterance_does_not_depend_on_its_batch(length, s3prl_checkpoints):
    upstream = load("hubert_local", path_or_url=s3prl_checkpoints("hubert"))
    wavs = torch.randn(2, 4000) * 0.1
    wavs[1, length:] = 0
    (feats,), num_frames = upstream(wavs, torch.tensor([4000, length]))
    (alone,), frames_alone = upstream(wavs[1:, :length], torch.tensor([length]))
    assert num_frames[1] == frames_alone[0] == (length - 1) // 320 + 1
    torch.testing.assert_close(
        feats[1, : num_frames[1]], alone[0], rtol=1e-4, atol=1e-4
    )


def test_hub_names_are_s3prl_s(s3prl_nn):
    theirs = set(s3prl_nn.S3PRLUpstream.available_names())
    # One downstream model, and what the hubconf modules import from elsewhere.
    assert theirs - set(hub_entries()) <= {
        "timit_posteriorgram",
        "vq_apc_url",
        "Path",
        "FileLock",
        "load_and_convert_fairseq_ckpt",
    }
    assert set(hub_entries()) - theirs == set()


def test_all_of_the_hub_is_not_imported(s3prl_checkpoints):
    path = s3prl_checkpoints("wavlm")
    code = f"""
import sys
from espnet_ensemble.upstream import UpstreamConf, load_upstream
load_upstream(UpstreamConf("wavlm_local", path_or_url={path!r}))
assert "s3prl.upstream.wavlm.hubconf" in sys.modules
assert "s3prl.hub" not in sys.modules
assert "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_compatibility_step_leaves_torchaudio_as_it_was():
    import torchaudio

    before = set(vars(torchaudio)), "torchaudio.sox_effects" in sys.modules
    with removed_torchaudio_names():
        torchaudio.set_audio_backend("sox_io")
        from torchaudio.sox_effects import apply_effects_tensor
    assert (set(vars(torchaudio)), "torchaudio.sox_effects" in sys.modules) == before
    if not before[1]:
        with pytest.raises(NotImplementedError, match="torchaudio < 2.9"):
            apply_effects_tensor(torch.zeros(1, 1), 16000, [["rate", "8000"]])


def test_compatibility_step_changes_nothing_where_nothing_lacks(monkeypatch):
    import types

    import torchaudio

    def backend(name):
        raise AssertionError("must not be replaced")

    sox_effects = types.ModuleType("torchaudio.sox_effects")
    sox_effects.__spec__ = types.SimpleNamespace()
    monkeypatch.setattr(torchaudio, "set_audio_backend", backend, raising=False)
    monkeypatch.setitem(sys.modules, "torchaudio.sox_effects", sox_effects)
    with removed_torchaudio_names():
        assert torchaudio.set_audio_backend is backend
        assert sys.modules["torchaudio.sox_effects"] is sox_effects
    assert torchaudio.set_audio_backend is backend
    assert sys.modules["torchaudio.sox_effects"] is sox_effects


@torch.no_grad()
def test_hf_names_in_half_precision(models):
    upstream = load("hf_hubert_custom", path_or_url=models("Hubert"))
    wavs, lengths = torch.randn(1, 4000), torch.tensor([4000])
    (exact,), _ = upstream(wavs, lengths)
    (half,), _ = upstream.to(torch.bfloat16)(wavs, lengths)
    assert half.dtype == torch.bfloat16
    assert 0 < (half - exact).norm() / exact.norm() < 0.3


@pytest.mark.parametrize("style", ["base", "large"])
@pytest.mark.parametrize("layer", ["last", 0, 1, 3, "weighted_sum"])
@torch.no_grad()
def test_hf_names_give_the_hidden_states_of_transformers(layer, style, models):
    """S3PRL's last one lies before the final norm, with transformers 5."""
    folder = models("Hubert", style)
    wavs, lengths = torch.randn(1, 4000), torch.tensor([4000])
    theirs, (frames,) = load(folder, layer)(wavs, lengths)
    ours, _ = load("hf_hubert_custom", layer, path_or_url=folder)(wavs, lengths)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a[:, :frames], b)


def test_extra_conf_reaches_s3prl(s3prl_checkpoints):
    path = s3prl_checkpoints("wav2vec2")
    conf = {"feature_selection": "fairseq_layers"}
    upstream = load("wav2vec2_local", 0, path_or_url=path, extra_conf=conf)
    assert upstream.expert.feature_selection == "fairseq_layers"


def test_unknown_name_lists_close_ones():
    with pytest.raises(
        UpstreamError, match=r"unknown upstream 'wavlm_bas'.*wavlm_base"
    ):
        load("wavlm_bas")
    with pytest.raises(UpstreamError, match="microsoft/wavlm-large"):
        load("wavlm-large")


def test_missing_checkpoint():
    with pytest.raises(UpstreamError, match="path_or_url not found: /no/such.pt"):
        load("wavlm_local", path_or_url="/no/such.pt")
    with pytest.raises(UpstreamError, match="'wavlm_local' needs path_or_url"):
        load("wavlm_local")


def test_unreachable_checkpoint_says_what_to_fetch_and_where(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    conf = UpstreamConf("wavlm_base")
    with pytest.raises(UpstreamError) as error:
        load_upstream(conf, download_dir=str(tmp_path))
    assert "converted_ckpts/resolve/main/wavlm_base.pt" in str(error.value)
    assert f"-> {tmp_path}" in str(error.value)


def test_options_of_s3prl_are_refused_for_transformers(models):
    with pytest.raises(UpstreamError, match="path_or_url is for names of S3PRL's hub"):
        load(models("WavLM"), path_or_url="x")


class Hostile:
    """Opens a file for writing where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize(
    "name",
    "apc_local audio_albert_local cpc_local decoar2_local distiller_local "
    "lighthubert_local mockingjay_local npc_local tera_local wav2vec_local "
    "wavlm_local".split(),
)
def test_code_in_a_checkpoint_is_not_run(name, tmp_path):
    witness, path = tmp_path / "witness", tmp_path / "hostile.ckpt"
    with open(path, "wb") as f:
        pickle.dump({"Config": {}, "model": Hostile(witness)}, f)
    with pytest.raises(UpstreamError, match="holds code, which is never run"):
        load_upstream(UpstreamConf(name, path_or_url=str(path)))
    assert not witness.exists()


def one_name_of_each_kind():
    """Of each of S3PRL's packages, a name that takes a file and a published one."""
    kinds = {}
    for name, entry in hub_entries().items():
        ending = name.rpartition("_")[2]
        kind = ending if ending in ("local", "custom", "url") else "published"
        if kind != "url":
            kinds.setdefault((entry.package, kind), name)
    return list(kinds.values())


@pytest.fixture(scope="module")
def hostile_downloads(tmp_path_factory):
    """A folder where all that S3PRL would download holds code -> (folder, witness)."""
    folder = tmp_path_factory.mktemp("downloads")
    witness, local = folder / "witness", folder / "hostile.pt"
    local.write_bytes(pickle.dumps({"Config": {}, "model": Hostile(witness)}))
    with removed_torchaudio_names():
        download = importlib.import_module("s3prl.util.download")
    before = download.get_dir()
    download.set_dir(str(folder))
    for url in {url for entry in hub_entries().values() for url in entry.urls}:
        path = Path(download.urls_to_filepaths(url, download=False))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(local, path)
    yield folder, witness
    download.set_dir(before)


@pytest.mark.slow  # it imports all of S3PRL
@pytest.mark.parametrize("name", one_name_of_each_kind())
def test_no_name_of_the_hub_runs_code(name, hostile_downloads, monkeypatch):
    """Each refuses it, or has no checkpoint at all."""
    folder, witness = hostile_downloads
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    path = None
    if name.endswith(("_local", "_custom")):
        path = str(folder / "hostile.pt")
    if name in ("baseline", "customized_upstream"):
        load_upstream(UpstreamConf(name))
    else:
        with pytest.raises(UpstreamError, match=f"upstream '{name}'"):
            load_upstream(UpstreamConf(name, path_or_url=path), str(folder))
    assert not witness.exists()


def test_an_upstream_that_s3prl_cannot_build_says_why():
    with pytest.raises(UpstreamError, match="'stft_mag': .* argument: 'model_config'"):
        load_upstream(UpstreamConf("stft_mag"))


@pytest.mark.parametrize("family", ["wavlm", "hubert", "wav2vec2", "data2vec"])
def test_code_in_a_configuration_is_not_run(family, s3prl_checkpoints, tmp_path):
    witness, path = tmp_path / "witness", tmp_path / "hostile.pt"
    checkpoint = torch.load(s3prl_checkpoints(family), weights_only=True)
    conf = checkpoint["cfg" if family == "wavlm" else "model_cfg"]
    conf["conv_feature_layers"] = f"[(16,10,5), open({str(witness)!r}, 'w')]"
    torch.save(checkpoint, path)
    with pytest.raises(UpstreamError, match=r"expected lists of numbers.*found .*open"):
        load_upstream(UpstreamConf(NAMES[family], path_or_url=str(path)))
    assert not witness.exists()


@pytest.mark.parametrize(
    "expression",
    ["", "3 ** 3", "[1] * [1]", "[(1, 2)] * 99999", "[x]", "(lambda: 1)()", "[1]; [2]"],
)
def test_expressions_that_are_no_layers(expression):
    with pytest.raises(UpstreamError, match="expected lists of numbers"):
        evaluate_layers(expression)


def test_safe_loading_leaves_torch_as_it_was(monkeypatch):
    for value in (None, "0"):
        if value is not None:
            monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", value)
        with safe_loading():
            assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
        assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == value


def test_damaged_checkpoint_is_named(s3prl_checkpoints, tmp_path):
    content = Path(s3prl_checkpoints("wavlm")).read_bytes()
    path = tmp_path / "damaged.pt"
    for damage in (content[: len(content) // 2], b"version https://git-lfs", b""):
        path.write_bytes(damage)
        with pytest.raises(UpstreamError, match="'wavlm_local': its weights cannot be"):
            load_upstream(UpstreamConf("wavlm_local", path_or_url=str(path)))
