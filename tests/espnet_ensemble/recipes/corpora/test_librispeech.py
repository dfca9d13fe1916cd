"""Data directories of LibriSpeech, from small corpora in its layout."""

import hashlib
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torchaudio

from espnet_ensemble.data.datadir import validate
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.corpora import librispeech
from espnet_ensemble.recipes.corpora.librispeech import (
    NGRAM,
    PARTS,
    Selection,
    download_librispeech,
    download_ngram,
    find_readings,
    prepare_librispeech,
)
from espnet_ensemble.testing.librispeech import make_librispeech

SETS = ["train_clean_100", "dev_clean", "dev_other", "test_clean", "test_other"]


@pytest.fixture
def corpus(tmp_path):
    make_librispeech(tmp_path / "LibriSpeech")
    return tmp_path / "LibriSpeech"


@pytest.fixture
def refused(tmp_path):
    """Prepare a corpus that is not as it should be: refused(corpus) -> the message."""

    def call(corpus, partial=True):
        with pytest.raises(EnsembleError) as error:
            prepare_librispeech(corpus, tmp_path / "data", nj=2, partial=partial)
        assert not (tmp_path / "data").exists()
        return str(error.value)

    return call


def test_data_directories(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = prepare_librispeech("LibriSpeech", "data", nj=2, partial=True)
    assert list(made) == SETS
    data = Path("data")
    assert sorted(path.name for path in data.iterdir()) == sorted([*SETS, "dev"])
    for name in SETS:
        tables = validate(data / name)
        part = name.replace("_", "-")
        theirs = torchaudio.datasets.LIBRISPEECH(corpus.parent, part)
        assert len(tables["text"]) == len(theirs) == made[name].num_utts == 7
        for number in range(len(theirs)):
            path, _, text, reader, chapter, utt = theirs.get_metadata(number)
            utt_id = f"{reader}-{chapter}-{utt:04d}"
            assert tables["text"][utt_id] == text
            assert tables["utt2spk"][utt_id] == f"{reader}-{chapter}"
            assert tables["wav.scp"][utt_id] == f"LibriSpeech/{path}"
            seconds = soundfile.info(corpus / path).duration
            assert tables["utt2dur"][utt_id] == f"{seconds:.3f}"
    joined = validate(data / "dev")
    halves = [validate(data / name) for name in ("dev_clean", "dev_other")]
    for name in ("text", "wav.scp", "utt2spk", "utt2dur"):
        assert joined[name] == {**halves[0][name], **halves[1][name]}


def test_some_sets(corpus, tmp_path):
    made = prepare_librispeech(corpus, tmp_path / "data", ["dev_clean"], partial=True)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["dev_clean"]
    wavs = validate(made["dev_clean"].path)["wav.scp"].values()
    assert all(path.startswith(f"{corpus}/dev-clean/") for path in wavs)


def test_whole_corpus_is_expected(corpus, refused, tmp_path, monkeypatch):
    message = refused(corpus, partial=False)
    assert (
        "LibriSpeech (train-clean-100): expected 28539 utterances, found 7" in message
    )
    for name, part in PARTS.items():
        monkeypatch.setitem(PARTS, name, replace(part, num_utts=7))
    prepare_librispeech(corpus, tmp_path / "data")


CHAPTER = "test-other/419/227"


def damage(name, change):
    def call(corpus):
        path = corpus / CHAPTER / name
        path.write_bytes(change(path.read_bytes()))

    return call


def remove(name):
    return lambda corpus: (corpus / CHAPTER / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            remove("419-227-0001.flac"),
            "419-227.trans.txt: 419-227-0001: expected 419-227-0001.flac beside it",
        ),
        (
            damage("419-227.trans.txt", lambda text: text[text.index(b"\n") + 1 :]),
            "419-227-0000.flac: expected its text in a .trans.txt beside it, found none",
        ),
        (
            remove("419-227.trans.txt"),
            "419-227-0000.flac: expected its text in a .trans.txt beside it, found none",
        ),
        (
            damage("419-227.trans.txt", lambda text: text + b"419-227-0003\n"),
            "419-227.trans.txt: 419-227-0003: expected its text, found none",
        ),
        (
            damage("419-227.trans.txt", lambda text: text + text),
            "419-227.trans.txt:4: expected every key once, found '419-227-0000'",
        ),
        (
            damage("419-227.trans.txt", lambda text: text + b"419-227-0003 \xff\n"),
            "419-227.trans.txt:4: expected UTF-8",
        ),
        (
            damage("419-227.trans.txt", lambda text: text + b"419-198-0000 A\n"),
            "419-198-0000: expected one text, found one in ",
        ),
        (
            lambda corpus: (corpus / CHAPTER).rename(corpus / "test-other/419/9"),
            "419/9/419-227-0000.flac: expected it to be ",
        ),
        (
            damage("419-227-0001.flac", lambda content: content[: len(content) // 2]),
            f"1 of 35 recordings cannot be used:\n    {{}}/{CHAPTER}/419-227-0001.flac: ",
        ),
        (
            damage("419-227-0001.flac", lambda content: content[:-1]),
            f"{CHAPTER}/419-227-0001.flac: ",
        ),
        (
            damage("419-227-0001.flac", lambda content: b""),
            f"{CHAPTER}/419-227-0001.flac: Format not recognised. (a truncated file?)",
        ),
    ],
)
def test_damaged_corpora(corpus, refused, spoil, message):
    spoil(corpus)
    found = refused(corpus)
    assert message.format(corpus) in found and str(corpus / "test-other") in found


def test_part_without_readers(corpus):
    (corpus / "empty").mkdir()
    with pytest.raises(EnsembleError, match="empty: expected .trans.txt files, found"):
        find_readings(Selection(corpus, ("empty",), 1))


@pytest.fixture
def openslr(server, tmp_path, monkeypatch):
    """The corpus as OpenSLR serves it, in an archive for each part."""
    make_librispeech(tmp_path / "all" / "LibriSpeech")
    for name, part in PARTS.items():
        archive = server.folder / f"{part.name}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for path in (part.name, "LICENSE.TXT", "README.TXT"):
                tar.add(tmp_path / "all/LibriSpeech" / path, f"LibriSpeech/{path}")
        checksum = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
        monkeypatch.setitem(PARTS, name, replace(part, checksum=checksum))
    return server


def test_download(openslr, tmp_path):
    corpus_dir = tmp_path / "downloads" / "LibriSpeech"
    openslr.breaks_after = 50000
    download_librispeech(corpus_dir, SETS, openslr.url)
    assert any(asked == "bytes=50000-" for _, asked in openslr.requests)
    assert [path.name for path in corpus_dir.parent.iterdir()] == ["LibriSpeech"]
    folders = {name.replace("_", "-") for name in SETS}
    names = {path.name for path in corpus_dir.iterdir()}
    assert names == folders | {"LICENSE.TXT", "README.TXT"}
    assert len(list(corpus_dir.rglob("*.flac"))) == 35

    openslr.requests.clear()
    download_librispeech(corpus_dir, SETS, openslr.url)
    assert openslr.requests == []


def test_a_language_model_is_got_once(server, tmp_path, monkeypatch):
    content = b"as published"
    (server.folder / NGRAM).write_bytes(content)
    with pytest.raises(EnsembleError, match="expected sha256:71dd"):
        download_ngram(tmp_path / "data", server.url)
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    monkeypatch.setattr(librispeech, "_NGRAM_CHECKSUM", checksum)
    path = download_ngram(tmp_path / "data", server.url)
    assert path == tmp_path / "data" / "local" / "lm" / NGRAM
    assert path.read_bytes() == content
    server.requests.clear()
    download_ngram(tmp_path / "data", server.url)
    assert server.requests == []


def test_download_goes_on_with_the_parts_that_are_missing(openslr, tmp_path):
    hidden = (openslr.folder / "test-clean.tar.gz").rename(openslr.folder / "hidden")
    with pytest.raises(EnsembleError, match="test-clean.tar.gz: HTTP Error 404"):
        download_librispeech(tmp_path / "LibriSpeech", SETS, openslr.url)
    hidden.rename(openslr.folder / "test-clean.tar.gz")
    openslr.requests.clear()
    download_librispeech(tmp_path / "LibriSpeech", SETS, openslr.url)
    asked = [path for path, _ in openslr.requests]
    assert asked == ["/test-clean.tar.gz", "/test-other.tar.gz"]
