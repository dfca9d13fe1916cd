import itertools
import re

import numpy as np
import pytest
import torch
import torchaudio

from espnet_ensemble.decoding import alignment
from espnet_ensemble.decoding.alignment import TokenSpan, align_tokens, viterbi
from espnet_ensemble.errors import EnsembleError


def random_log_probs(seed, frames, tokens):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, tokens, generator=generator).log_softmax(-1)


def collapse(path):
    return [token for token, _ in itertools.groupby(path) if token != 0]


@pytest.fixture(params=["torchaudio", "without torchaudio"])
def aligner(request, monkeypatch):
    """The test runs with torchaudio's alignment, and with what stands in for it."""
    if request.param == "without torchaudio":
        monkeypatch.setattr(alignment, "_torchaudio", lambda: None)
    elif not hasattr(torchaudio.functional, "forced_align"):
        pytest.skip("this torchaudio cannot align")


@pytest.mark.parametrize("token_ids", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_the_path_is_the_best_of_all_that_spell_the_transcript(token_ids, aligner):
    log_probs = random_log_probs(len(token_ids), 6, 3)
    paths = itertools.product(range(3), repeat=6)
    best = max(
        (path for path in paths if collapse(path) == token_ids),
        key=lambda path: sum(
            log_probs[frame, token] for frame, token in enumerate(path)
        ),
    )
    spans = align_tokens(log_probs, token_ids)
    found = [0] * 6
    for span in spans:
        found[span.start : span.end] = [span.token_id] * (span.end - span.start)
    assert tuple(found) == best
    assert [span.token_id for span in spans] == token_ids


@pytest.mark.parametrize("seed", range(20))
def test_without_torchaudio_the_path_is_torchaudio_s(seed):
    if not hasattr(torchaudio.functional, "forced_align"):
        pytest.skip("this torchaudio cannot align")
    rng = np.random.default_rng(seed)
    token_ids = rng.integers(1, 5, size=rng.integers(1, 30)).tolist()
    log_probs = random_log_probs(seed, 2 * len(token_ids) + int(rng.integers(40)), 5)
    paths, _ = torchaudio.functional.forced_align(
        log_probs[None], torch.tensor([token_ids])
    )
    assert viterbi(log_probs.numpy(), token_ids) == paths[0].tolist()


def test_another_blank(aligner):
    log_probs = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]]).log()
    assert align_tokens(log_probs, [0, 1], blank=2) == [
        TokenSpan(0, 0, 1),
        TokenSpan(1, 2, 3),
    ]


def test_just_enough_frames(aligner):
    spans = align_tokens(random_log_probs(0, 3, 2), [1, 1])
    assert spans == [TokenSpan(1, 0, 1), TokenSpan(1, 2, 3)]


def test_too_few_frames(aligner):
    message = "expected at least 3 frames for a transcript of 2 tokens, found 2"
    with pytest.raises(EnsembleError, match=re.escape(message)):
        align_tokens(random_log_probs(0, 2, 2), [1, 1])


def test_an_empty_transcript_has_no_spans(aligner):
    assert align_tokens(random_log_probs(0, 3, 2), []) == []
    assert align_tokens(random_log_probs(0, 0, 2), []) == []


def test_half_precision(aligner):
    log_probs = random_log_probs(0, 8, 4)
    assert align_tokens(log_probs.half(), [1, 2]) == align_tokens(log_probs, [1, 2])
