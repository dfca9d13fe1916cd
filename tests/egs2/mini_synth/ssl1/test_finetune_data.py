"""Labelled speech for fine-tuning."""

import doctest

import numpy as np
import pytest
import soundfile

from espnet_ensemble.data.datadir import write
from espnet_ensemble.data.tables import DataError


def test_batches_keep_to_their_limit(local, songs, sing, texts):
    data = local("finetune_data")
    utterances = data.read_labelled(songs, 16000)
    assert {utt.utt_id: utt.text for utt in utterances} == texts
    for utterance in utterances:
        np.testing.assert_allclose(utterance.samples, sing(utterance.text), atol=1e-4)
    batches = data.make_batches(utterances, 20000)
    ids = [[utt.utt_id for utt in batch] for batch in batches]
    assert ids == [["u5", "u1"], ["u2"], ["u6"], ["u3"], ["u4"]]


def test_a_tone_is_as_much_higher_as_it_is_shorter(local, sing):
    data = local("finetune_data")
    utterance = data.LabelledSpeech("u", sing("a").astype(np.float32), "a")
    rng, found = np.random.default_rng(0), set()
    for _ in range(20):
        samples = data.perturb_speed(utterance, [0.8, 1, 1.25], 16000, rng).samples
        peak = np.abs(np.fft.rfft(samples)).argmax()
        found.add((len(samples), round(peak * 16000 / len(samples))))
    assert found == {(5000, 240), (4000, 300), (3200, 375)}


def test_errors_name_the_place(local, tmp_path):
    read_labelled = local("finetune_data").read_labelled
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    tables = {"wav.scp": {"a": f"{tmp_path}/a.wav"}, "text": {"a": "b"}}
    write(tmp_path, {**tables, "utt2spk": {"a": "a"}})
    with pytest.raises(DataError, match="a: .*/a.wav: expected 16000 Hz, found 8000"):
        read_labelled(tmp_path, 16000)
    tables = {"feats.scp": {"a": "a.ark:2"}, "text": {"a": "a"}}
    write(tmp_path, {**tables, "utt2spk": {"a": "a"}})
    with pytest.raises(DataError, match=r"wav.scp: expected this file, found none"):
        read_labelled(tmp_path, 16000)


def test_examples_in_docstrings(local):
    results = doctest.testmod(local("finetune_data"))
    assert results.attempted and not results.failed
