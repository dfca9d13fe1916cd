"""Configurations with ESPnet's own frontends, in terms of `ensemble`."""

import json
from pathlib import Path

import pytest

from espnet_ensemble import EnsembleError
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2.stock_frontends import translate

FROZEN = ["frontend.upstream"]


def s3prl(upstream="wavlm_large", freeze_param=FROZEN, inner=None, **options):
    """As most recipes of ESPnet have it."""
    conf = {"frontend_conf": {"upstream": upstream, **(inner or {})}, **options}
    return {"frontend": "s3prl", "frontend_conf": conf, "freeze_param": freeze_param}


def fused(*parts, **options):
    frontends = [
        {
            "frontend_type": "s3prl",
            "frontend_conf": {"upstream": "wavlm_large"},
            "download_dir": "./hub",
            "multilayer_feature": False,
            **part,
        }
        for part in parts or [{}]
    ]
    return {"frontend": "fused", "frontend_conf": {"frontends": frontends, **options}}


@pytest.fixture
def huggingface(tiny_hubert):
    conf = {"model": tiny_hubert, "fs": "16k"}
    return {"frontend": "huggingface", "frontend_conf": conf}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (s3prl(), {"upstreams": ["wavlm_large"]}),
        (
            s3prl(multilayer_feature=True, download_dir="./hub", fs="16k", layer=-1),
            {
                "upstreams": [{"name": "wavlm_large", "layer": "weighted_sum"}],
                "download_dir": "./hub",
            },
        ),
        (s3prl(layer=21), {"upstreams": [{"name": "wavlm_large", "layer": 21}]}),
        (s3prl(layer=-2), {"upstreams": [{"name": "wavlm_large", "layer": -2}]}),
        (
            s3prl(inner={"normalize": True, "extra_conf": {"refresh": False}}),
            {
                "upstreams": [
                    {"name": "wavlm_large", "extra_conf": {"refresh": False}}
                ],
                "normalize": "layer_norm",
            },
        ),
        (
            s3prl("hubert_url", inner={"path_or_url": "https://x.org/hubert.pt"}),
            {
                "upstreams": [
                    {"name": "hubert_url", "path_or_url": "https://x.org/hubert.pt"}
                ]
            },
        ),
        (s3prl(freeze_param=[]), {"upstreams": ["wavlm_large"], "frozen": False}),
        (s3prl(freeze_param=["encoder", "frontend"]), {"upstreams": ["wavlm_large"]}),
        # As the recipes of enhancement and recognition have it.
        (
            s3prl(freeze_param=["s2t_model.frontend.upstream"]),
            {"upstreams": ["wavlm_large"]},
        ),
        # With a layer of its own, ESPnet does not tile.
        (
            s3prl(inner={"tile_factor": 2}, layer=3),
            {"upstreams": [{"name": "wavlm_large", "layer": 3}]},
        ),
        (
            fused({"multilayer_feature": True}, {}, proj_dim=80),
            {
                "upstreams": [
                    {"name": "wavlm_large", "layer": "weighted_sum"},
                    "wavlm_large",
                ],
                "fusion": "projection",
                "fusion_conf": {"proj_dim": 80, "learned_upsampling": True},
                "download_dir": "./hub",
            },
        ),
        (
            fused({"frontend_conf": {"upstream": "hubert_base", "normalize": True}}),
            {
                "upstreams": ["hubert_base"],
                "fusion": "projection",
                "fusion_conf": {"proj_dim": 100, "learned_upsampling": True},
                "normalize": "layer_norm",
                "download_dir": "./hub",
            },
        ),
    ],
)
def test_frontend_conf(config, expected):
    found = translate({**config, "encoder": "conformer"}).config
    assert found["frontend"] == "ensemble" and found["encoder"] == "conformer"
    assert found["frontend_conf"] == expected
    assert FrontendConf.parse(found["frontend_conf"])


@pytest.mark.parametrize("freeze", [[], ["frontend.encoder"]])
def test_huggingface(huggingface, freeze, tiny_hubert):
    found = translate({**huggingface, "freeze_param": freeze})
    expected = {"upstreams": [tiny_hubert], **({} if freeze else {"frozen": False})}
    assert found.config["frontend_conf"] == expected
    assert found.config["freeze_param"] == []
    assert found.rename("encoder.layers.0") == (
        None if freeze else "upstreams.0.model.layers.0"
    )


def test_a_folder_by_its_name_alone_stays_one(huggingface, tiny_hubert, monkeypatch):
    """A name without a slash would be S3PRL's."""
    monkeypatch.chdir(Path(tiny_hubert).parent)
    huggingface["frontend_conf"]["model"] = Path(tiny_hubert).name
    (name,) = translate(huggingface).config["frontend_conf"]["upstreams"]
    assert name == f"./{Path(tiny_hubert).name}"


@pytest.mark.parametrize(
    ("config", "freeze", "expected"),
    [
        (s3prl(), ["encoder", *FROZEN, "decoder"], ["encoder", "decoder"]),
        (s3prl(), ["frontend"], ["frontend"]),
        (
            s3prl(multilayer_feature=True),
            [*FROZEN, "frontend.featurizer"],
            ["frontend.layers.0"],
        ),
        (
            s3prl(),
            ["frontend.upstream.upstream.model.feature_extractor"],
            ["frontend.upstreams.0.expert.model.feature_extractor"],
        ),
        (
            s3prl("hf_hubert_custom", inner={"path_or_url": "up/hubert"}),
            ["s2t_model.frontend.upstream.upstream.model.feature_extractor"],
            ["s2t_model.frontend.upstreams.0.encoder.model.feature_extractor"],
        ),
        (fused(), ["frontend.frontends", "frontend.projection_layers.0"], None),
        # The weights over layers get no gradients in `fused`.
        (fused({}, {"multilayer_feature": True}), [], ["frontend.layers"]),
    ],
)
def test_freeze_param_names_the_same_weights(config, freeze, expected):
    expected = ["frontend.fusion.projections.0"] if expected is None else expected
    found = translate({**config, "freeze_param": freeze})
    assert found.config["freeze_param"] == expected
    assert not any("froze none" in remark for remark in found.remarks)


def test_freeze_param_of_no_weight_is_told():
    entry = "frontend.upstream.model.feature_extractor"  # as in a recipe of ESPnet
    found = translate(s3prl(freeze_param=[entry]))
    assert found.config["freeze_param"] == []
    assert f"freeze_param: {entry}: left out: no weight" in found.remarks[-1]


def test_where_there_was_no_freeze_param_there_is_none():
    config = s3prl()
    del config["freeze_param"]
    assert "freeze_param" not in translate(config).config


def test_remarks():
    found = translate({**s3prl(), "normalize": "global_mvn"}).remarks
    assert [remark.split(":")[0] for remark in found] == [
        "padding",
        "frozen",
        "checkpoints",
        "normalize",
    ]
    found = translate(s3prl(freeze_param=None)).remarks
    assert [remark.split(":")[0] for remark in found] == ["frozen", "padding"]
    assert found[0].startswith("frozen: false")
    found = translate(fused({"multilayer_feature": True, "layer": 3})).remarks
    assert [remark.split(":")[0] for remark in found] == [
        "lengths",
        "frontends[0]",
        "freeze_param",
        "padding",
        "frozen",
        "checkpoints",
    ]
    assert found[1] == "frontends[0]: layer: left out, as fused does not look at it"


@pytest.mark.parametrize(
    ("init_param", "is_told"),
    [
        ("exp/asr/valid.acc.best.pth", True),
        ("exp/asr/valid.acc.best.pth:frontend:s2t_model.frontend", True),
        ("exp/asr/valid.acc.best.pth:encoder", False),
    ],
)
def test_weights_of_a_stock_frontend_in_init_param(init_param, is_told):
    found = translate({**s3prl(), "init_param": [init_param]}).remarks
    assert any(f"init_param: {init_param} has" in remark for remark in found) is is_told


def test_what_is_not_here_is_told(tmp_path):
    path = str(tmp_path / "nothing.pt")
    found = translate(s3prl("wavlm_local", inner={"path_or_url": path})).remarks
    assert f"path_or_url not found: {path}" in found[-1]
    found = translate(s3prl("hf_hubert_custom", inner={"path_or_url": path})).remarks
    assert "hf_hubert_custom: of models that have a norm after" in found[-2]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"frontend": "default"},
            "expected s3prl, fused, huggingface, found 'default'",
        ),
        ({}, "expected s3prl, fused, huggingface, found None"),
        ({**s3prl(), "use_adapter": True}, "use_adapter: expected false"),
        (s3prl("wavlm_lage"), "expected a name of S3PRL's hub, found 'wavlm_lage'"),
        (s3prl(fs="8k"), "fs: expected 16k, found 8k"),
        (s3prl(tile=2), "frontend_conf: unknown key 'tile'"),
        (s3prl(inner={"tile_factor": 2}), "tile_factor: expected 1, found 2"),
        (s3prl(layer=3, multilayer_feature=True), "layer: expected -1, found 3"),
        (fused({"frontend_type": "default"}), "[0]: frontend_type: expected s3prl"),
        (fused(align_method="sum"), "align_method: expected linear_projection"),
        (fused({}, {"download_dir": "elsewhere"}), "expected one normalize, and one"),
        (fused(fs=8000), "fs: expected 16k, found 8000"),
        (
            {"frontend": "huggingface", "frontend_conf": {"model": "a/b/c"}},
            "upstream 'a/b/c'",
        ),
        (
            {
                "frontend": "huggingface",
                "frontend_conf": {"model": "a/b", "load_pretrained": False},
            },
            "load_pretrained: expected true, found false",
        ),
    ],
)
def test_refused(config, message):
    with pytest.raises(EnsembleError) as error:
        translate(config)
    assert message in str(error.value)


def test_an_adapter_is_refused(huggingface, tiny_hubert, tmp_path):
    config = json.loads(Path(tiny_hubert, "config.json").read_text())
    text = json.dumps({**config, "model_type": "wav2vec2", "add_adapter": True})
    (tmp_path / "config.json").write_text(text)
    huggingface["frontend_conf"]["model"] = str(tmp_path)
    with pytest.raises(EnsembleError, match="add_adapter: expected false, found true"):
        translate(huggingface)


def test_weights_are_those_of_the_stock_frontend():
    found = translate(s3prl(multilayer_feature=True))
    assert found.rename("featurizer.weights") == "layers.0.weights"
    assert found.rename("upstream.upstream.model.mask_emb") is None
    with pytest.raises(
        EnsembleError, match="frontend.logmel.melmat: expected a weight"
    ):
        found.rename("logmel.melmat")
