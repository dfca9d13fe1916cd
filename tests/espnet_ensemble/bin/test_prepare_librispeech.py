import pytest

from espnet_ensemble.bin.prepare_librispeech import main
from espnet_ensemble.testing.librispeech import make_librispeech


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_librispeech(tmp_path / "LibriSpeech", ["dev-clean", "dev-other"])
    return tmp_path / "LibriSpeech"


def test_prints_what_was_made(corpus, capsys):
    options = ["--librispeech", "LibriSpeech", "--partial", "--nj", "2"]
    main([*options, "dev_clean", "dev_other"])
    lines = [
        f"data/{name}: 7 utterances, 0.00 h" for name in ("dev_clean", "dev_other")
    ]
    assert capsys.readouterr().out.splitlines() == lines
    assert {path.name for path in (corpus.parent / "data").iterdir()} == {
        "dev",
        "dev_clean",
        "dev_other",
    }


def test_stages(corpus, tmp_path, capsys):
    """A corpus that is where it would be downloaded to is taken without asking a server."""
    corpus.parent.joinpath("downloads").mkdir()
    corpus.rename(tmp_path / "downloads" / "LibriSpeech")
    url = ["--librispeech_url", "http://127.0.0.1:9"]
    options = ["--librispeech", "downloads", *url, "--partial", "dev_clean"]
    main([*options, "--stage", "2"])
    assert capsys.readouterr().out == "data/dev_clean: 7 utterances, 0.00 h\n"
    main([*options, "--stage", "3"])
    assert capsys.readouterr().out == ""
    ngram = ["--stage", "3", "--ngram", "--ngram_url", "http://127.0.0.1:9"]
    with pytest.raises(SystemExit, match="1"):
        main([*options, *ngram])
    assert "http://127.0.0.1:9/3-gram.pruned" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (
            [],
            "--librispeech: expected the folder LibriSpeech, or 'downloads' to get it",
        ),
        (
            ["--librispeech", "."],
            "dev-clean: expected this folder, found none; it is in",
        ),
        (["--librispeech", "LibriSpeech"], "expected 2703 utterances, found 7; with "),
        (
            "--librispeech downloads --librispeech_url http://127.0.0.1:9".split(),
            "http://127.0.0.1:9/dev-clean.tar.gz: ",
        ),
    ],
)
def test_says_what_is_wrong(corpus, capsys, options, message):
    with pytest.raises(SystemExit, match="1"):
        main([*options, "dev_clean"])
    assert message in capsys.readouterr().err
    assert not (corpus.parent / "data").exists()
