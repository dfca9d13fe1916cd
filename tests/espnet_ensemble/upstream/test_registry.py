"""What is known of an upstream before anything is loaded."""

import pytest
import torch

from espnet_ensemble.upstream import Upstream, UpstreamError, registry
from espnet_ensemble.upstream.catalogue import CATALOGUE
from espnet_ensemble.upstream.checkpoints import TORCHAUDIO_BUNDLES
from espnet_ensemble.upstream.origin import hub_id, local_copy
from espnet_ensemble.upstream.registry import (
    UpstreamConf,
    check_upstream,
    load_upstream,
    register_upstream,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a model in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "microsoft" / "wavlm-large").mkdir(parents=True)
    return tmp_path


def check(name, download_dir=None, **options):
    check_upstream(UpstreamConf(name, **options), download_dir)


def test_what_may_be_there(folder):
    check("microsoft/wavlm-large")
    check("./microsoft/wavlm-large")
    check("facebook/hubert-base-ls960")
    check("someone/of_the_hub")
    check("hf_wav2vec2_custom", path_or_url="someone/of_the_hub")
    check("wavlm_local", path_or_url="https://host/a.pt")


def test_a_misspelt_folder_is_not_looked_for_on_the_hub(folder, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    message = "there is no such folder. Close names: microsoft/wavlm-large$"
    with pytest.raises(UpstreamError, match=message):
        load_upstream(UpstreamConf("microsoft/wavlm-larg"))


def test_an_id_whose_owner_has_a_folder_here(folder):
    """Published or downloaded models are taken from where they are."""
    check("microsoft/wavlm-base")
    with pytest.raises(
        UpstreamError, match="'microsoft/other': there is no such folder"
    ):
        check("microsoft/other", str(folder / "hub"))
    snapshot = folder / "hub" / "models--microsoft--other" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()
    refs = folder / "hub" / "models--microsoft--other" / "refs"
    refs.mkdir()
    (refs / "main").write_text("1")
    check("microsoft/other", str(folder / "hub"))


@pytest.fixture
def constant(monkeypatch):
    """A registered upstream: a constant, which is given as an option."""
    monkeypatch.setattr(registry, "_registered", {})

    @register_upstream("constant")
    class Constant(Upstream):
        def __init__(self, conf, download_dir):
            super().__init__(conf.name, 16000, 400, 1, (0,), b"\0" * 32)
            self.value = (conf.extra_conf or {}).get("value", 0.0)

        def forward(self, wavs, lengths):
            num_frames = (lengths + 399) // 400
            shape = len(wavs), int(num_frames.max()), 1
            return [torch.full(shape, self.value)], num_frames

    return Constant


def test_a_registered_upstream_is_loaded_by_its_name_with_its_options(constant):
    conf = UpstreamConf("constant", extra_conf={"value": 2.0})
    upstream = load_upstream(conf)
    (feats,), num_frames = upstream(torch.zeros(1, 900), torch.tensor([900]))
    assert feats.tolist() == [[[2.0], [2.0], [2.0]]] and num_frames.tolist() == [3]
    assert (
        conf.local_option is None and hub_id(conf) is None and conf.absolute() == conf
    )
    with pytest.raises(UpstreamError, match="revision 'main' is for ids"):
        check("constant", revision="main")
    with pytest.raises(UpstreamError, match="pack without bundling"):
        local_copy(conf)


def test_an_entry_point_is_imported_when_its_name_is_asked_for(
    constant, tmp_path, monkeypatch
):
    (tmp_path / "registers.py").write_text(
        "from espnet_ensemble.upstream import register_upstream\n"
        "register_upstream('from_a_package')(lambda conf, download_dir: conf)\n"
    )
    metadata = tmp_path / "registers-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: registers\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[{registry.ENTRY_POINTS}]\nfrom_a_package = registers\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert UpstreamConf("from_a_package").is_registered
    assert not UpstreamConf("from_no_package").is_registered


@pytest.mark.parametrize("name", ["constant", "a/b", "wavlm_base"])
def test_a_name_that_is_taken_or_an_id_is_not_registered(name, constant):
    with pytest.raises(UpstreamError, match="register_upstream: expected a new name"):
        register_upstream(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("fbnk", "fbank"),
        ("xeuss", "espnet/xeus"),
        ("whisper-smal", "openai/whisper-small"),
        ("hubert_bas", "hubert_base"),
    ],
)
def test_an_unknown_name_says_what_is_near(name, meant):
    with pytest.raises(UpstreamError, match=f"Close names: .*{meant}"):
        load_upstream(UpstreamConf(name))


def test_a_bundle_of_torchaudio_is_called_by_its_id_on_the_hub():
    from torchaudio import pipelines

    with pytest.raises(UpstreamError, match="torchaudio.* facebook/hubert-large-ll60k"):
        load_upstream(UpstreamConf("HUBERT_LARGE"))
    assert set(TORCHAUDIO_BUNDLES) <= set(pipelines.__all__)
    known = {c.name for c in CATALOGUE} & set(TORCHAUDIO_BUNDLES.values())
    assert {"facebook/wav2vec2-base", "microsoft/wavlm-large"} <= known
