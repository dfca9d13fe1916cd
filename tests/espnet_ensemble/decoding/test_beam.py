import itertools
import math
from collections import defaultdict

import pytest
import torch

from espnet_ensemble.decoding.beam import NEVER, BeamOptions, beam_search
from espnet_ensemble.errors import EnsembleError

EVERYTHING = BeamOptions(
    beam_size=100_000, token_threshold=-math.inf, beam_threshold=math.inf
)


def random_log_probs(seed, frames, tokens, sharpness=1.0):
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(frames, tokens, generator=generator)
    return logits.double().log_softmax(-1)


def all_transcripts(log_probs, blank_id=0):
    """Transcript -> logarithm of its probability, by walking all paths."""
    frames, tokens = log_probs.shape
    probs = defaultdict(float)
    for path in itertools.product(range(tokens), repeat=frames):
        transcript = tuple(token for token, _ in itertools.groupby(path))
        transcript = tuple(token for token in transcript if token != blank_id)
        log_prob = sum(log_probs[frame, token] for frame, token in enumerate(path))
        probs[transcript] += math.exp(log_prob)
    return {transcript: math.log(prob) for transcript, prob in probs.items()}


class BigramScorer:
    """A random score for each pair of neighbours, and for the last token."""

    def __init__(self, seed, tokens):
        generator = torch.Generator().manual_seed(seed)
        self.scores = torch.randn(tokens, tokens, generator=generator).tolist()

    def start(self):
        return 0

    def extend(self, state, token_id):
        return self.scores[state][token_id], token_id

    def end(self, state):
        return self.scores[state][0]

    def of(self, transcript):
        return sum(
            self.scores[a][b] for a, b in itertools.pairwise((0, *transcript, 0))
        )


class Forbid:
    """One token never comes, or the transcript never ends with it."""

    def __init__(self, token, at_the_end=False):
        self.token, self.at_the_end = token, at_the_end

    def start(self):
        return None

    def extend(self, state, token_id):
        forbidden = token_id == self.token and not self.at_the_end
        return (NEVER if forbidden else 0.0), token_id

    def end(self, state):
        return NEVER if self.at_the_end and state == self.token else 0.0


@pytest.mark.parametrize("seed", range(20))
def test_without_pruning_the_search_is_exhaustive(seed):
    log_probs = random_log_probs(seed, frames=1 + seed % 6, tokens=2 + seed % 3)
    expected = all_transcripts(log_probs)
    found = beam_search(log_probs, EVERYTHING, nbest=len(expected) + 1)
    assert {hyp.token_ids: hyp.score for hyp in found} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(10))
def test_scorers_add_up_with_the_paths(seed):
    log_probs = random_log_probs(seed, frames=5, tokens=4)
    scorers = [BigramScorer(seed, 4), BigramScorer(seed + 1, 4)]
    expected = {
        transcript: score + sum(scorer.of(transcript) for scorer in scorers)
        for transcript, score in all_transcripts(log_probs).items()
    }
    found = beam_search(log_probs, EVERYTHING, scorers, nbest=len(expected))
    assert {hyp.token_ids: hyp.score for hyp in found} == pytest.approx(expected)


def test_the_blank_may_be_any_token():
    log_probs = random_log_probs(0, frames=5, tokens=3)
    expected = all_transcripts(log_probs, blank_id=2)
    found = beam_search(log_probs, EVERYTHING, nbest=len(expected), blank_id=2)
    assert {hyp.token_ids: hyp.score for hyp in found} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_come_first_and_none_comes_twice(seed):
    log_probs = random_log_probs(seed, frames=40, tokens=8, sharpness=3.0)
    found = beam_search(log_probs, BeamOptions(beam_size=20), nbest=7)
    scores = [hyp.score for hyp in found]
    assert scores == sorted(scores, reverse=True)
    assert len({hyp.token_ids for hyp in found}) == len(found) == 7


@pytest.mark.parametrize("seed", range(5))
def test_pruning_loses_nothing_where_the_posteriors_are_clear(seed):
    logits = random_log_probs(seed, frames=60, tokens=12)
    generator = torch.Generator().manual_seed(seed)
    logits[torch.arange(60), torch.randint(12, (60,), generator=generator)] += 8
    log_probs = logits.log_softmax(-1)
    pruned = beam_search(log_probs)[0]
    wide = beam_search(log_probs, BeamOptions(100, -math.inf, math.inf))[0]
    assert pruned.token_ids == wide.token_ids
    assert pruned.score == pytest.approx(wide.score, abs=0.05)


@pytest.mark.parametrize("seed", range(10))
def test_flashlight_finds_the_same(seed):
    decoders = pytest.importorskip("flashlight.lib.text.decoder")
    log_probs = random_log_probs(seed, frames=4 + seed % 3, tokens=3 + seed % 3)
    options = decoders.LexiconFreeDecoderOptions(
        beam_size=100_000,
        beam_size_token=log_probs.shape[1],
        beam_threshold=1e9,
        lm_weight=0,
        sil_score=0,
        log_add=True,
        criterion_type=decoders.CriterionType.CTC,
    )
    # No token is silence; 0 is the blank.
    decoder = decoders.LexiconFreeDecoder(options, decoders.ZeroLM(), -1, 0, [])
    emissions = log_probs.float().numpy()
    theirs = decoder.decode(emissions.ctypes.data, *emissions.shape)[0]
    tokens = [token for token, _ in itertools.groupby(theirs.tokens) if token > 0]
    ours = beam_search(log_probs, EVERYTHING)[0]
    assert ours.token_ids == tuple(tokens)
    assert ours.score == pytest.approx(theirs.score, abs=1e-4)


def test_no_frames_are_an_empty_transcript():
    (found,) = beam_search(torch.zeros(0, 4), nbest=3)
    assert found.token_ids == () and found.score == 0


def test_a_forbidden_token_does_not_come():
    log_probs = random_log_probs(3, frames=5, tokens=3)
    expected = {
        transcript: score
        for transcript, score in all_transcripts(log_probs).items()
        if 2 not in transcript
    }
    found = beam_search(log_probs, EVERYTHING, [Forbid(2)], nbest=len(expected) + 1)
    assert {hyp.token_ids: hyp.score for hyp in found} == pytest.approx(expected)


def test_where_all_is_forbidden_frame_by_frame_the_transcript_waits():
    log_probs = torch.tensor([[1e-12, 1 - 1e-12]] * 50, dtype=torch.double).log()
    (found,) = beam_search(log_probs, scorers=[Forbid(1)])
    assert found.token_ids == () and math.isfinite(found.score)


def test_a_transcript_that_must_not_end_loses_its_last_tokens():
    log_probs = torch.tensor([[0.01, 0.98, 0.01], [0.01, 0.01, 0.98]]).log()
    (found,) = beam_search(
        log_probs, BeamOptions(beam_size=1), [Forbid(2, at_the_end=True)]
    )
    assert found.token_ids == (1,)


def test_a_long_utterance_is_searched():
    log_probs = random_log_probs(0, frames=3000, tokens=4, sharpness=9.0)
    (found,) = beam_search(log_probs, BeamOptions(beam_size=2))
    assert len(found.token_ids) > 1000


def test_a_beam_without_width_is_refused():
    with pytest.raises(EnsembleError, match="beam_size must be 1 or more, found 0"):
        BeamOptions(beam_size=0)
