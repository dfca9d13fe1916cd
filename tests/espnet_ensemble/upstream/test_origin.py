"""Revisions, licences and files of published upstreams; tests of packing have more."""

import shutil

import pytest

from espnet_ensemble.upstream import UpstreamConf, UpstreamError, load_upstream
from espnet_ensemble.upstream.origin import (
    find_licence,
    find_snapshot,
    hub_id,
    local_copy,
)

COMMITS = ("a" * 40, "b" * 40)


@pytest.fixture
def downloads(tmp_path, tiny_wavlm, tiny_hubert):
    """Two revisions of one hub id: main, and another; of other weights."""
    model = tmp_path / "models--someone--tiny"
    for commit, folder in zip(COMMITS, (tiny_wavlm, tiny_hubert), strict=True):
        shutil.copytree(folder, model / "snapshots" / commit)
    (model / "refs").mkdir()
    for name, commit in zip(("main", "v2"), COMMITS, strict=True):
        (model / "refs" / name).write_text(commit)
    return str(tmp_path)


def test_a_revision_is_loaded_and_found(downloads, tiny_wavlm, tiny_hubert):
    for revision, commit, folder in (
        (None, COMMITS[0], tiny_wavlm),
        ("v2", COMMITS[1], tiny_hubert),
        (COMMITS[1], COMMITS[1], tiny_hubert),
    ):
        conf = UpstreamConf("someone/tiny", revision=revision)
        assert find_snapshot(conf, downloads).name == commit
        expected = load_upstream(UpstreamConf(folder)).fingerprint
        assert load_upstream(conf, downloads).fingerprint == expected
        copy = local_copy(conf, downloads)
        assert copy.revision is None
        assert load_upstream(copy).fingerprint == expected


def test_what_is_local_and_names_of_s3prl_have_no_revision(tiny_wavlm):
    for name in (tiny_wavlm, "wavlm_base"):
        with pytest.raises(
            UpstreamError, match="revision 'v2' is for ids of the Hugging"
        ):
            load_upstream(UpstreamConf(name, revision="v2"))


def test_ids_that_s3prl_loads_with_transformers():
    conf = UpstreamConf("hf_hubert_custom", path_or_url="facebook/hubert-base-ls960")
    assert hub_id(conf) == "facebook/hubert-base-ls960"
    url = UpstreamConf("hubert_url", path_or_url="https://example.org/hubert.pt")
    assert hub_id(url) is None and find_licence(url) is None


def test_what_is_not_here(tmp_path):
    conf = UpstreamConf("someone/else")
    assert find_snapshot(conf, str(tmp_path)) is None
    assert find_licence(conf, str(tmp_path)) is None
    for name in ("someone/else", "wavlm_base"):
        with pytest.raises(UpstreamError, match="its files are not on this machine"):
            local_copy(UpstreamConf(name), str(tmp_path))


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\n---\n# A model\n", "mit"),
        ("---\ntags: [x]\n---\n", None),
        ("---\nlicense: [\n---\n", None),
        ("# A model\n\n---\nlicense: mit\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_licence_of_a_card(card, expected, tmp_path):
    (tmp_path / "README.md").write_text(card)
    assert find_licence(UpstreamConf(str(tmp_path))) == expected
