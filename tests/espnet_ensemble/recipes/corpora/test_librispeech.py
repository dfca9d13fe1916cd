"""Data directories of LibriSpeech, from small corpora in its layout."""

import doctest
import hashlib
import tarfile

import pytest
import soundfile
import torchaudio

from espnet_ensemble.data.datadir import validate
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.testing.librispeech import make_librispeech

SETS = ["train_clean_100", "dev_clean", "dev_other", "test_clean", "test_other"]


@pytest.fixture
def corpus(tmp_path):
    make_librispeech(tmp_path / "LibriSpeech")
    return tmp_path / "LibriSpeech"


@pytest.fixture
def prepare(local, tmp_path, monkeypatch):
    """Run the command in tmp_path: prepare("--partial", ..., sets=SETS)."""
    monkeypatch.chdir(tmp_path)

    def call(*options, sets=SETS):
        local("prepare_librispeech").main([*options, "--nj", "2", *sets])
        return tmp_path / "data"

    return call


@pytest.fixture
def refused(prepare, tmp_path, capsys):
    """Run the command, which fails: refused(option, ...) -> its message."""

    def call(*options, sets=SETS):
        with pytest.raises(SystemExit) as exit:
            prepare(*options, sets=sets)
        assert exit.value.code == 1 and not (tmp_path / "data").exists()
        message = capsys.readouterr().err
        return message[message.index("prepare_librispeech: ") :]

    return call


def test_data_directories(corpus, prepare, capsys):
    data = prepare("--librispeech", "LibriSpeech", "--partial")
    assert sorted(path.name for path in data.iterdir()) == sorted([*SETS, "dev"])
    for name in SETS:
        tables = validate(data / name)
        part = name.replace("_", "-")
        theirs = torchaudio.datasets.LIBRISPEECH(corpus.parent, part)
        assert len(tables["text"]) == len(theirs) == 7
        for number in range(len(theirs)):
            path, _, text, *ids = theirs.get_metadata(number)
            utterance = "%d-%d-%04d" % tuple(ids)
            assert tables["text"][utterance] == text
            assert tables["utt2spk"][utterance] == "%d-%d" % tuple(ids[:2])
            assert tables["wav.scp"][utterance] == f"LibriSpeech/{path}"
            seconds = soundfile.info(corpus / path).duration
            assert tables["utt2dur"][utterance] == f"{seconds:.3f}"
    joined = validate(data / "dev")
    halves = [validate(data / name) for name in ("dev_clean", "dev_other")]
    for name in ("text", "wav.scp", "utt2spk", "utt2dur"):
        assert joined[name] == {**halves[0][name], **halves[1][name]}
    assert "data/train_clean_100: 7 utterances, 0.00 h\n" in capsys.readouterr().out


def test_some_sets(prepare, corpus):
    data = prepare("--librispeech", str(corpus), "--partial", sets=["dev_clean"])
    assert [path.name for path in data.iterdir()] == ["dev_clean"]
    wavs = validate(data / "dev_clean")["wav.scp"].values()
    assert all(path.startswith(f"{corpus}/dev-clean/") for path in wavs)


def test_whole_corpus_is_expected(local, corpus, prepare, refused, monkeypatch):
    assert (
        "LibriSpeech (train-clean-100): expected 28539 utterances, found 7"
        in refused("--librispeech", str(corpus))
    )
    parts = local("prepare_librispeech").PARTS
    for name, part in parts.items():
        monkeypatch.setitem(parts, name, part._replace(num_utterances=7))
    prepare("--librispeech", str(corpus))


def test_wrong_folders(corpus, refused):
    assert (
        "--librispeech: expected the folder LibriSpeech, or 'downloads' to get"
        in refused()
    )
    assert "nowhere/train-clean-100: expected this folder, found none\n" in refused(
        "--librispeech", "nowhere"
    )
    hint = f"found none; it is in {corpus}: give that folder"
    assert hint in refused("--librispeech", str(corpus.parent))
    assert hint in refused("--librispeech", str(corpus / "dev-clean"))
    (corpus / "dev-other").rename(corpus / "dev-another")
    message = refused("--librispeech", str(corpus))
    assert f"{corpus}/dev-other: expected this folder, found none\n" in message


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
            f"1 of 35 audio files are damaged:\n  {{}}/{CHAPTER}/419-227-0001.flac: ",
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
    found = refused("--librispeech", str(corpus), "--partial")
    assert message.format(corpus) in found and str(corpus / "test-other") in found


def test_part_without_readers(local, corpus):
    (corpus / "empty").mkdir()
    source = local("prepare_librispeech").Source(corpus, ("empty",), 1)
    with pytest.raises(DataError, match="empty: expected .trans.txt files, found none"):
        local("prepare_librispeech").check(source)


@pytest.fixture
def openslr(local, server, tmp_path, monkeypatch):
    """The corpus as OpenSLR serves it, in an archive for each part."""
    make_librispeech(tmp_path / "all" / "LibriSpeech")
    parts = local("prepare_librispeech").PARTS
    for name, part in parts.items():
        archive = server.folder / f"{part.name}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for path in (part.name, "LICENSE.TXT", "README.TXT"):
                tar.add(tmp_path / "all/LibriSpeech" / path, f"LibriSpeech/{path}")
        checksum = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
        monkeypatch.setitem(
            parts, name, part._replace(checksum=checksum, num_utterances=7)
        )
    return server


def test_download(openslr, prepare, tmp_path):
    options = ["--librispeech", "downloads", "--librispeech_url", openslr.url]
    openslr.breaks_after = 50000
    data = prepare(*options)
    assert any(asked == "bytes=50000-" for _, asked in openslr.requests)
    assert len(validate(data / "dev")["text"]) == 14
    assert {path.name for path in (tmp_path / "downloads").iterdir()} == {"LibriSpeech"}
    names = {path.name for path in (tmp_path / "downloads/LibriSpeech").iterdir()}
    assert names == {name.replace("_", "-") for name in SETS} | {
        "LICENSE.TXT",
        "README.TXT",
    }

    openslr.requests.clear()
    prepare(*options)
    assert openslr.requests == []


def test_download_goes_on_with_the_parts_that_are_missing(openslr, refused, prepare):
    options = ["--librispeech", "downloads", "--librispeech_url", openslr.url]
    hidden = (openslr.folder / "test-clean.tar.gz").rename(openslr.folder / "hidden")
    assert "test-clean.tar.gz: HTTP Error 404" in refused(*options)
    hidden.rename(openslr.folder / "test-clean.tar.gz")
    openslr.requests.clear()
    prepare(*options)
    asked = [path for path, _ in openslr.requests]
    assert asked == ["/test-clean.tar.gz", "/test-other.tar.gz"]


def test_examples(local):
    module = local("prepare_librispeech")
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0
