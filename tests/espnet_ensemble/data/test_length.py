import re

import pytest

from espnet_ensemble.data.datadir import validate
from espnet_ensemble.data.length import LeftOut, filter_lengths
from espnet_ensemble.data.tables import DataError


@pytest.fixture
def formatted(files, write_files):
    """Utterances of 1 s, 2 s and 3 s at 100 Hz."""
    files["utt2num_samples"] = "a1 100\na2 200\nb1 300\n"
    return write_files(files)


@pytest.mark.parametrize(
    "shortest,longest,expected",
    [
        (0.1, 20, LeftOut([], [], [])),
        (0.99, 3.01, LeftOut([], [], [])),
        (1.0, 3.0, LeftOut(["a1"], ["b1"], [])),  # as ESPnet: the bounds are outside
        (2.5, 20, LeftOut(["a1", "a2"], [], [])),
        (0.1, 1.5, LeftOut([], ["a2", "b1"], [])),
    ],
)
def test_lengths(shortest, longest, expected, formatted, tmp_path):
    dest = tmp_path / "dest"
    left_out = filter_lengths(formatted, dest, 100, shortest, longest)
    assert left_out == expected
    tables = validate(dest)
    assert set(tables["utt2spk"]) == {"a1", "a2", "b1"}.difference(
        expected.too_short, expected.too_long
    )
    assert tables["utt2num_samples"].keys() == tables["wav.scp"].keys()
    assert (dest / "feats_type").read_text() == "raw\n"


def test_empty_text(files, write_files, tmp_path):
    files["utt2num_samples"] = "a1 1\na2 200\nb1 300\n"
    files["text"] = "a1\na2 \nb1 X\n"
    left_out = filter_lengths(write_files(files), tmp_path / "dest", 100)
    assert left_out == LeftOut(["a1"], [], ["a2"])
    assert list(validate(tmp_path / "dest")["text"]) == ["b1"]


def test_nothing_is_left(formatted, tmp_path):
    message = "train: no utterance is left (too_short 3, too_long 0, empty_text 0)"
    with pytest.raises(DataError, match=re.escape(message)):
        filter_lengths(formatted, tmp_path / "dest", 16000)
    assert not (tmp_path / "dest").exists()


def test_number_of_samples_is_needed(files, write_files, tmp_path):
    message = "utt2num_samples: expected this file, found none; format_wav_scp makes it"
    with pytest.raises(DataError, match=message):
        filter_lengths(write_files(files), tmp_path / "dest", 16000)


def test_not_in_place(formatted):
    with pytest.raises(DataError, match="expected another folder than the source"):
        filter_lengths(formatted, formatted, 100)
