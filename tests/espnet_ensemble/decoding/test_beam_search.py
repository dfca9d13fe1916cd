import pytest
import torch

from espnet_ensemble.decoding.beam import BeamOptions, beam_search
from espnet_ensemble.decoding.beam_search import BeamConf, BeamSearch
from espnet_ensemble.decoding.ngram import estimate_ngram
from espnet_ensemble.errors import EnsembleError

TOKENS = ["<blank>", "<unk>", "<space>", "a", "b", "c", "n", "<sos/eos>"]


def log_probs_of(text, instead):
    """Posteriors of a text, whose first letter sounds more like another."""
    probs = torch.full((len(text), len(TOKENS)), 1e-4)
    ids = [TOKENS.index("<space>" if char == " " else char) for char in text]
    probs[torch.arange(len(text)), ids] = 0.5
    probs[0, TOKENS.index(instead)] = 0.9
    return probs.log()


def texts(search, utt_ids, *utterances):
    """The best text of each utterance, all in one batch."""
    lengths = torch.tensor([len(rows) for rows in utterances])
    batch = torch.nn.utils.rnn.pad_sequence(
        list(utterances), batch_first=True, padding_value=float("nan")
    )
    found = search(utt_ids, batch, lengths)
    ids = [best.token_ids for best, *_ in found]
    return ["".join(TOKENS[i].replace("<space>", " ") for i in row) for row in ids]


def test_each_utterance_of_a_batch_is_searched_alone():
    short, long = log_probs_of("can", "b"), log_probs_of("a can", "b")
    search = BeamSearch(TOKENS, BeamConf(BeamOptions(beam_size=4)), nbest=3)
    found = search(
        ["utt1", "utt2"],
        torch.nn.utils.rnn.pad_sequence([short, long], batch_first=True),
        torch.tensor([3, 5]),
    )
    for hypotheses, rows in zip(found, [short, long], strict=True):
        assert hypotheses == beam_search(rows, BeamOptions(beam_size=4), nbest=3)
        assert len(hypotheses) == 3
    assert search.name == "beam 4"


def test_hot_words_are_for_all_utterances_or_for_some(tmp_path):
    (tmp_path / "hotwords").write_text("can\n\n")
    (tmp_path / "utt2hotwords").write_text("utt2 a ban, can\nutt3 nab\n")
    utterances = [log_probs_of("can", "b")] * 2
    for_all = BeamSearch(TOKENS, BeamConf(hotwords=tmp_path / "hotwords"))
    assert texts(for_all, ["utt1", "utt2"], *utterances) == ["can", "can"]
    for_one = BeamSearch(TOKENS, BeamConf(utt2hotwords=tmp_path / "utt2hotwords"))
    assert texts(for_one, ["utt1", "utt2"], *utterances) == ["ban", "can"]
    light = BeamConf(hotwords=tmp_path / "hotwords", hotwords_weight=0.1)
    assert texts(BeamSearch(TOKENS, light), ["utt1"], utterances[0]) == ["ban"]


def test_a_lexicon_may_have_pronunciations(tmp_path):
    (tmp_path / "lexicon").write_text("can K AE N\na AH\n")
    search = BeamSearch(TOKENS, BeamConf(lexicon=tmp_path / "lexicon"))
    assert texts(search, ["utt1"], log_probs_of("can", "b")) == ["can"]


def test_a_language_model_is_weighted(tmp_path):
    pytest.importorskip("kenlm")
    estimate_ngram([["a", "can"], ["can"]], 2).write_arpa(tmp_path / "lm.arpa")
    log_probs = log_probs_of("can", "b")
    for weight, expected in [(0.0, "ban"), (1.0, "can")]:
        conf = BeamConf(ngram_file=tmp_path / "lm.arpa", ngram_weight=weight)
        assert texts(BeamSearch(TOKENS, conf), ["utt1"], log_probs) == [expected]


@pytest.mark.parametrize("name", ["lexicon", "hotwords", "utt2hotwords"])
def test_a_missing_file_is_named(name, tmp_path):
    with pytest.raises(EnsembleError, match="nowhere"):
        BeamSearch(TOKENS, BeamConf(**{name: tmp_path / "nowhere"}))


@pytest.mark.parametrize("name", ["lexicon", "hotwords", "utt2hotwords"])
def test_words_in_other_letters_are_refused(name, tmp_path):
    (tmp_path / "file").write_text("utt1 CAN\n" if name == "utt2hotwords" else "CAN\n")
    with pytest.raises(EnsembleError, match="expected words .* found 'CAN'"):
        BeamSearch(TOKENS, BeamConf(**{name: tmp_path / "file"}))
