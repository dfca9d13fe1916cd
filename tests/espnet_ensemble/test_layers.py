import pytest

from espnet_ensemble.layers import layer_indices


@pytest.mark.parametrize(
    "layer,expected",
    [
        ("last", (12,)),
        ("weighted_sum", tuple(range(13))),
        (0, (0,)),
        (12, (12,)),
        (-1, (12,)),
        (-13, (0,)),
        ([6, 7, 8], (6, 7, 8)),
        ([8], (8,)),
    ],
)
def test_layer_indices(layer, expected):
    assert layer_indices(layer, 12) == expected


@pytest.mark.parametrize(
    "layer", ["first", [], None, 1.5, True, [1, "2"], [[1]], {"a": 1}]
)
def test_wrong_layer(layer):
    with pytest.raises(ValueError, match="layer: expected last, weighted_sum"):
        layer_indices(layer, 12)


@pytest.mark.parametrize("layer", [13, -14, [1, 13]])
def test_layer_out_of_range(layer):
    with pytest.raises(
        ValueError, match="out of range: there are hidden states 0 .* 12"
    ):
        layer_indices(layer, 12)


@pytest.mark.parametrize("layer", [[3, 3], [12, -1]])
def test_layer_twice(layer):
    with pytest.raises(ValueError, match="names one layer twice"):
        layer_indices(layer, 12)
