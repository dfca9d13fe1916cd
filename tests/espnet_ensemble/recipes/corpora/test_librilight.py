"""Data directories of Libri-Light's 10 hours, from a small corpus in its layout."""

import hashlib
import tarfile

import pytest
import torchaudio
from torchaudio.datasets import librilight_limited

from espnet_ensemble.data.datadir import validate
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.corpora import librilight as module
from espnet_ensemble.recipes.corpora.librilight import prepare_librilight
from espnet_ensemble.testing.librispeech import (
    make_chapter,
    make_librilight,
    make_librispeech,
)

EVALUATION = ("dev-clean", "dev-other", "test-clean", "test-other")
SETS = ["dev", "dev_clean", "dev_other", "test_clean", "test_other"]
SETS += ["train_10h", "train_1h"]


@pytest.fixture
def librilight(tmp_path):
    make_librilight(tmp_path / "librispeech_finetuning")
    return tmp_path / "librispeech_finetuning"


@pytest.fixture
def librispeech(tmp_path):
    make_librispeech(tmp_path / "LibriSpeech", EVALUATION)
    return tmp_path / "LibriSpeech"


@pytest.fixture
def prepare(librilight, librispeech, tmp_path):
    """Make the data directories: prepare(partial) -> their parent."""

    def call(partial=True):
        data = tmp_path / "data"
        made = prepare_librilight(librilight, data, librispeech, 2, partial)
        assert made["train_10h"].num_utts == 36
        return data

    return call


@pytest.fixture
def refused(prepare, tmp_path):
    """Prepare corpora that are not as they should be: refused() -> the message."""

    def call(partial=True):
        with pytest.raises(EnsembleError) as error:
            prepare(partial)
        assert not (tmp_path / "data").exists()
        return str(error.value)

    return call


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
    hour = torchaudio.datasets.LibriLightLimited(librilight.parent, "1h")
    names = sorted(name for _, name in hour._fileids_paths)
    assert sorted(validate(data / "train_1h")["text"]) == names
    dev = [len(validate(data / name)["text"]) for name in SETS[:3]]
    assert dev == [14, 7, 7]


def test_data_directories(librilight, prepare):
    check_data(prepare(), librilight)


def test_texts_of_utterances_that_moved_to_another_folder(librilight, prepare):
    """Each folder may have the texts of the whole chapter."""
    for reader in (*range(60, 66), *range(70, 76)):
        files = list(librilight.rglob(f"{reader}-5.trans.txt"))
        assert len(files) == 2
        whole = "".join(path.read_text() for path in files)
        for path in files:
            path.write_text(whole)
    check_data(prepare(), librilight)


def test_utterance_twice(librilight, refused):
    make_chapter(librilight / "9h" / "clean", 60, 5, [0, 2])
    message = refused()
    assert (
        f"{librilight}/9h/clean/60/5/60-5-0000.flac: expected every utterance"
        in message
    )
    assert f"{librilight}/1h/0/clean/60/5/60-5-0000.flac, too" in message


def test_audio_is_nowhere(librilight, refused):
    (librilight / "1h/3/other/73/5/73-5-0001.flac").unlink()
    message = refused()
    assert (
        f"{librilight}/1h/3/other/73/5/73-5.trans.txt: 73-5-0001: expected" in message
    )


def test_whole_corpora_are_expected(refused):
    message = refused(partial=False)
    assert "9h/other): expected 2763 utterances, found 36" in message


def test_download(librilight, tmp_path, monkeypatch):
    """From a folder: servers are what test_download.py is about."""
    (tmp_path / "served").mkdir()
    archive = tmp_path / "served" / "librispeech_finetuning.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(librilight, librilight.name)
    corpus_dir = tmp_path / "downloads" / "librispeech_finetuning"
    expected = f".tgz: expected {module.CHECKSUM}, found sha256:"
    with pytest.raises(EnsembleError, match=expected):
        module.download_librilight(corpus_dir, archive.parent.as_uri())
    checksum = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    monkeypatch.setattr(module, "CHECKSUM", checksum)
    module.download_librilight(corpus_dir, archive.parent.as_uri())
    assert [path.name for path in corpus_dir.parent.iterdir()] == [corpus_dir.name]
    files = [path for path in librilight.rglob("*") if path.is_file()]
    assert len(files) == 36 + 24 + 1
    for path in files:
        copy = corpus_dir / path.relative_to(librilight)
        assert copy.read_bytes() == path.read_bytes()


def test_archive_is_the_published_one():
    assert module.CHECKSUM == f"sha256:{librilight_limited._CHECKSUM}"
    assert f"{module.URL}/{module.NAME}.tgz" == librilight_limited._URL
    assert len(module.FOLDERS) == 14
