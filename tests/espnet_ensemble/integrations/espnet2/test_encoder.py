import torch

from espnet_ensemble import IdentityEncoder


def test_identity():
    encoder = IdentityEncoder(input_size=3)
    feats, lengths = torch.randn(2, 4, 3), torch.tensor([4, 1])
    out, out_lengths, states = encoder(feats, lengths)
    assert out is feats and out_lengths is lengths and states is None
    assert encoder.output_size() == 3
    assert not list(encoder.parameters())
