import contextlib
import copy
import io
import json
import pickle
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchaudio

from espnet_ensemble import Ensemble, FrontendConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.featurizer import Featurizer
from espnet_ensemble.fusion import FUSIONS, Fusion
from espnet_ensemble.upstream import (
    Upstream,
    UpstreamConf,
    UpstreamError,
    load_upstream,
)


def build(upstreams, **conf):
    return FrontendConf.parse({"upstreams": upstreams, **conf}).build()


@pytest.fixture
def pair(tiny_wavlm, tiny_hubert):
    return [tiny_wavlm, tiny_hubert]


class Model(torch.nn.Module):
    """A model that holds an ensemble, as far as saving goes."""

    def __init__(self, ensemble):
        super().__init__()
        self.ensemble = ensemble
        self.linear = torch.nn.Linear(ensemble.output_size(), 3)


def bare_features(folder, wav):
    from transformers import AutoFeatureExtractor, AutoModel

    inputs = AutoFeatureExtractor.from_pretrained(folder)(
        wav.numpy(), sampling_rate=16000, return_tensors="pt"
    )
    return AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[0]


class TestMembers:
    """An ensemble that uses some of its upstreams."""

    @torch.no_grad()
    def test_the_others_are_not_run_and_their_features_are_zero(
        self, pair, slow_hubert, speech, monkeypatch
    ):
        ensemble = build([*pair, {"name": slow_hubert, "layer": [1, 2]}])
        expected, _ = ensemble(*speech)
        ensemble.select([0, 2])
        monkeypatch.setattr(ensemble.upstreams[1], "forward", None)
        feats, _ = ensemble(*speech)
        kept = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(32)
        frames = min(feats.size(1), expected.size(1))
        torch.testing.assert_close(feats[:, :frames], expected[:, :frames] * kept)

    @torch.no_grad()
    @pytest.mark.parametrize("fusion", FUSIONS)
    @pytest.mark.parametrize("normalize", ["none", "utterance"])
    def test_speech_and_cached_features_of_all_give_the_same(
        self, fusion, normalize, pair, speech
    ):
        ensemble = build(pair, fusion=fusion, normalize=normalize)
        states, feats_lens = ensemble.extract(*speech)
        whole = ensemble.fuse(states, feats_lens)
        ensemble.select([1])
        cached = ensemble.fuse(states, feats_lens)
        torch.testing.assert_close(ensemble(*speech)[0], cached)
        assert not torch.allclose(cached, whole)
        ensemble.select([0, 1])
        assert torch.equal(ensemble.fuse(states, feats_lens), whole)

    @pytest.mark.parametrize("members", [[], [2], [0, -1]])
    def test_there_must_be_some(self, members, pair):
        with pytest.raises(
            EnsembleError, match="members: expected at least one of 0, 1"
        ):
            build(pair).select(members)


class TestLayers:
    """All layers of all upstreams in one fusion."""

    @torch.no_grad()
    def test_a_convolution_over_them_gets_each_hidden_state(self, pair, speech):
        upstreams = [{"name": name, "layer": "weighted_sum"} for name in pair]
        ensemble = build(upstreams, fusion="layer_conv", normalize="layer_norm")
        assert not list(ensemble.layers.parameters())
        states, feats_lens = ensemble.extract(*speech)
        fused = ensemble.fuse(states, feats_lens)
        normal = torch.nn.functional.layer_norm
        feats = [torch.cat([normal(s, [32]) for s in own], dim=-1) for own in states]
        expected = ensemble.fusion(feats, feats_lens)
        for ours, theirs, frames in zip(fused, expected, feats_lens, strict=True):
            torch.testing.assert_close(ours[:frames], theirs[:frames])
        assert ensemble.output_size() == fused.size(2)


class TestFeatures:
    @torch.no_grad()
    def test_layers_of_half_precision_become_features_one_at_a_time(self, pair, speech):
        upstreams = [{"name": name, "layer": "weighted_sum"} for name in pair]
        ensemble = build(upstreams, dtype="bfloat16", normalize="layer_norm")
        states, lengths = ensemble.extract(*speech)
        assert {s.dtype for own in states for s in own} == {torch.float32}
        seen = []
        for combine in ensemble.layers:
            combine.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        feats, _ = ensemble(*speech)
        assert feats.dtype == torch.float32
        assert not any(isinstance(x, (list, tuple)) for x in seen)
        torch.testing.assert_close(feats, ensemble.fuse(states, lengths))

    @torch.no_grad()
    def test_concatenates_what_transformers_gives_each_utterance(self, models, speech):
        wavs, lengths = speech
        folders = [models("WavLM"), models("Hubert", "large", True), models("Wav2Vec2")]
        feats, feats_lens = build(folders)(wavs, lengths)
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
        ensemble = build(pair)
        feats, feats_lens = ensemble(wavs, lengths)
        dirty = wavs.clone()
        dirty[1, 7999:] = dirty[4, 410:] = float("nan")
        order = torch.tensor([3, 0, 4, 2, 1])
        shuffled, shuffled_lens = ensemble(dirty[order], lengths[order])
        assert torch.equal(shuffled_lens, feats_lens[order])
        torch.testing.assert_close(shuffled, feats[order], rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_s3prl_and_transformers_together_cut_to_the_shortest(
        self, tiny_wavlm, s3prl_checkpoints, speech
    ):
        path = s3prl_checkpoints("hubert")
        upstreams = [tiny_wavlm, {"name": "hubert_local", "path_or_url": path}]
        feats, feats_lens = build(upstreams)(*speech)
        # S3PRL alone counts 25, 25, 11, 4, 2.
        assert feats_lens.tolist() == [24, 24, 9, 3, 1]
        assert feats.shape == (5, 24, 64)

    @torch.no_grad()
    def test_different_hops_are_repeated_to_one_frame_rate(self, tiny_wavlm):
        ensemble = build([tiny_wavlm, "fbank"])  # hops of 320 and 160
        wavs, lengths = torch.randn(2, 4000), torch.tensor([4000, 2000])
        feats, feats_lens = ensemble(wavs, lengths)
        wavlm, wavlm_lens = build([tiny_wavlm])(wavs, lengths)
        fbank, fbank_lens = build(["fbank"])(wavs, lengths)
        assert ensemble.hop_length == 160
        expected_lens = torch.minimum(2 * wavlm_lens, fbank_lens)
        assert torch.equal(feats_lens, expected_lens)
        for item, frames in enumerate(expected_lens.tolist()):
            for t in range(frames):
                expected = torch.cat([wavlm[item, t // 2], fbank[item, t]])
                torch.testing.assert_close(feats[item, t], expected)

    @torch.no_grad()
    @pytest.mark.parametrize("fs", [8000, "44.1k", 22050])
    def test_other_sample_rates_are_resampled(self, fs, pair):
        ensemble = build(pair, fs=fs)
        assert ensemble.fs in (8000, 44100, 22050)
        wavs, lengths = torch.randn(2, 9000), torch.tensor([9000, 4321])
        feats, feats_lens = ensemble(wavs, lengths)
        for item, length in enumerate(lengths.tolist()):
            wav = torchaudio.functional.resample(
                wavs[item, :length], ensemble.fs, 16000
            )
            alone, alone_lens = build(pair)(wav[None], torch.tensor([len(wav)]))
            assert feats_lens[item] == alone_lens[0]
            torch.testing.assert_close(
                feats[item, : feats_lens[item]], alone[0], rtol=1e-3, atol=1e-4
            )

    @torch.no_grad()
    @pytest.mark.parametrize("samples", [22055, 5777136])
    def test_resampled_utterance_has_the_samples_that_its_length_says(self, samples):
        class Samples(Upstream):
            """Gives each sample that it is handed as a frame."""

            def forward(self, wavs, lengths):
                assert wavs.size(1) == lengths.max()
                return [wavs.unsqueeze(2)], lengths

        upstream = Samples("samples", 16000, 1, 1, (0,), bytes(32))
        ensemble = Ensemble([upstream], fs=44100)
        # torchaudio counts in float32, and gives one too few of the longer one.
        _, feats_lens = ensemble(torch.rand(1, samples), torch.tensor([samples]))
        assert feats_lens.item() == -(-samples * 160 // 441)

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
        ours, _ = build([folder], dtype=dtype)(wavs, lengths)
        assert ours.dtype == torch.float32
        assert 0 < (ours - exact).norm() <= 1.5 * (bare - exact).norm()

    @torch.no_grad()
    def test_half_precision_of_s3prl(self, s3prl_checkpoints, speech):
        upstreams = [
            {"name": f"{f}_local", "path_or_url": s3prl_checkpoints(f, "large")}
            for f in ("wavlm", "hubert")
        ]
        feats, feats_lens = build(upstreams, dtype="float16")(*speech)
        exact, exact_lens = build(upstreams)(*speech)
        assert feats.dtype == torch.float32
        assert torch.equal(feats_lens, exact_lens)
        assert 0 < (feats - exact).norm() / exact.norm() < 0.1


class TestTypes:
    """The features have the type of the model that holds the ensemble."""

    @torch.no_grad()
    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("frozen", [True, False])
    @pytest.mark.parametrize("fusion", FUSIONS)
    def test_features_follow_the_model(self, fusion, frozen, dtype, pair, speech):
        upstreams = [{"name": name, "layer": [1, 3]} for name in pair]
        ensemble = build(upstreams, fusion=fusion, frozen=frozen).eval()
        exact, _ = ensemble(*speech)
        feats, feats_lens = ensemble.to(dtype)(speech[0].to(dtype), speech[1])
        assert feats.dtype == dtype
        assert feats_lens.tolist() == [24, 24, 9, 3, 1]
        # Frozen upstreams keep their own type; those that train follow, too.
        tolerance = 1e-4 if dtype == torch.float64 else 0.05 if frozen else 0.5
        error = (feats.float() - exact).norm() / exact.norm()
        assert error < tolerance

    @torch.no_grad()
    @pytest.mark.parametrize("loader", ["transformers", "s3prl"])
    def test_speech_of_half_precision_is_normalized_in_full(
        self, loader, models, s3prl_checkpoints
    ):
        upstream = models("WavLM", "large", True)
        if loader == "s3prl":
            path = s3prl_checkpoints("wavlm", "large")
            upstream = {"name": "wavlm_local", "path_or_url": path}
        ensemble = build([upstream])
        # Of 4 s and more, float16 cannot hold the sum of squares.
        wavs = (torch.randn(1, 160000) + 1).half()
        lengths = torch.tensor([160000])
        expected, _ = ensemble(wavs.float(), lengths)
        assert torch.equal(ensemble(wavs, lengths)[0], expected)


class TestFrozen:
    def test_upstreams_are_hidden_from_the_model(self, pair):
        model = Model(build(pair))
        assert list(model.state_dict()) == [
            "ensemble.fingerprints",
            "ensemble.probes",
            "linear.weight",
            "linear.bias",
        ]
        assert [n for n, _ in model.named_parameters()] == [
            "linear.weight",
            "linear.bias",
        ]
        assert not any(isinstance(m, Upstream) for m in model.modules())

    def test_evaluation_mode_always(self, pair, speech):
        ensemble = build(pair)
        feats, _ = ensemble(*speech)
        for mode in (True, False):
            Model(ensemble).train(mode)
            assert not any(m.training for u in ensemble.upstreams for m in u.modules())
            assert torch.equal(ensemble(*speech)[0], feats)

    @pytest.mark.parametrize("fusion", FUSIONS)
    @pytest.mark.parametrize("layer", ["last", "weighted_sum"])
    def test_gradients(self, fusion, layer, pair, speech):
        upstreams = [{"name": name, "layer": layer} for name in pair]
        ensemble = build(upstreams, fusion=fusion).train()
        model = Model(ensemble)
        model.linear(ensemble(*speech)[0]).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        names = [n for n, _ in ensemble.named_parameters()]
        averages = layer == "weighted_sum" and not ensemble.fusion.takes_layers
        assert ("layers.0.weights" in names) == averages
        for upstream in ensemble.upstreams:
            assert all(p.grad is None for p in upstream.parameters())

    @torch.no_grad()
    def test_follows_the_device_from_the_first_speech_on(self, pair, speech):
        model = Model(build(pair))
        upstream = model.ensemble.upstreams[0]
        model.to("meta")
        assert _device(upstream) == "cpu"
        with contextlib.suppress(NotImplementedError, RuntimeError):
            # There is nothing to compute with, but they have moved.
            model.ensemble(speech[0].to("meta"), speech[1])
        assert _device(upstream) == "meta"

    @torch.no_grad()
    def test_follows_the_device_back(self, pair, speech):
        model = Model(build(pair))
        model.ensemble(*speech)
        model.to("meta")
        assert all(_device(u) == "meta" for u in model.ensemble.upstreams)

    def test_does_not_follow_the_type(self, pair):
        model = Model(build(pair)).half()
        (upstream, _) = model.ensemble.upstreams
        assert next(upstream.parameters()).dtype == torch.float32

    def test_speech_on_another_device(self, pair, speech):
        ensemble = build(pair).to("meta")
        with pytest.raises(
            RuntimeError, match="speech is on cpu but the model on meta"
        ):
            ensemble(*speech)

    def test_replica_of_data_parallel_is_refused(self, pair, speech):
        replica = build(pair)._replicate_for_data_parallel()
        with pytest.raises(RuntimeError, match="--multiprocessing_distributed true"):
            replica(*speech)

    def test_copy_computes_the_same(self, tiny_wavlm, tiny_hubert, speech):
        upstreams = [{"name": tiny_wavlm, "layer": [1, 2]}, tiny_hubert]
        ensemble = build(upstreams)
        for a, b in zip(
            copy.deepcopy(ensemble)(*speech), ensemble(*speech), strict=True
        ):
            assert torch.equal(a, b)


class TestFingerprint:
    def test_checkpoint_reloads_strictly(self, pair):
        model = Model(build(pair, fusion="attention"))
        clone = Model(build(pair, fusion="attention"))
        clone.load_state_dict(model.state_dict(), strict=True)

    @pytest.mark.parametrize("strict", [True, False])
    def test_other_weights_are_refused(self, strict, pair, tiny_hubert, models):
        checkpoint = Model(build(pair)).state_dict()
        other = models("WavLM", "large")
        model = Model(build([other, tiny_hubert]))
        with pytest.raises(RuntimeError, match=f"upstream '{other}' has other weights"):
            model.load_state_dict(checkpoint, strict=strict)

    def test_other_order_and_number_are_refused(self, pair):
        checkpoint = Model(build(pair)).state_dict()
        with pytest.raises(RuntimeError, match="has other weights"):
            Model(build(pair[::-1])).load_state_dict(checkpoint)
        with pytest.raises(RuntimeError, match="made over 2 upstreams, .* has 1"):
            ensemble = build(pair[:1])
            ensemble.load_state_dict(build(pair).state_dict())

    def test_layer_and_dtype_may_change(self, pair):
        checkpoint = build(pair).state_dict()
        upstreams = [{"name": pair[0], "layer": 1}, pair[1]]
        build(upstreams, dtype="bfloat16").load_state_dict(checkpoint)
        build(pair, dtype="bfloat16").load_state_dict(checkpoint)

    @pytest.mark.parametrize(
        "name,key,value",
        [
            ("config.json", "hidden_act", "relu"),
            ("config.json", "do_stable_layer_norm", False),
            ("preprocessor_config.json", "do_normalize", False),
        ],
    )
    @pytest.mark.parametrize("layer", ["last", [1, 3]])
    def test_same_weights_but_other_features_are_refused(
        self, layer, name, key, value, tiny_hubert, tiny_wav2vec2, tmp_path
    ):
        changed = shutil.copytree(tiny_wav2vec2, tmp_path / "changed")
        conf = json.loads((changed / name).read_text())
        (changed / name).write_text(json.dumps({**conf, key: value}))
        names = [str(changed), tiny_wav2vec2]
        other, ours = (
            Model(build([tiny_hubert, {"name": name, "layer": layer}]))
            for name in names
        )
        with pytest.raises(
            RuntimeError,
            match=f"{changed}' has the weights .*, but its features differ by [0-9.]+ %",
        ):
            other.load_state_dict(ours.state_dict())

    def test_checkpoint_without_probes_is_loaded(self, pair):
        checkpoint = Model(build(pair)).state_dict()
        del checkpoint["ensemble.probes"]
        Model(build(pair)).load_state_dict(checkpoint, strict=True)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_averages_and_casts_are_loaded(self, dtype, pair, s3prl_checkpoints):
        path = s3prl_checkpoints("wavlm", "large")
        s3prl = {"name": "wavlm_local", "path_or_url": path, "layer": "weighted_sum"}
        checkpoints = [Model(build([*pair, s3prl])).state_dict() for _ in range(3)]
        for key in checkpoints[0]:
            # As ESPnet's average_nbest_models does.
            total = checkpoints[0][key] + checkpoints[1][key] + checkpoints[2][key]
            checkpoints[0][key] = (total / 3).to(dtype)
        Model(build([*pair, s3prl])).load_state_dict(checkpoints[0])

    def test_upstreams_run_once_where_something_is_written_or_compared(
        self, pair, monkeypatch
    ):
        run, upstream_class = [], type(build(pair).upstreams[0])
        forward = upstream_class.forward
        monkeypatch.setattr(
            upstream_class,
            "forward",
            lambda self, *args: run.append(self.name) or forward(self, *args),
        )
        ensemble = build(pair)
        Model(ensemble).to("cpu").train().eval()
        assert run == []
        checkpoint = ensemble.state_dict()
        ensemble.load_state_dict(checkpoint)
        assert run == pair


class TestTrainable:
    def test_upstreams_are_ordinary_submodules(self, pair, speech):
        model = Model(build(pair, frozen=False)).train()
        assert (
            "ensemble.upstreams.0.model.encoder.layers.0.attention.q_proj.weight"
            in dict(model.named_parameters())
        )
        assert any("ensemble.upstreams.1." in key for key in model.state_dict())
        assert "ensemble.fingerprints" not in model.state_dict()
        model.linear(model.ensemble(*speech)[0]).square().sum().backward()
        without = [n for n, p in model.named_parameters() if p.grad is None]
        assert without == []

    @torch.no_grad()
    def test_batch_norms_see_the_batch_in_training_mode_alone(self, models, speech):
        """As docs/concepts.md says."""
        wavs, lengths = speech
        folder = models("Wav2Vec2Conformer", "large")
        for frozen, training in ((True, True), (False, False), (False, True)):
            ensemble = build([folder], frozen=frozen).train(training)
            # Dropout would differ, too.
            for module in ensemble.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            feats, feats_lens = ensemble(wavs, lengths)
            alone, _ = ensemble(wavs[2:3, : lengths[2]], lengths[2:3])
            error = (feats[2, : feats_lens[2]] - alone[0]).norm() / alone.norm()
            assert (error > 1e-2) == (training and not frozen), error

    def test_s3prl_trains_its_feature_extractor(self, s3prl_checkpoints, speech):
        path = s3prl_checkpoints("wavlm", "large")
        upstreams = [{"name": "wavlm_local", "path_or_url": path}]
        ensemble = build(upstreams, frozen=False).train()
        ensemble(*speech)[0].square().sum().backward()
        extractor = ensemble.upstreams[0].expert.model.feature_extractor
        assert all(p.grad.any() for p in extractor.parameters())

    def test_gradient_checkpointing_is_refused(self, tiny_wavlm, speech):
        ensemble = build([tiny_wavlm], frozen=False).train()
        ensemble.upstreams[0].model.gradient_checkpointing_enable()
        with pytest.raises(UpstreamError, match="gradient checkpointing"):
            ensemble(*speech)
        with torch.no_grad():  # nothing is computed again
            ensemble.eval()(*speech)

    @torch.no_grad()
    def test_equals_frozen_in_evaluation_mode(self, pair, speech):
        frozen, trainable = build(pair), build(pair, frozen=False)
        for a, b in zip(trainable.eval()(*speech), frozen(*speech), strict=True):
            assert torch.equal(a, b)


class TestBadInput:
    @pytest.fixture
    def ensemble(self, tiny_wavlm):
        return build([tiny_wavlm])

    @pytest.mark.parametrize("length", [0, -1, 4001])
    def test_length_outside_of_the_tensor(self, length, ensemble):
        lengths = torch.tensor([4000, length])
        with pytest.raises(
            ValueError, match=rf"utterance 1 .* has length {length}; .* 4000"
        ):
            ensemble(torch.zeros(2, 4000), lengths)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_sample_that_is_not_finite(self, value, ensemble):
        wavs = torch.zeros(3, 4000)
        wavs[1, 17] = value
        with pytest.raises(
            ValueError, match=r"NaN or infinite samples in utterance\(s\) \[1\]"
        ):
            ensemble(wavs, torch.tensor([4000] * 3))

    @pytest.mark.parametrize("shape", [(4000,), (1, 2, 3, 4)])
    def test_shape(self, shape, ensemble):
        with pytest.raises(ValueError, match="expected waveforms"):
            ensemble(torch.zeros(shape), torch.tensor([1]))

    def test_integer_samples(self, ensemble):
        with pytest.raises(
            ValueError, match="expected floating point, found torch.int16"
        ):
            ensemble(torch.zeros(1, 4000, dtype=torch.int16), torch.tensor([4000]))

    def test_number_of_lengths(self, ensemble):
        with pytest.raises(ValueError, match=r"expected \(2,\), found \(3,\)"):
            ensemble(torch.zeros(2, 4000), torch.tensor([4000] * 3))

    def test_unknown_upstream(self):
        with pytest.raises(UpstreamError, match="hubert_base"):
            build(["hubert_bse"])

    def test_layer(self, tiny_wavlm):
        with pytest.raises(ValueError, match="layer: 4 is out of range"):
            build([{"name": tiny_wavlm, "layer": 4}])

    def test_different_sample_rates(self, tiny_wavlm, tmp_path):
        folder = shutil.copytree(tiny_wavlm, tmp_path / "8k")
        path = folder / "preprocessor_config.json"
        conf = json.loads(path.read_text())
        path.write_text(json.dumps({**conf, "sampling_rate": 8000}))
        with pytest.raises(
            ValueError, match="different sample rates: .*16000 Hz.*8000 Hz"
        ):
            build([tiny_wavlm, str(folder)])
        upstream = load_upstream(UpstreamConf(str(folder)))
        assert upstream.fs == 8000


def _device(upstream):
    return next(upstream.parameters()).device.type


class TestParts:
    """An ensemble made of objects, without names and configurations."""

    class Ramp(Upstream):
        """An upstream whose hidden states say which frame and layer they are."""

        def __init__(self, hop_length=4, layers=(0,), fs=16000, name="ramp"):
            super().__init__(name, fs, hop_length, 2, layers, fingerprint=bytes(32))

        def forward(self, wavs, lengths):
            num_frames = lengths // self.hop_length
            frames = torch.arange(wavs.size(1) // self.hop_length).float()
            states = [frames + 100 * layer for layer in self.layers]
            return [
                s[None, :, None].expand(len(wavs), -1, 2) for s in states
            ], num_frames

    def test_an_upstream_of_one_s_own_and_concatenation(self):
        ensemble = Ensemble([self.Ramp(4), self.Ramp(8)])
        feats, feats_lens = ensemble(torch.zeros(2, 16), torch.tensor([16, 9]))
        assert (ensemble.fs, ensemble.hop_length, ensemble.output_size()) == (
            16000,
            4,
            4,
        )
        assert feats_lens.tolist() == [4, 2]
        assert feats[0].tolist() == [
            [0, 0, 0, 0],
            [1, 1, 0, 0],
            [2, 2, 1, 1],
            [3, 3, 1, 1],
        ]
        assert feats[1].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]

    def test_given_featurizers_and_fusion_are_used(self):
        class Mean(Fusion):
            """Averages over an utterance's own frames."""

            output_size = 2

            def forward(self, feats, feats_lens):
                (x,) = feats
                mean = [x[i, :n].mean(dim=0) for i, n in enumerate(feats_lens)]
                return torch.stack(mean).unsqueeze(1).expand_as(x)

        featurizer = Featurizer(2)
        torch.nn.init.constant_(featurizer.weights[:1], 1e9)
        upstream = self.Ramp(layers=(1, 3))
        ensemble = Ensemble([upstream], layers=[featurizer], fusion=Mean())
        feats, _ = ensemble(torch.zeros(2, 16), torch.tensor([16, 8]))
        assert feats[:, 0, 0].tolist() == [101.5, 100.5]

    def test_split_undoes_what_the_cache_concatenates(self):
        ensemble = Ensemble([self.Ramp(layers=(1, 3)), self.Ramp()])
        states, _ = ensemble.extract(torch.zeros(2, 16), torch.tensor([16, 8]))
        assert ensemble.total_size == 6
        feats = torch.cat([s for upstream in states for s in upstream], dim=-1)
        for ours, theirs in zip(ensemble.split(feats), states, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                assert torch.equal(one, other)
        with pytest.raises(ValueError, match=r"frames, 6\); found \(2, 4, 5\)"):
            ensemble.split(feats[..., :5])

    def test_no_upstream(self):
        with pytest.raises(EnsembleError, match="at least one, found none"):
            Ensemble([])

    def test_different_sample_rates(self):
        upstreams = [self.Ramp(name="one"), self.Ramp(fs=8000, name="other")]
        with pytest.raises(EnsembleError, match="one 16000 Hz, other 8000 Hz"):
            Ensemble(upstreams)


def _pickled(model):
    return pickle.loads(pickle.dumps(model))


def _saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def _quantized(model):
    """As ESPnet's ``--quantize_asr_model`` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # for torchao
        return torch.ao.quantization.quantize_dynamic(
            model, qconfig_spec={torch.nn.Linear}, dtype=torch.qint8
        )


class TestCopies:
    """Copies have the features of what they were made from, whatever made them."""

    @pytest.fixture(params=["s3prl", "s3prl_conformer", "s3prl_hf", "transformers"])
    def upstreams(self, request, models, s3prl_checkpoints):
        if request.param == "transformers":
            names = [{"name": models(f)} for f in ("WavLM", "Wav2Vec2Conformer")]
        elif request.param == "s3prl_hf":
            path = models("Hubert")
            names = [{"name": "hf_hubert_custom", "path_or_url": path}]
        elif request.param == "s3prl_conformer":
            path = s3prl_checkpoints("wav2vec2_conformer")
            names = [{"name": "wav2vec2_local", "path_or_url": path}]
        else:
            names = [
                {"name": f"{f}_local", "path_or_url": s3prl_checkpoints(f)}
                for f in ("wavlm", "hubert", "wav2vec2", "data2vec")
            ]
        return [{**name, "layer": [1, 3]} for name in names]

    @pytest.mark.parametrize("frozen", [True, False])
    @pytest.mark.parametrize("copied", [copy.deepcopy, _pickled, _saved, _quantized])
    def test_features_are_equal(self, copied, frozen, upstreams, speech):
        model = Model(build(upstreams, frozen=frozen)).train()
        model.linear(model.ensemble(*speech)[0]).sum().backward()
        model.eval()
        with torch.no_grad():
            expected, _ = model.ensemble(*speech)
            for other in (copied(model), copied(copy.deepcopy(model))):
                assert torch.equal(other.ensemble(*speech)[0], expected)
            # Not the copy, which has hooks of its own.
            assert torch.equal(model.ensemble(*speech)[0], expected)

    def test_a_trained_upstream_is_copied_with_its_weights(self, tiny_wavlm, speech):
        model = Model(build([tiny_wavlm], frozen=False)).eval()
        torch.nn.init.zeros_(
            model.ensemble.upstreams[0].model.encoder.layer_norm.weight
        )
        expected, _ = model.ensemble(*speech)
        other = _pickled(model)
        assert torch.equal(other.ensemble(*speech)[0], expected)
        assert all(p.requires_grad for p in other.linear.parameters())
        assert list(other.state_dict()) == list(model.state_dict())

    def test_a_copy_keeps_type_and_mode(self, tiny_wavlm):
        for frozen in (True, False):
            ensemble = build([tiny_wavlm], frozen=frozen, dtype="float32").train()
            ensemble.upstreams[0].to(torch.bfloat16)
            (upstream,) = _pickled(ensemble).upstreams
            assert {p.dtype for p in upstream.parameters()} == {torch.bfloat16}
            assert upstream.training != frozen

    def test_the_rest_is_quantized(self, pair):
        model = _quantized(Model(build(pair, fusion="projection", frozen=False)))
        quantized = torch.ao.nn.quantized.dynamic.Linear
        names = [n for n, m in model.named_modules() if isinstance(m, quantized)]
        assert names[-1] == "linear" and not any("upstreams" in name for name in names)

    @torch.no_grad()
    @pytest.mark.parametrize("copied", [copy.deepcopy, _pickled])
    def test_s3prl_s_other_architectures(self, copied, speech):
        ensemble = build(["fbank"], frozen=False)
        expected, _ = ensemble(*speech)
        assert torch.equal(copied(ensemble)(*speech)[0], expected)


class TestThreads:
    """Several threads run one ensemble, as those of a server do."""

    @torch.no_grad()
    @pytest.mark.parametrize("loader", ["transformers", "s3prl"])
    def test_features_are_those_of_one_thread(self, loader, models, s3prl_checkpoints):
        upstreams = [{"name": models("WavLM"), "layer": [1, 3]}]
        if loader == "s3prl":
            path = s3prl_checkpoints("wavlm")
            upstreams = [{"name": "wavlm_local", "path_or_url": path, "layer": [1, 3]}]
        ensemble = build(upstreams)
        batches = [
            (torch.randn(2, 4000 + 640 * i), torch.tensor([4000 + 640 * i, 1200]))
            for i in range(8)
        ]
        expected = [ensemble(*batch) for batch in batches]

        def run(number):
            # Gradients are switched on and off for each thread by itself.
            with torch.no_grad():
                return number, ensemble(*batches[number])

        with ThreadPoolExecutor(4) as pool:
            for number, (feats, lens) in pool.map(run, [*range(8)] * 6):
                torch.testing.assert_close(feats, expected[number][0])
                assert torch.equal(lens, expected[number][1])

    @torch.no_grad()
    def test_a_failed_forward_leaves_nothing_behind(self, tiny_wavlm, speech):
        upstream = load_upstream(UpstreamConf(tiny_wavlm, [1, 3])).eval()
        expected = upstream(*speech)

        def fail(*_):
            raise MemoryError

        hook = upstream.model.encoder.layers[2].register_forward_pre_hook(fail)
        with pytest.raises(MemoryError):
            upstream(*speech)
        hook.remove()
        assert not vars(upstream._call)
        for ours, theirs in zip(upstream(*speech)[0], expected[0], strict=True):
            assert torch.equal(ours, theirs)

    @torch.no_grad()
    def test_a_copy_is_one_of_its_own(self, tiny_wavlm, speech):
        ensemble = build([{"name": tiny_wavlm, "layer": [1, 3]}])
        other = copy.deepcopy(ensemble)
        for ours, theirs in zip(other(*speech), ensemble(*speech), strict=True):
            assert torch.equal(ours, theirs)
        assert other.upstreams[0]._call is not ensemble.upstreams[0]._call
