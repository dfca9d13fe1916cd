import math
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import torch

from espnet_ensemble import EnsembleFrontend, FrontendConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.masking import BandMask, MemberDropout

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


def exact_shares(probability, num_members):
    """The share of utterances that keep each set of members, counted by hand."""
    shares = {}
    for kept in product([False, True], repeat=num_members):
        share = math.prod(1 - probability if k else probability for k in kept)
        if any(kept):
            shares[kept] = shares.get(kept, 0) + share
            continue
        for member in range(num_members):  # one stays, each as likely
            single = tuple(m == member for m in range(num_members))
            shares[single] = shares.get(single, 0) + share / num_members
    return shares


@pytest.mark.parametrize("probability", [0.2, 0.6])
def test_members_are_hidden_each_by_itself_and_never_all(probability):
    torch.manual_seed(0)
    kept = MemberDropout(probability)(torch.ones(20000, 3, dtype=torch.bool))
    found = Counter(map(tuple, kept.tolist()))
    expected = exact_shares(probability, 3)
    assert found.keys() <= expected.keys()
    for members, share in expected.items():
        assert found[members] / 20000 == pytest.approx(share, abs=0.01)


def test_members_that_are_not_there_stay_away():
    members = torch.tensor([[True, False, True]] * 100)
    kept = MemberDropout(0.9)(members)
    assert not kept[:, 1].any()
    assert kept.any(dim=1).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["audio", "cached"])
def test_hidden_members_are_zero_in_training_under_a_seed(
    kind, tiny_wavlm, tiny_hubert, speech
):
    conf = {"upstreams": [tiny_wavlm, tiny_hubert]}
    expected, feats_lens = EnsembleFrontend(**conf)(*speech)
    frontend = EnsembleFrontend(**conf, member_dropout=0.5)
    inputs = speech if kind == "audio" else (expected, feats_lens)
    assert torch.equal(frontend.eval()(*inputs)[0], expected)
    drawn = []
    for _ in range(2):
        torch.manual_seed(1)
        drawn += [frontend.train()(*inputs)[0] for _ in range(8)]
    assert all(map(torch.equal, drawn[:8], drawn[8:]))
    found = set()
    for feats in drawn[:8]:
        for ours, theirs in zip(feats, expected, strict=True):
            kept = [bool(half.any()) for half in ours.split(32, dim=-1)]
            parts = zip(theirs.split(32, dim=-1), kept, strict=True)
            assert torch.equal(ours, torch.cat([h * k for h, k in parts], dim=-1))
            found.add(tuple(kept))
    assert found == {(True, True), (True, False), (False, True)}


@pytest.mark.parametrize("probability", [1, -0.1, "half"])
def test_dropout_out_of_range(probability):
    with pytest.raises(EnsembleError, match="member_dropout: expected a probability"):
        MemberDropout(probability)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["audio", "cached"])
def test_one_member_is_seen_alone_at_first(kind, tiny_wavlm, tiny_hubert, speech):
    conf = {"upstreams": [tiny_wavlm, tiny_hubert]}
    expected, feats_lens = EnsembleFrontend(**conf)(*speech)
    inputs = speech if kind == "audio" else (expected, feats_lens)
    name = Path(tiny_hubert).name
    conf["member_warmup"] = {"num_batches": 2, "first": name}
    frontend = EnsembleFrontend(**conf)
    alone = expected.clone()
    alone[..., :32] = 0
    # What is validated is what was trained, and counts nothing.
    assert torch.equal(frontend.eval()(*inputs)[0], alone)
    seen = [frontend.train()(*inputs)[0] for _ in range(2)]
    assert all(torch.equal(feats, alone) for feats in seen)
    # Training that was interrupted here goes on here, and so does decoding.
    restored = EnsembleFrontend(**conf)
    restored.load_state_dict(frontend.state_dict())
    assert torch.equal(restored.eval()(*inputs)[0], alone)
    assert torch.equal(restored.train()(*inputs)[0], expected)
    assert torch.equal(restored.eval()(*inputs)[0], expected)


@torch.no_grad()
def test_a_member_that_is_chosen_is_seen_whatever_training_began_with(
    tiny_wavlm, tiny_hubert, speech
):
    conf = {"upstreams": [tiny_wavlm, tiny_hubert], "member_warmup": {"num_batches": 9}}
    frontend = EnsembleFrontend(**conf).eval()
    frontend.select([1])
    feats, _ = frontend(*speech)
    assert not feats[..., :32].any() and feats[..., 32:].any()


@pytest.mark.parametrize(
    ("warmup", "message"),
    [
        ({"num_batches": 0}, "num_batches: expected at least 1, found 0"),
        ({"first": "wavlm"}, "missing key 'num_batches'"),
        (
            {"num_batches": 3, "first": "other"},
            "first: expected one of .*, found 'other'",
        ),
    ],
)
def test_warmup_that_makes_no_sense(warmup, message, tiny_wavlm):
    with pytest.raises(EnsembleError, match=f"member_warmup: {message}"):
        EnsembleFrontend(upstreams=[tiny_wavlm], member_warmup=warmup)
