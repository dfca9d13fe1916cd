import pytest
import torch
from espnet2.torch_utils.initialize import initialize

from espnet_ensemble import EnsembleError, EnsembleFrontend
from espnet_ensemble.fusion import FUSIONS
from espnet_ensemble.normalization import NORMALIZATIONS
from espnet_ensemble.upstream.s3prl_hub import import_s3prl_nn

INITS = (
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
    "normal",
)


@pytest.fixture
def pair(tiny_wavlm, tiny_hubert):
    return [tiny_wavlm, tiny_hubert]


class Model(torch.nn.Module):
    """What ESPnet makes of a frontend, as far as saving and initializing goes."""

    def __init__(self, frontend):
        super().__init__()
        self.frontend = frontend
        self.linear = torch.nn.Linear(frontend.output_size(), 3)


@torch.no_grad()
def test_equals_espnet_s3prl_frontend_on_one_utterance(s3prl_checkpoints):
    from espnet2.asr.frontend.s3prl import S3prlFrontend

    import_s3prl_nn()
    path = s3prl_checkpoints("wavlm", "large")
    theirs = S3prlFrontend(
        frontend_conf={"upstream": "wavlm_local", "path_or_url": path}
    ).eval()
    ours = EnsembleFrontend([{"name": "wavlm_local", "path_or_url": path}])
    wavs, lengths = torch.randn(1, 4000), torch.tensor([4000])
    for a, b in zip(ours(wavs, lengths), theirs(wavs, lengths), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_equals_espnet_fused_on_utterances_of_one_length(s3prl_checkpoints):
    from espnet2.asr.frontend.fused import FusedFrontends

    import_s3prl_nn()
    paths = [s3prl_checkpoints(f, "base") for f in ("wavlm", "hubert")]
    names = ["wavlm_local", "hubert_local"]
    theirs = FusedFrontends(
        [
            dict(
                frontend_type="s3prl",
                frontend_conf=dict(upstream=name, path_or_url=path),
                download_dir=None,
                multilayer_feature=False,
            )
            for name, path in zip(names, paths, strict=True)
        ],
        proj_dim=8,
    ).eval()
    ours = EnsembleFrontend(
        [
            dict(name=name, path_or_url=path)
            for name, path in zip(names, paths, strict=True)
        ],
        fusion="projection",
        fusion_conf={"proj_dim": 8},
    )
    ours.fusion.projections.load_state_dict(theirs.projection_layers.state_dict())
    wavs, lengths = torch.randn(3, 4000), torch.tensor([4000] * 3)
    for a, b in zip(ours(wavs, lengths), theirs(wavs, lengths), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("layer", ["last", "weighted_sum", [1, 2]])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_features_computed_before_give_the_same(normalize, fusion, layer, pair, speech):
    upstreams = [{"name": pair[0], "layer": layer}, pair[1]]
    frontend = EnsembleFrontend(upstreams, fusion=fusion, normalize=normalize)
    states, lens = frontend.extract(*speech)
    computed_before = torch.cat([s for member in states for s in member], dim=-1)
    for a, b in zip(frontend(computed_before, lens), frontend(*speech), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_padding_of_features_reaches_no_gradient(fusion, pair):
    upstreams = [{"name": pair[0], "layer": [1, 2]}, pair[1]]
    frontend = EnsembleFrontend(upstreams, fusion=fusion)
    feats, lengths = torch.randn(2, 7, 96), torch.tensor([7, 4])
    feats[1, 4:] = float("nan")
    out, _ = frontend(feats, lengths)
    assert not out[1, 4:].any()
    if out.requires_grad:
        out.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in frontend.parameters())


@pytest.mark.parametrize("init", INITS)
def test_espnet_initialization_leaves_them_alone(init, pair, speech):
    frontend = EnsembleFrontend(pair)
    feats, _ = frontend(*speech)
    model = Model(frontend)
    initialize(model, init)
    assert torch.equal(frontend(*speech)[0], feats)
    model.load_state_dict(Model(EnsembleFrontend(pair)).state_dict())


@pytest.mark.parametrize("init", INITS)
def test_weights_survive_espnet_initialization(init, pair, speech):
    frontend = EnsembleFrontend(pair, frozen=False).eval()
    feats, _ = frontend(*speech)
    initialize(Model(frontend), init)
    assert torch.equal(frontend(*speech)[0], feats)


def test_names_of_weights_are_those_of_version_0_1(pair):
    upstreams = [{"name": pair[0], "layer": "weighted_sum"}, pair[1]]
    frozen = Model(EnsembleFrontend(upstreams, fusion="projection"))
    assert [key for key in frozen.state_dict() if key.startswith("frontend.")] == [
        "frontend.fingerprints",
        "frontend.probes",
        "frontend.layers.0.weights",
        "frontend.fusion.projections.0.weight",
        "frontend.fusion.projections.0.bias",
        "frontend.fusion.projections.1.weight",
        "frontend.fusion.projections.1.bias",
    ]
    trainable = Model(EnsembleFrontend(pair, frozen=False))
    assert (
        "frontend.upstreams.1.model.encoder.layers.0.attention.q_proj.weight"
        in trainable.state_dict()
    )


class TestBadInput:
    @pytest.fixture
    def frontend(self, tiny_wavlm):
        return EnsembleFrontend([tiny_wavlm])

    def test_multi_channel(self, frontend):
        with pytest.raises(
            ValueError, match=r"found \(2, 4000, 3\).*choose one channel"
        ):
            frontend(torch.zeros(2, 4000, 3), torch.tensor([4000] * 2))

    @pytest.mark.parametrize("length", [0, 8])
    def test_frames_outside_of_the_features(self, length, frontend):
        with pytest.raises(ValueError, match=f"utterance 1 .* has length {length}"):
            frontend(torch.zeros(2, 7, 32), torch.tensor([7, length]))

    def test_options_are_those_of_frontend_conf(self, tiny_wavlm):
        with pytest.raises(EnsembleError, match="dtype: expected float32.*'int8'"):
            EnsembleFrontend([tiny_wavlm], dtype="int8")
        with pytest.raises(EnsembleError, match="expected a list of at least one"):
            EnsembleFrontend("wavlm_base")


@torch.no_grad()
@pytest.mark.parametrize("init", INITS)
def test_what_moves_members_in_time_moves_nothing_at_first(init, pair, speech):
    frontend = EnsembleFrontend(pair, fusion="time_shift")
    initialize(frontend, init)
    assert torch.equal(frontend(*speech)[0], EnsembleFrontend(pair)(*speech)[0])
    frontend = EnsembleFrontend(pair, fusion="cross_attention")
    initialize(frontend, init)
    biases = [p for n, p in frontend.named_parameters() if n.endswith("members.0.bias")]
    assert biases and not any(bias.any() for bias in biases)
