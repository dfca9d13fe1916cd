"""Code from the hub runs where a configuration says so, of the commit that it says."""

import json
import sys

import pytest
import torch
import transformers

from espnet_ensemble import EnsembleConfig, EnsembleModel, FrontendConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.identity import FeatureIdentity
from espnet_ensemble.integrations.espnet2.packed_config import check_packed_upstream
from espnet_ensemble.upstream import UpstreamConf, UpstreamError, load_upstream

COMMIT, OTHER = "a" * 40, "b" * 40
CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel

class OwnConfig(PretrainedConfig):
    model_type = "own"

class OwnModel(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.convs = torch.nn.Conv1d(1, 8, 400, 320, bias=False)
        self.layer = torch.nn.Linear(8, 8)
        self.post_init()

    def forward(self, audio, audio_lens=None):
        first = self.convs(audio.unsqueeze(1) * FACTOR).transpose(1, 2)
        assert audio_lens is None or audio_lens.tolist() == [audio.size(1)]
        # A mean over all frames: what a batch would change.
        second = torch.tanh(self.layer(first)) - first.mean(dim=1, keepdim=True)
        return {"encoder_out": second, "middle": [first, second]}
"""
OPTIONS = {
    "arguments": ["audio", "audio_lens"],
    "last": "encoder_out",
    "states": "middle",
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub's cache with two commits of one repository, and what it calls its folder."""
    modules = tmp_path / "modules"
    for where in ("dynamic_module_utils", "utils.hub"):
        module = sys.modules[f"transformers.{where}"]
        monkeypatch.setattr(module, "HF_MODULES_CACHE", str(modules))
    monkeypatch.setattr(sys, "path", [*sys.path, str(modules)])
    repository = tmp_path / "models--user--own"
    for commit, factor in ((COMMIT, "1"), (OTHER, "2")):
        save(repository / "snapshots" / commit, CODE.replace("FACTOR", factor))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(OTHER)
    yield tmp_path
    for name in [
        name for name in sys.modules if name.startswith("transformers_modules")
    ]:
        del sys.modules[name]


def save(folder, code, auto_map=None):
    folder.mkdir(parents=True)
    names: dict = {}
    exec(code, names)
    torch.manual_seed(0)
    names["OwnModel"](names["OwnConfig"]()).save_pretrained(folder)
    (folder / "own.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    config["auto_map"] = auto_map or classes
    (folder / "config.json").write_text(json.dumps(config))


def conf(revision=COMMIT, name="user/own", **options):
    options = {"trust_remote_code": True, "extra_conf": OPTIONS, **options}
    return UpstreamConf(name, revision=revision, **options)


@torch.no_grad()
def test_the_code_of_the_commit_computes_each_utterance_alone(hub):
    wavs, lengths = 0.1 * torch.randn(2, 8000), torch.tensor([8000, 3000])
    first = load_upstream(conf(layer="weighted_sum"), str(hub))
    states, frames = first(wavs, lengths)
    assert frames.tolist() == [24, 9] and first.hop_length == 320
    bare = first.model(wavs[1:, :3000], lengths[1:])
    for state, expected in zip(states, bare["middle"], strict=True):
        torch.testing.assert_close(state[1, :9], expected[0])
    second = load_upstream(conf(OTHER), str(hub))
    (last,), _ = second(wavs, lengths)
    torch.testing.assert_close(
        last[1, :9], second.model(wavs[1:, :3000])["encoder_out"][0]
    )
    assert not torch.allclose(last[1, :9], states[1][1, :9])
    # Of the same weights: what they compute tells them apart.
    assert first.fingerprint == second.fingerprint
    assert not torch.allclose(load_upstream(conf(), str(hub)).probe(), second.probe())


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12]])
def test_without_a_commit_it_is_refused(hub, revision):
    message = "trust_remote_code: true .* expected revision, the commit .* found"
    with pytest.raises(UpstreamError, match=message):
        load_upstream(conf(revision), str(hub))


def test_by_default_nothing_runs_and_nobody_is_asked(hub, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    names = "trust_remote_code: true and revision, the commit, in frontend_conf"
    with pytest.raises(UpstreamError, match=names):
        load_upstream(UpstreamConf("user/own", revision=COMMIT), str(hub))
    assert not (hub / "modules").exists()


@pytest.mark.parametrize("name", ["wavlm_base", "fbank"])
def test_it_is_for_what_transformers_loads(name):
    with pytest.raises(UpstreamError, match="is for ids of the Hugging Face hub"):
        load_upstream(conf(None, name, extra_conf=None))
    with pytest.raises(UpstreamError, match="expected true or false, found 'yes'"):
        load_upstream(conf(trust_remote_code="yes"))


def test_code_of_another_repository_is_refused(hub):
    folder = hub / "models--user--more" / "snapshots" / COMMIT
    save(
        folder,
        CODE.replace("FACTOR", "1"),
        {"AutoConfig": "own.OwnConfig", "AutoModel": "evil/code--own.OwnModel"},
    )
    with pytest.raises(
        UpstreamError, match="of its own repository, .* 'evil/code--own"
    ):
        load_upstream(conf(name="user/more"), str(hub))


def test_a_model_without_code_needs_no_trust(tiny_wavlm):
    with pytest.raises(UpstreamError, match="needs no trust_remote_code"):
        load_upstream(conf(None, tiny_wavlm, extra_conf=None))


def test_what_it_gives_must_be_named(hub):
    found = r"expected 'last_hidden_state' or .* found \['encoder_out', 'middle'\]"
    with pytest.raises(UpstreamError, match=found):
        load_upstream(conf(extra_conf={"arguments": ["audio"]}), str(hub))
    with pytest.raises(
        EnsembleError, match="unknown key 'laast'; expected fs, arguments"
    ):
        load_upstream(conf(extra_conf={"laast": "x"}), str(hub))


def test_a_folder_with_code_is_loaded(hub):
    folder = hub / "models--user--own" / "snapshots" / COMMIT
    here = load_upstream(conf(None, str(folder)))
    there = load_upstream(conf(), str(hub))
    torch.testing.assert_close(here.probe(), there.probe())


def test_the_cache_says_which_commit(hub):
    frontend = FrontendConf((conf(),), download_dir=str(hub))
    identity, _ = FeatureIdentity.load(frontend)
    assert identity.revision == COMMIT


def test_somebodys_model_does_not_run_code_unless_it_may(hub, tmp_path):
    assert "must not ask for" in next(check_packed_upstream(conf(), ()))
    entry = {
        "name": "user/own",
        "revision": COMMIT,
        "trust_remote_code": True,
        "extra_conf": OPTIONS,
    }
    frontend_conf = {"upstreams": [entry], "download_dir": str(hub)}
    model = EnsembleModel(EnsembleConfig(frontend_conf=frontend_conf))
    model.save_pretrained(tmp_path / "saved")
    auto = transformers.AutoModel
    with pytest.raises(EnsembleError, match="must not ask for; from_pretrained"):
        auto.from_pretrained(tmp_path / "saved", cache_dir=str(hub))
    loaded = auto.from_pretrained(
        tmp_path / "saved", cache_dir=str(hub), trust_remote_code=True
    )
    wavs = torch.randn(1, 4000)
    expected = model(wavs).last_hidden_state
    torch.testing.assert_close(loaded(wavs).last_hidden_state, expected)
