import os

import pytest
import torch
import yaml

from espnet_ensemble import EnsembleError, FrontendConf, UpstreamConf


def parse(*upstreams, **conf):
    return FrontendConf.parse({"upstreams": list(upstreams), **conf})


def test_defaults():
    conf = parse("wavlm_base")
    assert conf == FrontendConf((UpstreamConf("wavlm_base"),))
    assert (conf.fusion, conf.fs, conf.frozen) == ("concat", 16000, True)
    assert (conf.dtype, conf.download_dir) == ("float32", None)


def test_plain_values_survive_yaml_and_parsing():
    entry = {"name": "wavlm_local", "path_or_url": "a.pt", "layer": [1, 2]}
    conf = parse(
        "hubert_base", entry, fusion="sum", fusion_conf={"proj_dim": 8}, fs="8k"
    )
    written = yaml.safe_dump(conf.to_dict())
    assert FrontendConf.parse(yaml.safe_load(written)) == conf


@pytest.mark.parametrize(
    ("fs", "expected"), [(8000, 8000), ("16k", 16000), ("44.1k", 44100)]
)
def test_sample_rate(fs, expected):
    assert parse("wavlm_base", fs=fs).fs == expected


def test_a_member_keeps_all_but_what_becomes_of_its_features():
    changed = {"fusion": "sum", "normalize": "utterance", "feature_mask": {}}
    changed["member_dropout"] = 0.3
    kept = {"fs": 8000, "dtype": "float16", "download_dir": "x"}
    conf = parse("a/b", "c/d", **changed, **kept)
    members = conf.members()
    assert [m.upstreams for m in members] == [(u,) for u in conf.upstreams]
    for member in members:
        assert (member.fusion, member.fusion_conf) == ("concat", {})
        assert (member.normalize, member.feature_mask) == ("none", None)
        assert member.member_dropout == 0
        assert (member.fs, member.dtype, member.download_dir) == (8000, "float16", "x")


def test_local_names_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder")
    local = {"name": "wavlm_local", "path_or_url": "wavlm.pt"}
    conf = parse("wavlm_base", "microsoft/wavlm-base", "folder", "./other", local)
    absolute = conf.absolute().upstreams
    assert absolute[:2] == conf.upstreams[:2]
    assert [u.name for u in absolute[2:4]] == [
        f"{tmp_path}/folder",
        f"{tmp_path}/other",
    ]
    assert absolute[4].path_or_url == f"{tmp_path}/wavlm.pt"


@pytest.mark.parametrize(
    ("conf", "tag"),
    [
        ({"upstreams": ["wavlm_base", "up/hubert/"]}, "wavlm_base_hubert"),
        ({"upstreams": [{"name": "a/b", "layer": [3, 4]}]}, "b-layer3-4"),
        (
            {"upstreams": [{"name": "a/b", "layer": "weighted_sum"}]},
            "b-layerweighted_sum",
        ),
        (
            {"upstreams": [{"name": "hubert_local", "path_or_url": "x/y.pt"}]},
            "hubert_local-y",
        ),
        ({"upstreams": ["a/b", "c/d"], "fusion": "attention"}, "b_d_attention"),
        ({"upstreams": ["a/b"], "normalize": "layer_norm"}, "b_norm-layer-norm"),
        ({"upstreams": ["a/b"], "frozen": False}, "b_trainable"),
    ],
)
def test_tag(conf, tag):
    assert FrontendConf.parse(conf).tag == tag


@torch.no_grad()
def test_ensemble_is_as_configured(tiny_wavlm, tiny_hubert):
    upstreams = [{"name": tiny_wavlm, "layer": [1, 2]}, tiny_hubert]
    options = {"fusion": "projection", "fusion_conf": {"proj_dim": 5}, "fs": 8000}
    ensemble = parse(*upstreams, **options).build()
    assert ensemble.output_size() == 10
    assert ensemble.feature_sizes == [[32, 32], [32]]
    assert (ensemble.fs, ensemble.hop_length) == (8000, 160)
    assert [u.name for u in ensemble.upstreams] == [tiny_wavlm, tiny_hubert]


@pytest.mark.parametrize("upstreams", [[], None, "wavlm_base", {"name": "wavlm_base"}])
def test_fewer_than_one_upstream(upstreams):
    with pytest.raises(EnsembleError, match="upstreams: expected .*at least one"):
        FrontendConf.parse({"upstreams": upstreams})


@pytest.mark.parametrize("entry", [None, 3, {}, {"layer": 3}, {"name": 3}])
def test_upstream_without_name(entry):
    with pytest.raises(EnsembleError, match="expected a name, or a mapping with name"):
        parse(entry)


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"upstreams": [{"name": "a/b", "layers": [1]}]}, "unknown key 'layers'"),
        (
            {"upstreams": ["a/b"], "fusoin": "sum"},
            "frontend_conf: unknown key 'fusoin'",
        ),
        ({}, "frontend_conf: missing key 'upstreams'"),
        ({"upstreams": ["a/b"], "dtype": "int8"}, "dtype: expected float32.*'int8'"),
        (
            {"upstreams": ["a/b"], "dtype": "bfloat16", "frozen": False},
            "dtype: bfloat16 .*use_amp",
        ),
        ({"upstreams": ["a/b"], "fs": 0}, "fs: expected a sample rate in Hz, found 0"),
        (
            {"upstreams": ["a/b"], "feature_mask": {"width": 3}},
            "feature_mask: unknown key 'width'",
        ),
        ({"upstreams": ["a/b"], "fs": "often"}, "fs: .*often"),
    ],
)
def test_wrong_options(conf, message):
    with pytest.raises(EnsembleError, match=message):
        FrontendConf.parse(conf)


def test_members_are_found_by_name():
    layers = [{"name": "up/wavlm", "layer": 8}, "up/wavlm"]
    conf = parse("up/wavlm", "facebook/hubert-base", *layers)
    names = ["wavlm", "hubert-base", "wavlm-layer8", "wavlm-2"]
    assert conf.member_names == names
    assert conf.find_members([names[3], names[1], names[1]]) == [1, 3]
    with pytest.raises(
        EnsembleError, match="members: expected some of wavlm, hubert-base.* 'hubert'"
    ):
        conf.find_members(["wavlm", "hubert"])
    with pytest.raises(EnsembleError, match="found none"):
        conf.find_members([])
