import pytest

from espnet_ensemble.analysis.sample import draw_sample
from espnet_ensemble.data.tables import DataError, read_table, write_table


def test_the_whole_is_taken_as_it_is_and_speakers_are_held_out(spoken, tmp_path):
    sample = draw_sample(spoken, tmp_path / "out", 1.0, 16000)
    assert sample.data_dir == spoken and not (tmp_path / "out").exists()
    assert len(sample.test) == 4 and sample.samples == 16 * 9600
    assert sorted([*sample.train, *sample.test]) == list(read_table(spoken / "text"))


def test_of_one_speaker_utterances_are_held_out(spoken, tmp_path):
    utt2spk = read_table(spoken / "utt2spk")
    write_table(spoken / "utt2spk", dict.fromkeys(utt2spk, "s"))
    write_table(spoken / "spk2utt", {"s": " ".join(utt2spk)})
    sample = draw_sample(spoken, tmp_path, 1.0, 16000)
    assert len(sample.test) == 4


def test_a_part_is_a_data_directory_of_its_own(spoken, tmp_path):
    hours = 12 * 9600 / 16000 / 3600
    sample = draw_sample(spoken, tmp_path / "out", hours, 16000)
    assert len(sample.train) + len(sample.test) == 12
    assert set(read_table(sample.data_dir / "wav.scp")) == {*sample.train, *sample.test}
    again = draw_sample(spoken, tmp_path / "out", hours, 16000)
    assert again == sample
    assert draw_sample(spoken, tmp_path / "out", hours, 16000, seed=1) != sample


def test_too_little_is_refused(spoken, tmp_path):
    with pytest.raises(DataError, match="at least 10 utterances within 0.001 hours"):
        draw_sample(spoken, tmp_path, 0.001, 16000)
    (spoken / "text").unlink()
    with pytest.raises(DataError, match="text: expected this file, found none"):
        draw_sample(spoken, tmp_path, 1, 16000)
