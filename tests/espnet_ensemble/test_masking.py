import pytest
import torch

from espnet_ensemble import FrontendConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.masking import BandMask

DRAWS = 1000


def masked_shares(sizes, mask):
    """The mean share of each upstream's features that are hidden."""
    return [(mask(torch.ones(DRAWS, 1, size)) == 0).float().mean() for size in sizes]


@pytest.mark.parametrize("sizes", [[768], [768, 768], [1024, 768, 1280], [24, 32, 40]])
def test_the_share_of_each_upstream_does_not_depend_on_their_number_and_sizes(sizes):
    torch.manual_seed(0)
    # Two bands of 5 % each on average, which overlap now and then.
    for share in masked_shares(sizes, BandMask(num_mask=2, max_share=0.1)):
        assert share == pytest.approx(0.0975, abs=0.006)


def test_bands_are_whole_and_of_an_utterance_s_own():
    torch.manual_seed(0)
    masked = BandMask(num_mask=1, max_share=0.5)(torch.ones(200, 3, 50)) == 0
    assert (masked == masked[:, :1]).all()  # all frames long
    edges = masked[:, 0].int().diff(dim=1).abs().sum(dim=1)
    assert edges.max() == 2  # one band
    assert len(masked[:, 0].unique(dim=0)) > 100
    assert masked[:, 0].sum(dim=1).max() <= 26


@torch.no_grad()
def test_hides_features_of_each_upstream_in_training_alone(
    tiny_wavlm, tiny_hubert, speech
):
    conf = {"upstreams": [tiny_wavlm, tiny_hubert]}
    plain = FrontendConf.parse(conf).build()
    masked = FrontendConf.parse({**conf, "feature_mask": {"max_share": 1.0}}).build()
    expected, _ = plain(*speech)
    assert torch.equal(masked.eval()(*speech)[0], expected)
    torch.manual_seed(0)
    feats, _ = masked.train()(*speech)
    hidden = (feats == 0) & (expected != 0)
    assert torch.equal(feats, expected.masked_fill(hidden, 0))
    of_wavlm, of_hubert = hidden.split(32, dim=-1)
    assert of_wavlm.any() and of_hubert.any()


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"num_mask": 0}, "num_mask: expected at least 1, found 0"),
        ({"num_mask": 1.5}, "num_mask: expected at least 1, found 1.5"),
        ({"max_share": 0}, "max_share: expected a share.*found 0"),
        ({"max_share": 100}, "max_share: expected a share.*found 100"),
    ],
)
def test_out_of_range(conf, message):
    with pytest.raises(EnsembleError, match=f"feature_mask: {message}"):
        BandMask(**conf)
