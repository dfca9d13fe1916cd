"""What is known of an upstream before anything is loaded."""

import pytest

from espnet_ensemble.upstream import UpstreamError
from espnet_ensemble.upstream.registry import (
    UpstreamConf,
    check_upstream,
    load_upstream,
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
