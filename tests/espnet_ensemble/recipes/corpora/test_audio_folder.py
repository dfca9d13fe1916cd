import os

import numpy as np
import pytest
import soundfile

from espnet_ensemble.data.datadir import validate
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.corpora.audio_folder import Columns, prepare_audio_folder

SAID = {"anna/001.wav": "good morning", "anna/002.flac": "yes", "bert/001.ogg": "no"}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A folder for audio files, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for file in SAID:
        add_audio(tmp_path / "audio" / file)
    return tmp_path


def add_audio(path, seconds=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(8000 * seconds)), 8000)


def write_table(path, *rows, separator="\t"):
    path.write_text("".join(separator.join(row) + "\n" for row in rows), "utf-8")
    return path


def prepare(table=None, **options):
    return prepare_audio_folder("audio", "data", table, **options)


def texts():
    """The text of each set."""
    return {name: validate(f"data/{name}")["text"] for name in ("train", "dev", "test")}


def said():
    """The texts of all sets."""
    return {
        utt_id: text for table in texts().values() for utt_id, text in table.items()
    }


def test_a_table_with_speakers_and_sets(corpus):
    table = write_table(
        corpus / "table.tsv",
        ["text", "file", "set", "spk", "age"],
        ['say  "good morning" ', "anna/001.wav", "train", "anna", "7"],
        ["yes", "anna/002", "dev", "anna", ""],
        ["no", str(corpus / "audio/bert/001.ogg"), "test", "bert b", "8"],
    )
    made = prepare(table)
    assert [(name, data.num_utts) for name, data in made.items()] == [
        ("train", 1),
        ("dev", 1),
        ("test", 1),
    ]
    assert validate("data/train") == {
        "wav.scp": {"anna-001": "audio/anna/001.wav"},
        "text": {"anna-001": 'say "good morning"'},
        "utt2spk": {"anna-001": "anna"},
        "utt2dur": {"anna-001": "0.500"},
    }
    assert validate("data/test")["utt2spk"] == {"bert_b-bert-001": "bert_b"}


def test_a_table_of_a_spreadsheet_with_other_names(corpus):
    path = corpus / "table.csv"
    rows = [
        "path,sentence",
        '"anna/001.wav","yes, good"',
        "anna/002,yes",
        "bert/001,no",
    ]
    path.write_text("\r\n".join(rows) + "\r\n", "utf-8-sig")
    prepare(path, columns=Columns("path", "sentence"))
    assert said() == {"anna-001": "yes, good", "anna-002": "yes", "bert-001": "no"}
    tables = validate("data/train")
    assert tables["utt2spk"] == {utt_id: utt_id for utt_id in tables["text"]}


def test_a_text_beside_each_file(corpus, caplog):
    for file, text in SAID.items():
        (corpus / "audio" / file).with_suffix(".txt").write_text(f"{text}\n")
    add_audio(corpus / "audio/noise.WAV")
    add_audio(corpus / "audio/silence.wav")
    (corpus / "audio/silence.txt").write_text("\n")
    prepare()
    assert said() == {"anna-001": "good morning", "anna-002": "yes", "bert-001": "no"}
    assert "1 audio files with no transcript: 'noise.WAV'" in caplog.text
    assert "1 audio files with a transcript of no words: 'silence.wav'" in caplog.text


def table_of(corpus, num_spks, utts_of_each):
    """A table of so many speakers with so many utterances of each."""
    rows = [["file", "text", "spk"]]
    for spk in range(num_spks):
        for utt in range(utts_of_each):
            rows.append([f"{spk}-{utt}", "yes", f"spk{spk}"])
            add_audio(corpus / "audio" / f"{spk}-{utt}.wav", 0.1)
    return write_table(corpus / "table.tsv", *rows)


def test_sets_share_no_speaker(corpus, caplog):
    made = prepare(table_of(corpus, num_spks=20, utts_of_each=3), dev_share=0.2)
    assert {name: data.num_spks for name, data in made.items()} == {
        "train": 14,
        "dev": 4,
        "test": 2,
    }
    assert sum(data.num_utts for data in made.values()) == 60
    spks = [set(validate(data.path)["utt2spk"].values()) for data in made.values()]
    assert len(set.union(*spks)) == 20
    assert "share speakers" not in caplog.text


def test_sets_share_speakers_that_are_few_and_say_so(corpus, caplog):
    made = prepare(table_of(corpus, num_spks=2, utts_of_each=10))
    assert [data.num_utts for data in made.values()] == [16, 2, 2]
    assert "train, dev and test share speakers: there are 2" in caplog.text


def test_sets_stay_when_the_table_is_in_another_order(corpus):
    table = table_of(corpus, num_spks=12, utts_of_each=2)
    prepare(table)
    before = texts()
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]))
    prepare(table)
    assert texts() == before


FILES = [["file", "text"], ["anna/001", "a"], ["anna/002", "b"], ["bert/001", "c"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [["path", "text"]],
            "table.tsv:1: expected a column 'file', found 'path', 'te",
        ),
        (
            [["file,text"]],
            "expected a column 'file', found 'file,text'; write the names",
        ),
        ([], "expected a column 'file', found none"),
        ([*FILES, ["anna/003", "d"]], "1 of 4 lines name no audio file .* in audio:\n"),
        ([*FILES, ["anna/001.wav", "d"]], "each file once, found 'anna/001.wav' twice"),
        ([*FILES, ["../../etc/passwd", "d"]], "lines name no audio file"),
        ([*FILES[:3], ["bert/001"]], "table.tsv:4: expected a value for each column"),
        (
            [*FILES[:3], ["bert/001", "c", "d"]],
            "table.tsv:4: expected a value for each",
        ),
        (FILES[:2], "found 1 in all, and none for train, dev"),
        (FILES[:1], "found 0 in all, and none for train, dev, test"),
        (
            [["file", "text", "set"], ["anna/001", "a", "valid"]],
            "table.tsv:2: expected train, dev, test, found 'valid'",
        ),
        (
            [["file", "text", "set"], ["anna/001", "a", ""], ["anna/002", "b", "dev"]],
            "a set for each file or for none, found none for 'anna/001.wav'",
        ),
    ],
)
def test_a_wrong_table_is_refused(rows, message, corpus):
    with pytest.raises(EnsembleError, match=message):
        prepare(write_table(corpus / "table.tsv", *rows))
    assert not (corpus / "data").exists()


def test_a_column_that_is_asked_for_must_be_there(corpus):
    table = write_table(corpus / "table.tsv", *FILES)
    with pytest.raises(EnsembleError, match="expected a column 'client_id'"):
        prepare(table, columns=Columns(spk="client_id"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("table.xlsx", "table.xlsx: expected a table, .tsv or .csv"),
        ("none.tsv", "none.tsv: expected a table, found No such file"),
        ("latin1.csv", "latin1.csv: expected a table in UTF-8"),
    ],
)
def test_what_is_no_table_is_refused(table, message, corpus):
    (corpus / "latin1.csv").write_bytes("file,text\nanna/001,grün\n".encode("latin1"))
    with pytest.raises(EnsembleError, match=message):
        prepare(corpus / table)


def test_files_that_are_no_audio_are_named_all(corpus):
    table = write_table(corpus / "table.tsv", *FILES)
    for file in ("anna/001.wav", "bert/001.ogg"):
        (corpus / "audio" / file).write_text("<html>")
    with pytest.raises(EnsembleError) as error:
        prepare(table)
    assert "2 of 3 recordings cannot be used" in str(error.value)
    assert "anna/001.wav: not an audio file" in str(error.value)


def test_two_files_of_one_name_are_refused(corpus):
    add_audio(corpus / "audio/anna-001.wav")
    table = write_table(corpus / "table.tsv", *FILES, ["anna-001", "d"])
    with pytest.raises(EnsembleError, match="are both utterance 'anna-001'"):
        prepare(table)


def test_a_folder_without_audio_is_refused(tmp_path):
    with pytest.raises(EnsembleError, match="found no folder"):
        prepare_audio_folder(tmp_path / "none", tmp_path / "data")
    (tmp_path / "a.m4a").touch()
    with pytest.raises(EnsembleError, match=r"expected audio files \(.aiff, .*ffmpeg"):
        prepare_audio_folder(tmp_path, tmp_path / "data")


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_shares_that_leave_a_set_empty_are_refused(shares, corpus):
    with pytest.raises(EnsembleError, match="dev_share and test_share: expected more"):
        prepare(None, dev_share=shares[0], test_share=shares[1])


def test_wav_scp_names_files_by_the_folder_as_given(corpus):
    table = write_table(corpus / "table.tsv", *FILES)
    prepare_audio_folder(corpus / "audio", corpus / "data", table)
    assert all(map(os.path.isabs, validate("data/train")["wav.scp"].values()))
