import copy

import pytest
import torch
import torchaudio
from espnet2.torch_utils.initialize import initialize

from espnet_ensemble import EnsembleFrontend
from espnet_ensemble.fusion import FUSIONS
from espnet_ensemble.upstream import (
    Upstream,
    UpstreamConf,
    UpstreamError,
    load_upstream,
)
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


def bare_features(folder, wav):
    from transformers import AutoFeatureExtractor, AutoModel

    inputs = AutoFeatureExtractor.from_pretrained(folder)(
        wav.numpy(), sampling_rate=16000, return_tensors="pt"
    )
    return AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[0]


class TestFeatures:
    @torch.no_grad()
    def test_concatenates_what_transformers_gives_each_utterance(self, models, speech):
        wavs, lengths = speech
        folders = [models("WavLM"), models("Hubert", "large", True), models("Wav2Vec2")]
        feats, feats_lens = EnsembleFrontend(folders)(wavs, lengths)
        assert feats.shape == (5, 24, 96)
        for item, length in enumerate(lengths.tolist()):
            alone = [bare_features(folder, wavs[item, :length]) for folder in folders]
            expected = torch.cat(alone, dim=-1)
            assert feats_lens[item] == len(expected)
            error = (
                feats[item, : feats_lens[item]] - expected
            ).norm() / expected.norm()
            assert error <= 1e-4
            assert not feats[item, feats_lens[item] :].any()

    @torch.no_grad()
    def test_padding_value_and_order_of_the_batch_do_not_matter(self, pair, speech):
        wavs, lengths = speech
        frontend = EnsembleFrontend(pair)
        feats, feats_lens = frontend(wavs, lengths)
        dirty = wavs.clone()
        dirty[1, 7999:] = dirty[4, 410:] = float("nan")
        order = torch.tensor([3, 0, 4, 2, 1])
        shuffled, shuffled_lens = frontend(dirty[order], lengths[order])
        assert torch.equal(shuffled_lens, feats_lens[order])
        torch.testing.assert_close(shuffled, feats[order], rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_equals_espnet_s3prl_frontend_on_one_utterance(self, s3prl_checkpoints):
        from espnet2.asr.frontend.s3prl import S3prlFrontend

        import_s3prl_nn()
        path = s3prl_checkpoints("wavlm", "large")
        theirs = S3prlFrontend(
            frontend_conf={"upstream": "wavlm_local", "path_or_url": path}
        ).eval()
        ours = EnsembleFrontend([{"name": "wavlm_local", "path_or_url": path}])
        wavs, lengths = torch.randn(1, 4000), torch.tensor([4000])
        for a, b in zip(ours(wavs, lengths), theirs(wavs, lengths)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_equals_espnet_fused_on_utterances_of_one_length(self, s3prl_checkpoints):
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
                for name, path in zip(names, paths)
            ],
            proj_dim=8,
        ).eval()
        ours = EnsembleFrontend(
            [dict(name=name, path_or_url=path) for name, path in zip(names, paths)],
            fusion="projection",
            fusion_conf={"proj_dim": 8},
        )
        ours.ensemble.fusion.projections.load_state_dict(theirs.projection_layers.state_dict())
        wavs, lengths = torch.randn(3, 4000), torch.tensor([4000] * 3)
        for a, b in zip(ours(wavs, lengths), theirs(wavs, lengths)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_s3prl_and_transformers_together_cut_to_the_shortest(
        self, tiny_wavlm, s3prl_checkpoints, speech
    ):
        path = s3prl_checkpoints("hubert")
        upstreams = [tiny_wavlm, {"name": "hubert_local", "path_or_url": path}]
        feats, feats_lens = EnsembleFrontend(upstreams)(*speech)
        # S3PRL alone counts 25, 25, 11, 4, 2.
        assert feats_lens.tolist() == [24, 24, 9, 3, 1]
        assert feats.shape == (5, 24, 64)

    @torch.no_grad()
    def test_different_hops_are_repeated_to_one_frame_rate(self, tiny_wavlm):
        frontend = EnsembleFrontend([tiny_wavlm, "fbank"])  # hops of 320 and 160
        wavs, lengths = torch.randn(2, 4000), torch.tensor([4000, 2000])
        feats, feats_lens = frontend(wavs, lengths)
        wavlm, wavlm_lens = EnsembleFrontend([tiny_wavlm])(wavs, lengths)
        fbank, fbank_lens = EnsembleFrontend(["fbank"])(wavs, lengths)
        assert frontend.hop_length == 160
        expected_lens = torch.minimum(2 * wavlm_lens, fbank_lens)
        assert torch.equal(feats_lens, expected_lens)
        for item, frames in enumerate(expected_lens.tolist()):
            for t in range(frames):
                expected = torch.cat([wavlm[item, t // 2], fbank[item, t]])
                torch.testing.assert_close(feats[item, t], expected)

    @torch.no_grad()
    @pytest.mark.parametrize("fs", [8000, "44.1k", 22050])
    def test_other_sample_rates_are_resampled(self, fs, pair):
        frontend = EnsembleFrontend(pair, fs=fs)
        assert frontend.ensemble.fs in (8000, 44100, 22050)
        wavs, lengths = torch.randn(2, 9000), torch.tensor([9000, 4321])
        feats, feats_lens = frontend(wavs, lengths)
        for item, length in enumerate(lengths.tolist()):
            wav = torchaudio.functional.resample(
                wavs[item, :length], frontend.ensemble.fs, 16000
            )
            alone, alone_lens = EnsembleFrontend(pair)(
                wav[None], torch.tensor([len(wav)])
            )
            assert feats_lens[item] == alone_lens[0]
            torch.testing.assert_close(
                feats[item, : feats_lens[item]], alone[0], rtol=1e-3, atol=1e-4
            )

    @torch.no_grad()
    @pytest.mark.parametrize("fusion", FUSIONS)
    @pytest.mark.parametrize("layer", ["last", "weighted_sum", [1, 2]])
    def test_features_computed_before_give_the_same(self, fusion, layer, pair, speech):
        upstreams = [{"name": pair[0], "layer": layer}, pair[1]]
        frontend = EnsembleFrontend(upstreams, fusion=fusion)
        states, lens = frontend.ensemble.extract(*speech)
        computed_before = torch.cat([s for member in states for s in member], dim=-1)
        for a, b in zip(frontend(computed_before, lens), frontend(*speech)):
            torch.testing.assert_close(a, b)

    @torch.no_grad()
    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_half_precision_loses_no_more_than_transformers_does(self, dtype, models):
        from transformers import AutoModel

        folder = models("WavLM", "large")
        wavs, lengths = 0.1 * torch.randn(2, 4000), torch.tensor([4000] * 2)
        bare = AutoModel.from_pretrained(folder).eval()
        exact = bare(wavs).last_hidden_state
        dtype_ = getattr(torch, dtype)
        bare = bare.to(dtype_)(wavs.to(dtype_)).last_hidden_state.float()
        ours, _ = EnsembleFrontend([folder], dtype=dtype)(wavs, lengths)
        assert ours.dtype == torch.float32
        assert 0 < (ours - exact).norm() <= 1.5 * (bare - exact).norm()

    @torch.no_grad()
    def test_half_precision_of_s3prl(self, s3prl_checkpoints, speech):
        upstreams = [
            {"name": f"{f}_local", "path_or_url": s3prl_checkpoints(f, "large")}
            for f in ("wavlm", "hubert")
        ]
        feats, feats_lens = EnsembleFrontend(upstreams, dtype="float16")(*speech)
        exact, exact_lens = EnsembleFrontend(upstreams)(*speech)
        assert feats.dtype == torch.float32
        assert torch.equal(feats_lens, exact_lens)
        assert 0 < (feats - exact).norm() / exact.norm() < 0.1


class TestFrozen:
    def test_upstreams_are_hidden_from_the_model(self, pair):
        model = Model(EnsembleFrontend(pair))
        assert list(model.state_dict()) == [
            "frontend.ensemble.fingerprints",
            "linear.weight",
            "linear.bias",
        ]
        assert [n for n, _ in model.named_parameters()] == [
            "linear.weight",
            "linear.bias",
        ]
        assert not any(isinstance(m, Upstream) for m in model.modules())

    def test_evaluation_mode_always(self, pair, speech):
        frontend = EnsembleFrontend(pair)
        feats, _ = frontend(*speech)
        for mode in (True, False):
            Model(frontend).train(mode)
            assert not any(
                m.training for u in frontend.ensemble.frozen_upstreams for m in u.modules()
            )
            assert torch.equal(frontend(*speech)[0], feats)

    @pytest.mark.parametrize("init", INITS)
    def test_espnet_initialization_leaves_them_alone(self, init, pair, speech):
        frontend = EnsembleFrontend(pair)
        feats, _ = frontend(*speech)
        model = Model(frontend)
        initialize(model, init)
        assert torch.equal(frontend(*speech)[0], feats)
        model.load_state_dict(Model(EnsembleFrontend(pair)).state_dict())

    @pytest.mark.parametrize("fusion", FUSIONS)
    @pytest.mark.parametrize("layer", ["last", "weighted_sum"])
    def test_gradients(self, fusion, layer, pair, speech):
        upstreams = [{"name": name, "layer": layer} for name in pair]
        frontend = EnsembleFrontend(upstreams, fusion=fusion).train()
        model = Model(frontend)
        model.linear(frontend(*speech)[0]).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        names = [n for n, _ in frontend.named_parameters()]
        assert ("ensemble.featurizers.0.weights" in names) == (layer == "weighted_sum")
        for upstream in frontend.ensemble.frozen_upstreams:
            assert all(p.grad is None for p in upstream.parameters())

    def test_follows_the_device_and_not_the_type(self, pair):
        model = Model(EnsembleFrontend(pair))
        model.half()
        (upstream, _) = model.frontend.ensemble.frozen_upstreams
        assert next(upstream.parameters()).dtype == torch.float32
        model.to("meta")
        assert next(upstream.parameters()).device.type == "meta"

    def test_speech_on_another_device(self, pair, speech):
        frontend = EnsembleFrontend(pair).to("meta")
        with pytest.raises(RuntimeError, match="--multiprocessing_distributed true"):
            frontend(*speech)

    def test_replica_of_data_parallel_is_refused(self, pair, speech):
        replica = EnsembleFrontend(pair).ensemble._replicate_for_data_parallel()
        replica.fingerprints = replica.fingerprints.to("meta")  # stands for cuda:1
        with pytest.raises(RuntimeError, match="DataParallel cannot replicate"):
            replica(speech[0].to("meta"), speech[1])

    def test_copy_computes_the_same(self, tiny_wavlm, tiny_hubert, speech):
        upstreams = [{"name": tiny_wavlm, "layer": [1, 2]}, tiny_hubert]
        frontend = EnsembleFrontend(upstreams)
        for a, b in zip(copy.deepcopy(frontend)(*speech), frontend(*speech)):
            assert torch.equal(a, b)


class TestFingerprint:
    def test_checkpoint_reloads_strictly(self, pair):
        model = Model(EnsembleFrontend(pair, fusion="attention"))
        clone = Model(EnsembleFrontend(pair, fusion="attention"))
        clone.load_state_dict(model.state_dict(), strict=True)

    @pytest.mark.parametrize("strict", [True, False])
    def test_other_weights_are_refused(self, strict, pair, tiny_hubert, models):
        checkpoint = Model(EnsembleFrontend(pair)).state_dict()
        other = models("WavLM", "large")
        model = Model(EnsembleFrontend([other, tiny_hubert]))
        with pytest.raises(RuntimeError, match=f"upstream '{other}' has other weights"):
            model.load_state_dict(checkpoint, strict=strict)

    def test_other_order_and_number_are_refused(self, pair):
        checkpoint = Model(EnsembleFrontend(pair)).state_dict()
        with pytest.raises(RuntimeError, match="has other weights"):
            Model(EnsembleFrontend(pair[::-1])).load_state_dict(checkpoint)
        with pytest.raises(RuntimeError, match="made over 2 upstreams, .* has 1"):
            frontend = EnsembleFrontend(pair[:1])
            frontend.load_state_dict(EnsembleFrontend(pair).state_dict())

    def test_layer_and_dtype_may_change(self, pair):
        checkpoint = EnsembleFrontend(pair).state_dict()
        upstreams = [{"name": pair[0], "layer": 1}, pair[1]]
        EnsembleFrontend(upstreams, dtype="bfloat16").load_state_dict(checkpoint)


class TestTrainable:
    def test_upstreams_are_ordinary_submodules(self, pair, speech):
        model = Model(EnsembleFrontend(pair, frozen=False)).train()
        assert (
            "frontend.ensemble.upstreams.0.model.encoder.layers.0.attention.q_proj.weight"
            in dict(model.named_parameters())
        )
        assert any("frontend.ensemble.upstreams.1." in key for key in model.state_dict())
        assert "frontend.ensemble.fingerprints" not in model.state_dict()
        model.linear(model.frontend(*speech)[0]).square().sum().backward()
        without = [n for n, p in model.named_parameters() if p.grad is None]
        assert without == []

    def test_s3prl_trains_its_feature_extractor(self, s3prl_checkpoints, speech):
        path = s3prl_checkpoints("wavlm", "large")
        upstreams = [{"name": "wavlm_local", "path_or_url": path}]
        frontend = EnsembleFrontend(upstreams, frozen=False).train()
        frontend(*speech)[0].square().sum().backward()
        extractor = frontend.ensemble.upstreams[0].expert.model.feature_extractor
        assert all(p.grad.any() for p in extractor.parameters())

    @torch.no_grad()
    def test_equals_frozen_in_evaluation_mode(self, pair, speech):
        frozen, trainable = EnsembleFrontend(pair), EnsembleFrontend(pair, frozen=False)
        for a, b in zip(trainable.eval()(*speech), frozen(*speech)):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("init", INITS)
    def test_weights_survive_espnet_initialization(self, init, pair, speech):
        frontend = EnsembleFrontend(pair, frozen=False).eval()
        feats, _ = frontend(*speech)
        initialize(Model(frontend), init)
        assert torch.equal(frontend(*speech)[0], feats)


class TestBadInput:
    @pytest.fixture(scope="class")
    def frontend(self, tiny_wavlm):
        return EnsembleFrontend([tiny_wavlm])

    @pytest.mark.parametrize("length", [0, -1, 4001])
    def test_length_outside_of_the_tensor(self, length, frontend):
        lengths = torch.tensor([4000, length])
        with pytest.raises(
            ValueError, match=rf"utterance 1 .* has length {length}; .* 4000"
        ):
            frontend(torch.zeros(2, 4000), lengths)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_sample_that_is_not_finite(self, value, frontend):
        wavs = torch.zeros(3, 4000)
        wavs[1, 17] = value
        with pytest.raises(
            ValueError, match=r"NaN or infinite samples in utterance\(s\) \[1\]"
        ):
            frontend(wavs, torch.tensor([4000] * 3))

    def test_multi_channel(self, frontend):
        with pytest.raises(ValueError, match=r"found \(2, 4000, 3\).*choose one channel"):
            frontend(torch.zeros(2, 4000, 3), torch.tensor([4000] * 2))

    @pytest.mark.parametrize("shape", [(4000,), (1, 2, 3, 4)])
    def test_shape(self, shape, frontend):
        with pytest.raises(ValueError, match="expected waveforms"):
            frontend(torch.zeros(shape), torch.tensor([1]))

    def test_integer_samples(self, frontend):
        with pytest.raises(ValueError, match="expected floating point, found torch.int16"):
            frontend(torch.zeros(1, 4000, dtype=torch.int16), torch.tensor([4000]))

    def test_number_of_lengths(self, frontend):
        with pytest.raises(ValueError, match=r"expected \(2,\), found \(3,\)"):
            frontend(torch.zeros(2, 4000), torch.tensor([4000] * 3))

    @pytest.mark.parametrize("upstreams", [[], "wavlm_base", {"name": "wavlm_base"}])
    def test_fewer_than_one_upstream(self, upstreams):
        with pytest.raises(
            ValueError, match="expected .*at least one"
        ):
            EnsembleFrontend(upstreams)

    @pytest.mark.parametrize("entry", [None, 3, {}, {"layer": 3}, {"name": 3}])
    def test_upstream_without_name(self, entry):
        with pytest.raises(ValueError, match="expected a name, or a mapping with name"):
            EnsembleFrontend([entry])

    def test_unknown_key(self, tiny_wavlm):
        with pytest.raises(ValueError, match="unknown key 'layers'"):
            EnsembleFrontend([{"name": tiny_wavlm, "layers": [1]}])

    def test_unknown_upstream(self):
        with pytest.raises(UpstreamError, match="hubert_base"):
            EnsembleFrontend(["hubert_bse"])

    def test_dtype(self, tiny_wavlm):
        with pytest.raises(ValueError, match="dtype: expected float32.*'int8'"):
            EnsembleFrontend([tiny_wavlm], dtype="int8")
        with pytest.raises(ValueError, match="use_amp"):
            EnsembleFrontend([tiny_wavlm], dtype="bfloat16", frozen=False)

    @pytest.mark.parametrize("fs", [0, -8000])
    def test_sample_rate(self, fs, tiny_wavlm):
        with pytest.raises(
            ValueError, match=f"fs: expected a sample rate in Hz, found {fs}"
        ):
            EnsembleFrontend([tiny_wavlm], fs=fs)

    def test_layer(self, tiny_wavlm):
        with pytest.raises(ValueError, match="layer: 4 is out of range"):
            EnsembleFrontend([{"name": tiny_wavlm, "layer": 4}])

    def test_different_sample_rates(self, tiny_wavlm, tmp_path):
        import json
        import shutil

        folder = shutil.copytree(tiny_wavlm, tmp_path / "8k")
        path = folder / "preprocessor_config.json"
        conf = json.loads(path.read_text())
        path.write_text(json.dumps({**conf, "sampling_rate": 8000}))
        with pytest.raises(
            ValueError, match="different sample rates: .*16000 Hz.*8000 Hz"
        ):
            EnsembleFrontend([tiny_wavlm, str(folder)])
        upstream = load_upstream(UpstreamConf(str(folder)))
        assert upstream.fs == 8000
