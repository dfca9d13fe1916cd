"""Upstreams of different frame rates, brought to one by repetition or side by side."""

import pytest
import torch

from espnet_ensemble import EnsembleError, FrontendConf
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend
from espnet_ensemble.testing.upstreams import save_encoder


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory, tiny_hubert, slow_hubert):
    """50, 25 and 12.5 frames per second."""
    folder = tmp_path_factory.mktemp("parakeet")
    return [tiny_hubert, slow_hubert, save_encoder(folder, "Parakeet")]


def build(upstreams, frame_rate=None, **conf):
    torch.manual_seed(0)
    conf = {"upstreams": upstreams, "frame_rate": frame_rate, **conf}
    return FrontendConf.parse(conf).build()


@torch.no_grad()
def test_faster_upstreams_are_stacked_and_slower_ones_repeated(upstreams, speech):
    wavs, lengths = speech
    apart, counted = [], []
    for upstream in upstreams:
        feats, frames = build([upstream])(wavs, lengths)
        apart.append(feats)
        counted.append(frames)
    ensemble = build(upstreams, 25)
    feats, frames = ensemble(wavs, lengths)
    assert (ensemble.hop_length, ensemble.output_size()) == (640, 2 * 32 + 32 + 32)
    grid = torch.stack([counted[0], 2 * counted[1], 4 * counted[2]]).amin(dim=0)
    assert torch.equal(frames, (grid + 1) // 2)
    for item, number in enumerate(frames.tolist()):
        last = int(grid[item]) - 1
        for t in range(number):
            first, second = min(2 * t, last), min(2 * t + 1, last)
            expected = torch.cat(
                [
                    apart[0][item, first],
                    apart[0][item, second],
                    apart[1][item, first // 2],
                    apart[2][item, first // 4],
                ]
            )
            torch.testing.assert_close(feats[item, t], expected)
    assert (feats[-1, int(frames[-1]) :] == 0).all()


@torch.no_grad()
def test_the_slowest_rate_holds_every_frame_once(upstreams, speech):
    ensemble = build(upstreams, 12.5)
    feats, frames = ensemble(*speech)
    assert ensemble.output_size() == (4 + 2 + 1) * 32
    repeated, grid = build(upstreams)(*speech)
    assert torch.equal(frames, (grid + 3) // 4)
    item, number = 0, int(grid[0]) // 4 * 4
    hubert = repeated[item, :number, :32].reshape(-1, 4 * 32)
    torch.testing.assert_close(feats[item, : number // 4, : 4 * 32], hubert)
    # As many numbers of HuBERT, a quarter of Parakeet's.
    assert feats[item].numel() < 0.6 * repeated[item].numel()


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["concat", "sum", "projection", "cross_attention"])
def test_an_utterance_is_the_same_alone(upstreams, speech, fusion):
    ensemble = build(upstreams, 25, fusion=fusion, normalize="utterance").eval()
    feats, frames = ensemble(*speech)
    for item, (wav, length) in enumerate(zip(*speech, strict=True)):
        alone, (number,) = ensemble(wav[None, :length], length[None])
        assert number == frames[item]
        torch.testing.assert_close(feats[item, :number], alone[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_cached_features_give_the_same(upstreams, speech):
    conf = {"fusion": "projection", "fusion_conf": {"learned_upsampling": True}}
    frontend = EnsembleFrontend(upstreams=upstreams, frame_rate=25, **conf).eval()
    expected, frames = frontend(*speech)
    states, lens = frontend.extract(*speech)
    cached = torch.cat([h for layers in states for h in layers], dim=-1)
    found, found_frames = frontend(cached, lens)
    assert torch.equal(found_frames, frames)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("frame_rate", [40, 100, 20, 0.3])
def test_a_rate_that_does_not_fit_is_refused(upstreams, frame_rate):
    with pytest.raises(EnsembleError, match="12.5.* whole multiple or share, found"):
        build(upstreams, frame_rate)


def test_what_cannot_be_stacked_is_refused(upstreams):
    layers = [{"name": name, "layer": "weighted_sum"} for name in upstreams]
    with pytest.raises(EnsembleError, match="takes each frame by itself"):
        build(layers, 12.5, fusion="layer_conv")
    with pytest.raises(EnsembleError, match="frame_rate: expected frames per second"):
        build(upstreams, -1)
