import re

import pytest
import torch

from espnet_ensemble.decoding.averaging import average_posteriors
from espnet_ensemble.errors import EnsembleError


def test_the_mean_of_probabilities():
    members = [torch.randn(7, 5).softmax(-1) for _ in range(3)]
    found = average_posteriors([member.log() for member in members])
    assert torch.allclose(found.exp(), torch.stack(members).mean(0))


def test_what_one_holds_impossible_others_may_not():
    log_probs = [torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log()]
    assert average_posteriors(log_probs).exp().tolist() == [[0.5, 0.5]]


def test_other_frames_or_tokens():
    message = "from all systems, found (3, 5), (4, 5)"
    with pytest.raises(EnsembleError, match=re.escape(message)):
        average_posteriors([torch.zeros(3, 5), torch.zeros(4, 5)])
