import pytest
import torch

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.planning import stand_ins
from espnet_ensemble.recipes.planning.stand_ins import load_or_stand_in
from espnet_ensemble.upstream import UpstreamConf


@pytest.fixture
def shallow(monkeypatch):
    """One layer is as good as twelve."""
    monkeypatch.setattr(stand_ins, "_LAYERS", {768: 1, 1024: 1, 1280: 1})


@pytest.fixture
def unreachable(monkeypatch):
    """Nothing can be loaded."""

    def fail(conf, download_dir):
        raise OSError("no route to the hub\nand more")

    monkeypatch.setattr(stand_ins, "load_upstream", fail)


def test_what_loads_is_measured_itself(tiny_wavlm):
    planned = load_or_stand_in("wavlm", UpstreamConf(tiny_wavlm))
    assert (planned.name, planned.reason) == ("wavlm", "")
    assert planned.upstream.feature_size == 32


@pytest.mark.parametrize(
    "conf,size",
    [
        (UpstreamConf("wavlm_large"), 1024),
        (UpstreamConf("microsoft/wavlm-base"), 768),
        (UpstreamConf("somebody/our-hubert-large-german"), 1024),
    ],
)
def test_what_does_not_load_has_a_stand_in_of_its_size(
    conf, size, shallow, unreachable
):
    planned = load_or_stand_in("x", conf)
    assert planned.reason == "no route to the hub"
    assert (planned.upstream.feature_size, planned.upstream.fs) == (size, 16000)
    with torch.no_grad():
        feats, _ = planned.upstream(torch.rand(1, 3200), torch.tensor([3200]))
    assert feats[-1].shape == (1, 9, size)
    assert torch.isfinite(feats[-1]).all()


@pytest.mark.parametrize("size,parameters", [(768, 94.4), (1024, 315.4), (1280, 962.5)])
def test_a_stand_in_is_as_large_as_what_is_published(size, parameters, monkeypatch):
    """As its layers are alike, two of them tell how many weights it has."""
    numbers = []
    for layers in (1, 2):
        depth = stand_ins._LAYERS[size]
        with monkeypatch.context() as patch:
            patch.setattr(stand_ins, "_LAYERS", {size: layers})
            upstream = stand_ins.make_stand_in(UpstreamConf("hubert"), size)
        numbers.append(sum(parameter.numel() for parameter in upstream.parameters()))
    total = numbers[0] + (depth - 1) * (numbers[1] - numbers[0])
    assert total / 1e6 == pytest.approx(parameters, rel=0.01)


def test_a_name_without_a_size_is_refused(unreachable):
    with pytest.raises(EnsembleError, match=r"no route[^$]*does not say whether"):
        load_or_stand_in("x", UpstreamConf("somebody/secret"))
