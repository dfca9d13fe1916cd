from espnet_ensemble.data.datadir import validate
from espnet_ensemble.recipes.corpora.data_dir import DataDir, Utterance, write_data_dir

UTTERANCES = [
    Utterance("b-1", "b", "b1.wav", 1.0, "HELLO"),
    Utterance("a-2", "a", "a2.wav", 2.5, ""),
    Utterance("a-1", "a", "a1.wav", 0.1, "GOOD MORNING"),
]


def test_files(tmp_path):
    made = write_data_dir(tmp_path / "data", UTTERANCES)
    assert made == DataDir(tmp_path / "data", num_utts=3, num_spks=2, hours=3.6 / 3600)
    names = {path.name for path in made.path.iterdir()}
    assert names == {"text", "utt2dur", "utt2spk", "spk2utt", "wav.scp"}
    assert (made.path / "text").read_text() == "a-1 GOOD MORNING\na-2\nb-1 HELLO\n"
    assert (made.path / "utt2dur").read_text() == "a-1 0.100\na-2 2.500\nb-1 1.000\n"
    assert validate(made.path)["wav.scp"]["a-1"] == "a1.wav"


def test_no_text_where_none_is_known(tmp_path):
    write_data_dir(tmp_path, UTTERANCES)
    untranscribed = [
        Utterance(u.utt_id, u.spk, u.audio, u.seconds, None) for u in UTTERANCES
    ]
    write_data_dir(tmp_path, untranscribed)
    assert not (tmp_path / "text").exists()


def test_same_content_is_left_untouched(tmp_path):
    def times():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    write_data_dir(tmp_path, UTTERANCES)
    before = times()
    write_data_dir(tmp_path, reversed(UTTERANCES))
    assert times() == before


def test_damaged_content_is_made_anew(tmp_path):
    write_data_dir(tmp_path, UTTERANCES)
    (tmp_path / "spk2utt").unlink()
    write_data_dir(tmp_path, UTTERANCES)
    validate(tmp_path)
    write_data_dir(tmp_path, UTTERANCES[:1])
    assert list(validate(tmp_path)["text"]) == ["b-1"]
