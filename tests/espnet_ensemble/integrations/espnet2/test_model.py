"""ESPnet's trained models, as decoding takes them."""

from argparse import Namespace

import pytest
import torch
import yaml
from espnet2.tasks.asr import ASRTask
from versions import ESPNET

from espnet_ensemble.decoding.beam_search import BeamSearch
from espnet_ensemble.decoding.greedy import GreedySearch
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2.model import load_ctc_model, read_vocabulary


@pytest.fixture
def exp(tmp_path, build_model, tiny_wavlm, tiny_hubert):
    build_model(tmp_path / "exp", [tiny_wavlm, tiny_hubert])
    return tmp_path / "exp"


def load(exp, **options):
    return load_ctc_model(None, exp / "valid.ave_2best.pth", **options)


def change(exp, **options):
    conf = yaml.safe_load((exp / "config.yaml").read_text())
    (exp / "config.yaml").write_text(yaml.safe_dump({**conf, **options}))


def exchange_encoder(exp, encoder, conf):
    change(exp, encoder=encoder, encoder_conf=conf)
    args = Namespace(**yaml.safe_load((exp / "config.yaml").read_text()))
    weights = ASRTask.build_model(args).state_dict()
    torch.save(weights, exp / "valid.ave_2best.pth")


def test_posteriors_are_espnets(exp, speech):
    model = load(exp)
    theirs, _ = ASRTask.build_model_from_file(
        exp / "config.yaml", exp / "valid.ave_2best.pth"
    )
    with torch.no_grad():
        encoded, lengths = theirs.eval().encode(*speech)
        expected = theirs.ctc.log_softmax(encoded)
    log_probs, num_frames = model.log_probs(*speech)
    assert num_frames.tolist() == lengths.tolist()
    assert log_probs.dtype == torch.float32
    for ours, other, frames in zip(log_probs, expected, lengths, strict=True):
        spoken = len(model.vocabulary) - 1  # all but <sos/eos>
        torch.testing.assert_close(ours[:frames, :spoken], other[:frames, :spoken])


def test_what_a_decoder_begins_and_ends_with_is_no_text(exp, speech):
    model = load(exp)
    assert model.vocabulary.tokens[-1] == "<sos/eos>"
    model.model.ctc.ctc_lo.bias.data[-1] = 100
    log_probs, num_frames = model.log_probs(*speech)
    assert not (log_probs.argmax(2) == len(model.vocabulary) - 1).any()
    for search in (GreedySearch(), BeamSearch(model.vocabulary.tokens)):
        for (best,) in search(["a"] * len(log_probs), log_probs, num_frames):
            assert not {0, len(model.vocabulary) - 1} & set(best.token_ids)


def test_features_give_what_their_speech_gives(exp, speech):
    model = load(exp)
    hidden_states, feats_lens = model.model.frontend.extract(*speech)
    feats = torch.cat([state for states in hidden_states for state in states], dim=2)
    expected, _ = model.log_probs(*speech)
    found, _ = model.log_probs(feats, feats_lens)
    for row, n in enumerate(feats_lens):
        torch.testing.assert_close(found[row, :n], expected[row, :n])


def test_it_knows_its_tokens_rate_and_frames(exp):
    model = load(exp)
    assert model.fs == 16000
    assert model.frame_seconds == 0.02
    assert model.vocabulary.tokens == ("<blank>", "<unk>", "a", "b", "c", "<sos/eos>")
    assert model.vocabulary.blank_id == 0
    assert model.vocabulary.word_boundary == "<space>"
    assert model.vocabulary.to_text([2, 3, 3]) == "abb"


def test_an_encoder_that_sees_the_padding_is_found_out(exp):
    assert load(exp).takes_padding
    conf = dict(input_layer="linear", output_size=32, linear_units=64, num_blocks=1)
    exchange_encoder(exp, "conformer", conf)
    assert not load(exp).takes_padding
    # From some version of 2026 on, its convolutions leave out the padding; the relative
    # positions that are its default still count the frames of the batch.
    exchange_encoder(exp, "conformer", {**conf, "rel_pos_type": "latest"})
    assert load(exp).takes_padding == (ESPNET > 202511)


def test_recurrent_encoders_get_the_longest_first(exp, speech):
    exchange_encoder(exp, "rnn", dict(num_layers=1, hidden_size=8, output_size=8))
    model = load(exp)
    assert model.takes_padding
    assert model.frame_seconds == 2 * 0.02  # its first layer leaves out every second
    log_probs, num_frames = model.log_probs(*speech)
    assert log_probs.shape[:2] == (5, num_frames.max())


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_types_give_nearly_the_same(dtype, exp, speech):
    expected, (frames, *_) = load(exp).log_probs(*speech)
    found, _ = load(exp, dtype=dtype).log_probs(*speech)
    torch.testing.assert_close(
        found[0, :frames], expected[0, :frames], atol=0.1, rtol=0
    )


def test_a_decoder_is_refused_and_where_to_go_is_said(exp):
    conf = dict(attention_heads=2, linear_units=8, num_blocks=1)
    change(
        exp, decoder="transformer", decoder_conf=conf, model_conf={"ctc_weight": 0.5}
    )
    with pytest.raises(EnsembleError, match=r"decoder.*espnet2\.bin\.asr_inference"):
        load(exp)


def test_weights_of_another_model_are_refused(exp):
    weights = torch.load(exp / "valid.ave_2best.pth", weights_only=True)
    weights.pop("ctc.ctc_lo.bias")
    torch.save(weights, exp / "valid.ave_2best.pth")
    with pytest.raises(EnsembleError, match=r"(?s)ctc_lo\.bias"):
        load(exp)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x04N."])
def test_what_holds_no_weights_is_refused(content, exp):
    (exp / "valid.ave_2best.pth").write_bytes(content)
    with pytest.raises(EnsembleError, match="not the weights of this model"):
        load(exp)


def test_files_that_are_missing_are_named(exp):
    with pytest.raises(EnsembleError, match=r"none\.pth: expected a file"):
        load_ctc_model(None, exp / "none.pth")
    with pytest.raises(EnsembleError, match=r"none\.yaml: expected a file"):
        load_ctc_model(exp / "none.yaml", exp / "valid.ave_2best.pth")


def test_the_vocabulary_without_the_model(exp):
    assert read_vocabulary(exp / "config.yaml") == load(exp).vocabulary
    change(exp, token_list=None)
    with pytest.raises(EnsembleError, match="expected token_list and token_type"):
        read_vocabulary(exp / "config.yaml")
