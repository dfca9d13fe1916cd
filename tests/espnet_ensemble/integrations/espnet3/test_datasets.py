"""Data directories as ESPnet3's datasets."""

import numpy as np
import pytest
import soundfile
from espnet3_recipe import UTT_IDS, write_recipe

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.tables import DataError

pytest.importorskip("espnet3", reason="ESPnet3 comes with ESPnet 202611")


@pytest.fixture
def recipe(tmp_path):
    return write_recipe(tmp_path, [])


def data_set(recipe, **options):
    from espnet_ensemble.integrations.espnet3.data_dir import Dataset

    return Dataset(recipe / "train", **options)


def test_training_finds_utterances_by_id(recipe):
    from espnet3.components.data.dataset import CombinedDataset

    dataset = data_set(recipe)
    expected, _ = soundfile.read(recipe / "wav" / "b.wav", dtype="float32")
    assert np.array_equal(dataset["b"]["speech"], expected)
    assert dataset["b"].keys() == {"speech", "text"}
    with pytest.raises(KeyError):
        dataset[0]
    combined = CombinedDataset([dataset], [(None, None)])
    combined.use_espnet_collator = True
    assert [combined[i][0] for i in range(len(combined))] == list(UTT_IDS)


def test_inference_counts_items(recipe):
    dataset = data_set(recipe, numbered=True)
    item = dataset[1]
    assert (item["utt_id"], item["text"], item["speech"][0]) == ("b", "hi", 16000)
    assert len(dataset) == len(UTT_IDS)


def test_segments(recipe):
    (recipe / "train" / "segments").write_text("b b 0 1\n")
    with pytest.raises(DataError, match="segments: expected one audio file"):
        data_set(recipe)


def test_an_utterance_without_audio(recipe):
    (recipe / "train" / "wav.scp").write_text("a a.wav\n")
    with pytest.raises(DataError, match="wav.scp: .* found no 'b' and 2 more"):
        data_set(recipe)


def test_audio_that_is_gone(recipe):
    (recipe / "wav" / "b.wav").unlink()
    with pytest.raises(AudioError, match="^b: .*b.wav: no such file"):
        data_set(recipe)["b"]


def test_features_have_two_dimensions():
    from espnet3.contract import KINDS, Field

    import espnet_ensemble.integrations.espnet3.datasets  # noqa: F401

    kind, field = KINDS["features"], Field("speech", "features")
    assert kind.accepts(np.zeros((3, 2)), field)
    assert not kind.accepts(np.zeros(3), field)
    assert not kind.accepts("speech", field)
