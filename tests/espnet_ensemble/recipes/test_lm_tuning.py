import pytest
import torch

from espnet_ensemble.decoding.beam_search import BeamConf
from espnet_ensemble.decoding.ngram import estimate_ngram
from espnet_ensemble.decoding.posteriors import PosteriorWriter
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.lm_tuning import Trial, best_trial, try_weights

TOKENS = ("<blank>", "<space>", "a", "b", "c", "n")


@pytest.fixture
def posteriors(tmp_path):
    """Those of two utterances, "can" that sounds like "ban", and "a can"."""
    probs = torch.full((3, 6), 1e-4)
    probs[torch.arange(3), torch.tensor([4, 2, 5])] = 0.5
    probs[0, 3] = 0.9
    clear = torch.eye(6)[[2, 1, 4, 2, 5]] * 0.98 + 0.001
    with PosteriorWriter(tmp_path / "posteriors", TOKENS, 0.02) as writer:
        writer.write("utt1", probs.log())
        writer.write("utt2", clear.log())
    return str(tmp_path / "posteriors")


@pytest.fixture
def conf(tmp_path):
    estimate_ngram([["a", "can"], ["can"]], 2).write_arpa(tmp_path / "lm.arpa")
    return BeamConf(ngram_file=tmp_path / "lm.arpa")


def test_every_pair_is_tried(posteriors, conf):
    pytest.importorskip("kenlm")
    refs = {"utt1": "can", "utt2": "a can", "utt3": "not decoded"}
    trials = list(try_weights(posteriors, refs, conf, [0.0, 1.0], [0.0, 0.5], nj=2))
    assert trials == [
        Trial(0.0, 0.0, errors=1, words=3),
        Trial(0.0, 0.5, errors=1, words=3),
        Trial(1.0, 0.0, errors=0, words=3),
        Trial(1.0, 0.5, errors=0, words=3),
    ]
    assert best_trial(trials) == trials[2]
    assert trials[0].error_rate == pytest.approx(100 / 3)


def test_references_must_be_there(posteriors, conf):
    with pytest.raises(EnsembleError, match="references of all, found none of 'utt2'"):
        list(try_weights(posteriors, {"utt1": "can"}, conf, [1.0], [0.0]))


def test_without_a_language_model_there_is_nothing_to_tune(posteriors):
    with pytest.raises(EnsembleError, match="--ngram_file is required"):
        list(try_weights(posteriors, {}, BeamConf(), [1.0], [0.0]))
