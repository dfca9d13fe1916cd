import numpy as np
import pytest

from espnet_ensemble.analysis.features import map_frames
from espnet_ensemble.analysis.probe import ProbeConf, ProbeResult, gain, run_probe

CONF = ProbeConf(epochs=15, batch_size=5)


def test_what_spells_is_recognised_and_noise_is_not(make_layer, spelled):
    sample, feats, noise = spelled
    good = run_probe([make_layer("good", feats)], sample, CONF)
    bad = run_probe([make_layer("bad", noise)], sample, CONF)
    assert good.cer < 10 < 40 < bad.cer and good.loss < bad.loss
    assert good.interval.low <= good.cer <= good.interval.high
    assert len(good.errors) == 15 and set(good.lengths) == {6}
    found = gain(good, bad)
    assert 75 < found.interval.low <= found.percent <= found.interval.high <= 100


def test_layers_side_by_side_know_what_both_know(make_layer, spelled):
    """Of one, two letters look alike; of the other, two others do."""
    sample, feats, _ = spelled
    layers = []
    for number, merged in enumerate(((1, 2), (2, 3))):
        changed = {key: x.copy() for key, x in feats.items()}
        for x in changed.values():
            x[:, merged] = x[:, merged].sum(axis=1, keepdims=True)
        layers.append(make_layer(f"{number}", changed, upstream=number))
    alone = [run_probe([layer], sample, CONF) for layer in layers]
    both = run_probe(layers, sample, CONF)
    assert both.labels == ["0:0", "1:0"]
    assert both.cer < min(probe.cer for probe in alone) / 2
    assert gain(both, alone[0]).interval.low > 0


def test_the_same_is_no_gain():
    probe = ProbeResult(["x:1"], [1, 0, 2], [5, 5, 5], 0.5)
    assert gain(probe, probe).percent == 0
    perfect = ProbeResult(["x:1"], [0, 0, 0], [5, 5, 5], 0.5)
    assert gain(perfect, perfect).percent == 0


def test_frames_are_of_mean_0_and_variance_1_where_they_were_seen(make_layer, spelled):
    sample, feats, noise = spelled
    layers = [make_layer("x", feats), make_layer("y", noise)]
    with map_frames(layers, sorted(feats), sample.train) as frames:
        assert isinstance(frames.values, np.memmap)
        seen = np.concatenate([frames.of(key) for key in sample.train])
        expected = np.concatenate([feats["50"], noise["50"]], axis=1)
        found = frames.of("50").numpy() * frames.scale + frames.mean
    assert np.allclose(seen.mean(axis=0), 0, atol=1e-3)
    assert np.allclose(seen.std(axis=0), 1, atol=1e-3)
    assert np.allclose(found, expected, atol=1e-2)


def test_members_may_be_normalized(make_layer, spelled):
    _, feats, _ = spelled
    found = make_layer("x", feats, normalize="utterance").read("00")
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert found.std() == pytest.approx(1, abs=1e-3)
