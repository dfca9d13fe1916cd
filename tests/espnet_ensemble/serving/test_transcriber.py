import io

import numpy as np
import pytest
import soundfile
from toy_ctc_model import ToyModel, say

from espnet_ensemble.decoding.beam_search import BeamSearch
from espnet_ensemble.decoding.decoder import DecodeConf
from espnet_ensemble.decoding.long_audio import LongAudioConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.serving.recordings import Recording
from espnet_ensemble.serving.transcriber import Failure, Transcriber, Transcript

SPACE, A, B, C = 1, 2, 3, 4


class Unsure(ToyModel):
    """It hardly tells b from c."""

    def log_probs(self, speech, speech_lengths):
        log_probs, lengths = super().log_probs(speech, speech_lengths)
        log_probs[..., C] = log_probs[..., B] - 0.5
        return log_probs.log_softmax(2), lengths


def recording(*tokens, name="a.wav", hotwords=()):
    return Recording(name, say(*tokens).numpy(), 16000, hotwords)


def texts(results):
    return [x.text if isinstance(x, Transcript) else None for x in results]


def test_words_have_times_and_confidences():
    transcriber = Transcriber(ToyModel(), "toy")
    (found,) = transcriber.transcribe([recording(A, B, SPACE, C)])
    assert (found.name, found.text, found.duration) == ("a.wav", "ab<space>c", 0.24)
    first, second = found.words
    assert (first.text, first.start, first.end) == ("ab", 0.0, 0.09)
    assert (second.text, second.start, second.end) == ("c", 0.18, 0.21)
    assert 0.5 < first.confidence < 1


def test_results_are_in_the_order_of_the_recordings():
    recordings = [recording(*[A] * n) for n in (1, 3, 2)]
    transcriber = Transcriber(ToyModel(), "toy")
    assert texts(transcriber.transcribe(recordings)) == ["a", "aaa", "aa"]
    assert [index for index, _ in transcriber.iterate(recordings)] == [1, 2, 0]


def test_files_open_files_and_recordings(tmp_path):
    speech = say(A, B).numpy()
    soundfile.write(tmp_path / "a.wav", speech, 16000, subtype="FLOAT")
    stream = io.BytesIO((tmp_path / "a.wav").read_bytes())
    found = Transcriber(ToyModel(), "toy").transcribe(
        [tmp_path / "a.wav", str(tmp_path / "a.wav"), stream, recording(B)]
    )
    assert texts(found) == ["ab", "ab", "ab", "b"]
    path = str(tmp_path / "a.wav")
    assert [x.name for x in found] == [path, path, "audio", "a.wav"]


def test_what_is_broken_is_named_and_the_others_transcribed(tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    found = Transcriber(ToyModel(), "toy").transcribe(
        [tmp_path / "bad.wav", recording(A)]
    )
    assert texts(found) == [None, "a"]
    assert isinstance(found[0], Failure) and not found[0].was_read
    assert str(found[0]).startswith(f"{tmp_path}/bad.wav: not audio")


def test_it_says_so_too_where_all_are_broken():
    transcriber = Transcriber(ToyModel(max_items=0), "toy")
    (found,) = transcriber.transcribe([recording(A)])
    assert found == Failure("a.wav", "too much", was_read=True)


def test_hot_words_are_for_all_or_for_one():
    transcriber = Transcriber(Unsure(), "toy")
    both = [recording(A, B), recording(A, B, hotwords=("ac",))]
    assert texts(transcriber.transcribe(both)) == ["ab", "ac"]
    assert texts(transcriber.transcribe(both, hotwords=["ac"])) == ["ac", "ac"]
    assert texts(transcriber.transcribe(both)) == ["ab", "ac"]


def test_hot_words_keep_the_rest_of_the_search():
    model = Unsure()
    search = BeamSearch(model.vocabulary.tokens, nbest=1)
    transcriber = Transcriber(model, "toy", search)
    both = [recording(A, B), recording(A, B, hotwords=("ac",))]
    assert texts(transcriber.transcribe(both)) == ["ab", "ac"]


def test_hot_words_that_cannot_be_spelled_concern_their_recording_alone():
    both = [recording(A), recording(A, hotwords=("zebra",))]
    found = Transcriber(ToyModel(), "toy").transcribe(both)
    assert texts(found) == ["a", None]
    assert "zebra" in found[1].reason and found[1].was_read


def test_another_rate_is_refused():
    wrong = Recording("a.wav", np.zeros(100, np.float32), 8000)
    with pytest.raises(EnsembleError, match="expected a recording at 16000 Hz"):
        Transcriber(ToyModel(), "toy").transcribe([wrong])


def test_one_path_is_no_list_of_paths():
    with pytest.raises(EnsembleError, match="a.wav: expected a list of recordings"):
        Transcriber(ToyModel(), "toy").transcribe("a.wav")


def test_progress_is_told_within_long_recordings():
    segments = LongAudioConf(
        long_seconds=1.0, segment_seconds=0.7, window_seconds=1.0, overlap_seconds=0.2
    )
    transcriber = Transcriber(ToyModel(), "toy", conf=DecodeConf(long_audio=segments))
    told = []
    recordings = [recording(*[A, B] * 25), recording(A)]
    found = dict(
        transcriber.iterate(recordings, progress=lambda *args: told.append(args))
    )
    total = sum(x.duration for x in recordings)
    assert len(found) == 2
    assert len(told) > 3
    assert {x for x, _ in told} == {total}
    assert sum(x for _, x in told) == pytest.approx(total)
