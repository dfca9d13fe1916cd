"""Batches, windows and what goes wrong: with a model that is none."""

import pytest
import torch
from toy_ctc_model import HOP, ToyModel, ToySource, say

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.decoding.decoder import DecodeConf, Decoded, Decoder, Failed
from espnet_ensemble.decoding.greedy import GreedySearch, best_paths
from espnet_ensemble.decoding.long_audio import LongAudioConf
from espnet_ensemble.errors import EnsembleError

UTTERANCES = {
    "one": say(2),
    "two": say(2, 3),
    "three": say(4, 3, 2),
    "four": say(4, 4, 1, 2),
}
EXPECTED = {"one": (2,), "two": (2, 3), "three": (4, 3, 2), "four": (4, 4, 1, 2)}


def decode(items, model=None, **conf):
    decoder = Decoder(model or ToyModel(), GreedySearch(), DecodeConf(**conf))
    return {result.utt_id: result for result in decoder.decode(ToySource(items))}


def token_ids(results):
    return {
        utt_id: result.hypotheses[0].token_ids
        for utt_id, result in results.items()
        if isinstance(result, Decoded)
    }


def test_every_utterance_gets_its_transcript():
    results = decode(UTTERANCES)
    assert token_ids(results) == EXPECTED
    assert results["two"].seconds == len(UTTERANCES["two"]) / 16000
    assert all(result.log_probs is None for result in results.values())


@pytest.mark.parametrize("conf", [{"batch_seconds": 0.01}, {"batch_size": 1}, {}])
def test_a_transcript_does_not_depend_on_its_batch(conf):
    assert token_ids(decode(UTTERANCES, **conf)) == EXPECTED


def test_batches_are_of_similar_length_and_within_the_budget():
    model = ToyModel()
    decode(UTTERANCES, model, batch_seconds=8 * 6 * HOP / 16000)
    unit = 6 * HOP
    assert model.batches == [[4 * unit, 3 * unit], [2 * unit, unit]]


def test_where_a_model_sees_the_padding_a_batch_is_of_one_length():
    model = ToyModel(takes_padding=False)
    found = decode({**UTTERANCES, "again": UTTERANCES["two"]}, model)
    assert token_ids(found) == {**EXPECTED, "again": (2, 3)}
    assert all(len(set(lengths)) == 1 for lengths in model.batches)
    assert [len(lengths) for lengths in model.batches] == [1, 1, 2, 1]


def test_where_memory_runs_out_batches_are_halved():
    model = ToyModel(max_items=len(UTTERANCES["four"]))
    assert token_ids(decode(UTTERANCES, model)) == EXPECTED
    assert len(model.batches) > 4


def test_an_utterance_that_does_not_fit_alone_is_named():
    model = ToyModel(max_items=len(UTTERANCES["three"]))
    results = decode(UTTERANCES, model)
    assert results["four"] == Failed("four", "too much", was_read=True)
    assert token_ids(results) == {k: v for k, v in EXPECTED.items() if k != "four"}


def test_what_cannot_be_read_is_named_and_the_rest_decoded(caplog):
    items = {**UTTERANCES, "bad": AudioError("x.wav: no such file")}
    results = decode(items)
    assert results["bad"] == Failed("bad", "x.wav: no such file")
    assert token_ids(results) == EXPECTED
    assert "bad: no transcript: x.wav: no such file" in caplog.text


def test_a_set_may_have_nothing_that_can_be_read():
    assert token_ids(decode({"bad": AudioError("x.wav: no such file")})) == {}


def test_or_ends_decoding_if_that_is_wanted():
    items = {**UTTERANCES, "bad": AudioError("x.wav: no such file")}
    with pytest.raises(EnsembleError, match=r"bad: x\.wav: no such file"):
        decode(items, skip=False)


def test_what_all_utterances_share_ends_decoding():
    with pytest.raises(EnsembleError, match="expected audio at 16000 Hz"):
        decode({"a": say(2), "b": EnsembleError("expected audio at 16000 Hz")})
    with pytest.raises(EnsembleError, match="no utterance could be decoded; one: too"):
        decode(UTTERANCES, ToyModel(max_items=1))


def test_posteriors_that_are_no_numbers_are_no_transcript():
    class Broken(ToyModel):
        def log_probs(self, speech, speech_lengths):
            log_probs, lengths = super().log_probs(speech, speech_lengths)
            log_probs[(speech_lengths == len(UTTERANCES["one"])).nonzero()] = torch.nan
            return log_probs, lengths

    results = decode(UTTERANCES, Broken())
    assert "NaN" in results["one"].reason
    assert set(token_ids(results)) == {"two", "three", "four"}


def test_posteriors_are_kept_if_that_is_wanted():
    results = decode(UTTERANCES, keep_posteriors=True)
    for utt_id, samples in UTTERANCES.items():
        expected, _ = ToyModel().log_probs(samples[None], torch.tensor([len(samples)]))
        assert torch.equal(results[utt_id].log_probs, expected[0])


def test_words_are_found_if_that_is_wanted():
    assert decode(UTTERANCES)["one"].words is None
    results = decode({"u": say(2, 3, 1, 4, frames=3)}, find_words=True)
    first, second = results["u"].words
    assert (first.text, first.start, first.end) == ("ab", 0.0, pytest.approx(0.09))
    assert (second.text, second.start) == ("c", pytest.approx(0.18))
    assert 0.5 < second.confidence < 1


@pytest.mark.parametrize("num_tokens", [61, 67, 100, 333])
def test_windows_give_what_the_whole_gives(num_tokens):
    generator = torch.Generator().manual_seed(num_tokens)
    tokens = torch.randint(1, 5, (num_tokens,), generator=generator).tolist()
    long = say(*tokens, frames=5)[:, None]  # features
    windows = LongAudioConf(long_seconds=6, window_seconds=3, overlap_seconds=1)
    model = ToyModel()
    keep = {"keep_posteriors": True, "find_words": True}
    found = decode({"a": long}, model, long_audio=windows, **keep)["a"]
    whole = decode({"a": long}, **keep)["a"]
    assert len(model.batches) > 1 and max(model.batches)[0] <= 4 * 16000
    assert found.hypotheses[0].token_ids == tuple(tokens)
    assert found.hypotheses[0].score == pytest.approx(whole.hypotheses[0].score)
    assert torch.equal(found.log_probs, whole.log_probs)
    assert found.words == whole.words


def utterances_with_pauses(num_utts):
    """Samples of a recording, and what is said between its pauses."""
    generator = torch.Generator().manual_seed(num_utts)
    spoken = torch.randint(2, 5, (num_utts, 10), generator=generator).tolist()
    pause = torch.zeros(30 * HOP)
    parts = [torch.cat([say(*token_ids, frames=5), pause]) for token_ids in spoken]
    return torch.cat(parts), spoken


SEGMENTS = LongAudioConf.of(1.3)


@pytest.mark.parametrize("conf", [{}, {"batch_size": 1}, {"batch_seconds": 5}])
def test_segments_give_words_and_times_of_the_whole(conf):
    samples, spoken = utterances_with_pauses(9)
    model = ToyModel()
    keep = {"keep_posteriors": True, "find_words": True, "long_audio": SEGMENTS}
    found = decode({"a": samples}, model, **keep, **conf)["a"]
    texts = ["".join("  abc"[i] for i in token_ids) for token_ids in spoken]
    assert [word.text for word in found.words] == texts
    starts = [word.start for word in found.words]
    assert starts == pytest.approx([1.3 * i for i in range(9)])
    assert len(found.log_probs) == len(samples) // HOP
    (again,) = best_paths(found.log_probs[None], torch.tensor([len(found.log_probs)]))
    assert again.token_ids == found.hypotheses[0].token_ids
    assert len(model.batches) == {"batch_size": 9, "batch_seconds": 3}.get(
        next(iter(conf), None), 1
    )


def test_where_memory_runs_out_batches_of_segments_are_halved():
    samples, spoken = utterances_with_pauses(9)
    model = ToyModel(max_items=3 * 16000)
    found = decode({"a": samples}, model, long_audio=SEGMENTS, find_words=True)["a"]
    assert len(found.words) == len(spoken)


def test_where_a_model_sees_the_padding_segments_are_decoded_one_by_one():
    model = ToyModel(takes_padding=False)
    samples, spoken = utterances_with_pauses(9)
    found = decode({"a": samples}, model, long_audio=SEGMENTS, find_words=True)["a"]
    assert len(found.words) == len(spoken)
    assert all(len(lengths) == 1 for lengths in model.batches)


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(EnsembleError, match="batch_size: expected a number above 0"):
        DecodeConf(batch_size=0)
    with pytest.raises(EnsembleError, match="overlap_seconds: expected up to half"):
        LongAudioConf(overlap_seconds=30)
    with pytest.raises(EnsembleError, match="segment_seconds: expected a number above"):
        LongAudioConf(segment_seconds=0)
    with pytest.raises(EnsembleError, match="window_seconds: expected up to"):
        LongAudioConf(long_seconds=10)
