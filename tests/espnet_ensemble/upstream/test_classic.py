"""Classic features: S3PRL's, without S3PRL."""

import pytest
import torch

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.upstream import UpstreamConf, UpstreamError, load_upstream
from espnet_ensemble.upstream.classic import ClassicUpstream
from espnet_ensemble.upstream.origin import hub_id
from espnet_ensemble.upstream.s3prl import load_s3prl
from espnet_ensemble.upstream.s3prl_hub import is_installed


def load(name, **options):
    return load_upstream(UpstreamConf(name, **options))


@torch.no_grad()
@pytest.mark.parametrize("name", ["fbank", "mfcc"])
def test_they_are_those_of_s3prl(name, speech):
    if not is_installed():
        pytest.skip("S3PRL is not installed")
    ours, theirs = load(name), load_s3prl(name)
    assert isinstance(ours, ClassicUpstream)
    (feats,), frames = ours(*speech)
    (expected,), expected_frames = theirs(*speech)
    assert torch.equal(frames, expected_frames)
    for item, number in enumerate(frames.tolist()):
        torch.testing.assert_close(feats[item, :number], expected[item, :number])
    # A checkpoint that was trained over S3PRL's goes on.
    assert ours.fingerprint == theirs.fingerprint
    assert ours.hop_length == theirs.hop_length
    torch.testing.assert_close(ours.probe(), theirs.probe())


@torch.no_grad()
@pytest.mark.parametrize("name", ["fbank", "mfcc"])
def test_an_utterance_is_the_same_alone(name, speech):
    (feats,), frames = load(name)(*speech)
    for item, (wav, length) in enumerate(zip(*speech, strict=True)):
        (alone,), (number,) = load(name)(wav[None, :length], length[None])
        assert number == frames[item]
        assert torch.equal(alone[0], feats[item, :number])


@torch.no_grad()
def test_options(speech):
    plain = load("fbank", extra_conf=dict(num_mel_bins=40, delta_order=0, cmvn=False))
    (feats,), _ = plain(*speech)
    assert feats.shape == (5, 50, plain.feature_size) and plain.feature_size == 40
    (normal,), _ = load("fbank", extra_conf={"num_mel_bins": 40, "delta_order": 0})(
        *speech
    )
    first = feats[0, :48]
    expected = (first - first.mean(dim=0)) / first.std(dim=0)
    torch.testing.assert_close(normal[0, :48], expected)
    assert (
        load("mfcc", extra_conf={"num_ceps": 20, "delta_order": 1}).feature_size == 40
    )


def test_what_cannot_be_is_refused():
    with pytest.raises(EnsembleError, match="unknown key 'num_ceps'; expected num_mel"):
        load("fbank", extra_conf={"num_ceps": 13})
    with pytest.raises(UpstreamError, match="at least one feature"):
        load("mfcc", extra_conf={"num_ceps": 0})
    with pytest.raises(UpstreamError, match="it has no path_or_url"):
        load("fbank", path_or_url="https://host/a.pt")
    with pytest.raises(EnsembleError, match="layer: 1 is out of range"):
        load("fbank", layer=1)
    assert hub_id(UpstreamConf("fbank")) is None
