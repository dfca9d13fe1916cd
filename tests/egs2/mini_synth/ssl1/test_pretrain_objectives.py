"""What each family learns from unlabelled speech."""

import numpy as np
import pytest
import torch

from espnet_ensemble.errors import EnsembleError

FAMILIES = ("hubert", "wav2vec2", "wavlm")


def test_mixing_touches_half_of_a_window_at_most(local):
    mix = local("pretrain_objectives").mix
    wavs = torch.randn(8, 16000, generator=torch.Generator().manual_seed(0))
    changed = (mix(wavs, np.random.default_rng(0), 1.0) != wavs).sum(dim=1)
    assert 0 < changed.min() and changed.max() <= 8000
    assert torch.equal(wavs, mix(wavs, np.random.default_rng(0), 0.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_start_from_a_finished_model(local, upstreams, family):
    make_objective = local("pretrain_objectives").make_objective
    torch.manual_seed(1)
    fresh = make_objective(family, 8)
    started = make_objective(family, 9, upstreams(family)).train()
    ours, fresh = started.model.state_dict(), fresh.model.state_dict()
    theirs = type(started.model).from_pretrained(upstreams(family)).state_dict()
    assert ours.keys() == fresh.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not all(torch.equal(ours[key], fresh[key]) for key in ours)


def test_start_from_a_model_of_another_kind_is_refused(local, upstreams):
    make_objective = local("pretrain_objectives").make_objective
    with pytest.raises(EnsembleError, match="expected a WavLMModel.*found HubertModel"):
        make_objective("wavlm", 8, upstreams("hubert"))
