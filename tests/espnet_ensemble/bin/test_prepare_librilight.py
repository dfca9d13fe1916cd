import pytest

from espnet_ensemble.bin.prepare_librilight import main
from espnet_ensemble.testing.librispeech import make_librilight, make_librispeech

EVALUATION = ("dev-clean", "dev-other", "test-clean", "test-other")
NO_SERVER = "http://127.0.0.1:9"


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_librilight(tmp_path / "librispeech_finetuning")
    make_librispeech(tmp_path / "LibriSpeech", EVALUATION)


def test_prints_what_was_made(corpora, capsys):
    options = ["--librilight", "librispeech_finetuning", "--librispeech", "LibriSpeech"]
    main([*options, "--partial", "--nj", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data/train_10h: 36 utterances, 0.01 h"
    assert lines[1:] == [
        f"data/{part.replace('-', '_')}: 7 utterances, 0.00 h" for part in EVALUATION
    ]


@pytest.mark.parametrize(
    "librilight, librispeech, message",
    [
        ("", "downloads", "--librilight: expected the folder librispeech_finetuning"),
        (".", "downloads", "1h/0/clean: expected this folder, found none; it is in"),
        ("downloads", "LibriSpeech/dev-clean", "LibriSpeech: give that folder"),
    ],
)
def test_folders_are_checked_before_any_download(
    corpora, capsys, librilight, librispeech, message
):
    options = ["--librilight", librilight, "--librilight_url", NO_SERVER]
    options += ["--librispeech", librispeech, "--librispeech_url", NO_SERVER]
    with pytest.raises(SystemExit, match="1"):
        main(options)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "librilight, librispeech, archive",
    [
        ("downloads", "LibriSpeech", "librispeech_finetuning.tgz"),
        ("librispeech_finetuning", "downloads", "dev-clean.tar.gz"),
    ],
)
def test_downloads_what_is_asked_for(corpora, capsys, librilight, librispeech, archive):
    options = ["--librilight", librilight, "--librilight_url", NO_SERVER]
    options += ["--librispeech", librispeech, "--librispeech_url", NO_SERVER]
    with pytest.raises(SystemExit, match="1"):
        main(options)
    message = capsys.readouterr().err
    assert f"prepare_librilight: {NO_SERVER}/{archive}: " in message
