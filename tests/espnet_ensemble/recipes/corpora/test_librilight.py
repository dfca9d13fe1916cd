"""Data directories of Libri-Light's 10 hours, from a small corpus in its layout."""

import hashlib
import tarfile

import pytest
import torchaudio
from torchaudio.datasets import librilight_limited

from espnet_ensemble.data.datadir import validate
from espnet_ensemble.testing.librispeech import (
    make_chapter,
    make_librilight,
    make_librispeech,
)

EVALUATION = ("dev-clean", "dev-other", "test-clean", "test-other")
SETS = ["dev", "dev_clean", "dev_other", "test_clean", "test_other", "train_10h"]


@pytest.fixture
def librilight(tmp_path):
    make_librilight(tmp_path / "librispeech_finetuning")
    return tmp_path / "librispeech_finetuning"


@pytest.fixture
def librispeech(tmp_path):
    make_librispeech(tmp_path / "LibriSpeech", EVALUATION)
    return tmp_path / "LibriSpeech"


@pytest.fixture
def prepare(local, tmp_path, monkeypatch):
    """Run the command in tmp_path: prepare(option, ...) -> the data directories."""
    monkeypatch.chdir(tmp_path)

    def call(*options):
        local("prepare_librilight_10h").main([*map(str, options), "--nj", "2"])
        return tmp_path / "data"

    return call


@pytest.fixture
def refused(prepare, tmp_path, capsys):
    """Run the command, which fails: refused(option, ...) -> its message."""

    def call(*options):
        with pytest.raises(SystemExit) as exit:
            prepare(*options)
        assert exit.value.code == 1 and not (tmp_path / "data").exists()
        message = capsys.readouterr().err
        return message[message.index("prepare_librilight_10h: ") :]

    return call


@pytest.fixture
def corpora(librilight, librispeech):
    return ["--librilight", librilight, "--librispeech", librispeech, "--partial"]


def check_data(data, librilight):
    assert sorted(path.name for path in data.iterdir()) == SETS
    tables = validate(data / "train_10h")
    theirs = torchaudio.datasets.LibriLightLimited(librilight.parent, "10h")
    assert len(tables["text"]) == len(theirs) == 36
    for relative, name in theirs._fileids_paths:
        assert f"{librilight.name}/{relative}/" in tables["wav.scp"][name]
        reader, chapter, _ = name.split("-")
        texts = (
            librilight / relative / reader / chapter / f"{reader}-{chapter}.trans.txt"
        )
        assert f"{name} {tables['text'][name]}\n" in texts.read_text()
    dev = [len(validate(data / name)["text"]) for name in SETS[:3]]
    assert dev == [14, 7, 7]


def test_data_directories(librilight, corpora, prepare):
    check_data(prepare(*corpora), librilight)


def test_texts_of_utterances_that_moved_to_another_folder(librilight, corpora, prepare):
    """Each folder may have the texts of the whole chapter."""
    for reader in (*range(60, 66), *range(70, 76)):
        files = list(librilight.rglob(f"{reader}-5.trans.txt"))
        assert len(files) == 2
        whole = "".join(path.read_text() for path in files)
        for path in files:
            path.write_text(whole)
    check_data(prepare(*corpora), librilight)


def test_utterance_twice(librilight, corpora, refused):
    make_chapter(librilight / "9h" / "clean", 60, 5, [0, 2])
    message = refused(*corpora)
    assert (
        f"{librilight}/9h/clean/60/5/60-5-0000.flac: expected every utterance"
        in message
    )
    assert f"{librilight}/1h/0/clean/60/5/60-5-0000.flac, too" in message


def test_audio_is_nowhere(librilight, corpora, refused):
    (librilight / "1h/3/other/73/5/73-5-0001.flac").unlink()
    message = refused(*corpora)
    assert (
        f"{librilight}/1h/3/other/73/5/73-5.trans.txt: 73-5-0001: expected" in message
    )


def test_whole_corpora_are_expected(corpora, refused):
    assert "9h/other): expected 2763 utterances, found 36" in refused(*corpora[:4])


def test_folders_are_checked_before_any_download(librilight, librispeech, refused):
    downloads = [
        "--librispeech",
        "downloads",
        "--librispeech_url",
        "http://127.0.0.1:9",
    ]
    assert "--librilight: expected the folder librispeech_finetuning" in refused(
        *downloads
    )
    wrong = refused(*downloads, "--librilight", librilight.parent)
    assert "1h/0/clean: expected this folder, found none; it is in" in wrong
    downloads = ["--librilight", "downloads", "--librilight_url", "http://127.0.0.1:9"]
    wrong = refused(*downloads, "--librispeech", librispeech / "dev-clean")
    assert f"found none; it is in {librispeech}: give that folder" in wrong


def test_download(
    local, librilight, librispeech, prepare, refused, tmp_path, monkeypatch
):
    """From a folder: servers are what tests/local/test_download.py is about."""
    module = local("prepare_librilight_10h")
    (tmp_path / "served").mkdir()
    archive = tmp_path / "served" / "librispeech_finetuning.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(librilight, librilight.name)
    options = ["--librilight", "downloads", "--librilight_url", archive.parent.as_uri()]
    options += ["--librispeech", librispeech, "--partial"]
    assert f".tgz: expected {module.CHECKSUM}, found sha256:" in refused(*options)
    checksum = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    monkeypatch.setattr(module, "CHECKSUM", checksum)
    check_data(prepare(*options), librilight)
    downloads = tmp_path / "downloads"
    assert [path.name for path in downloads.iterdir()] == ["librispeech_finetuning"]
    assert (downloads / "librispeech_finetuning/phones/10h_phones.txt").is_file()


def test_archive_is_the_published_one(local):
    module = local("prepare_librilight_10h")
    assert module.CHECKSUM == f"sha256:{librilight_limited._CHECKSUM}"
    assert f"{module.URL}/{module.NAME}.tgz" == librilight_limited._URL
    assert len(module.FOLDERS) == 14
