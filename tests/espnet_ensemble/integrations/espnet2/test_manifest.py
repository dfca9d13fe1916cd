import pytest

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import write_yaml
from espnet_ensemble.integrations.espnet2.manifest import (
    MANIFEST,
    Manifest,
    PackedUpstream,
)

UPSTREAM = PackedUpstream("microsoft/wavlm-large", bundled=False, licence="mit")
CONTENT = Manifest(16000, (UPSTREAM,), "conf/decode.yaml").to_dict()


def test_what_is_written_is_read(tmp_path):
    write_yaml(tmp_path / MANIFEST, CONTENT)
    assert Manifest.read(tmp_path) == Manifest(16000, (UPSTREAM,), "conf/decode.yaml")


def test_an_experiment_has_none(tmp_path):
    assert Manifest.read(tmp_path) is None


def test_a_later_format_says_which_version_reads_it():
    later = {"format": 2, "versions": {"espnet-ensemble": "9.1"}, "more": 1}
    with pytest.raises(
        EnsembleError,
        match=r"expected format 1, .* found 2, written by espnet-ensemble 9\.1; install t",
    ):
        Manifest.parse(later, "ensemble.yaml")


@pytest.mark.parametrize(
    "change",
    [
        {"format": None},
        {"more": 1},
        {"fs": "16k"},
        {"upstreams": None},
        {"upstreams": ["a/b"]},
        {"upstreams": [{"name": "a/b"}]},
        {"upstreams": [{**CONTENT["upstreams"][0], "licence": ["mit"]}]},
    ],
)
def test_something_else_is_refused(change):
    with pytest.raises(EnsembleError, match=r"^x\.yaml: "):
        Manifest.parse({**CONTENT, **change}, "x.yaml")
