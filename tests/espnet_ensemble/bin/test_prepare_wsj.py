import pytest

from espnet_ensemble.bin.prepare_wsj import main
from espnet_ensemble.testing.wsj import make_discs


def test_prints_what_was_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_discs(tmp_path)
    main("--wsj0 WSJ0 --wsj1 WSJ1 --stage 2".split())
    assert not (tmp_path / "data").exists()
    main("--wsj0 WSJ0 --wsj1 WSJ1 --hours 0.001 --nj 1".split())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data/train_si284: 7 utt, 3 speakers, 0.00 h"
    assert len(lines) == 6 and lines[5].startswith("data/train_0.001h: ")
    assert len(list(tmp_path.glob("downloads/wsj/wsj?/**/*.flac"))) == 13


def test_says_what_is_wrong(capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["--wsj0", "", "--wsj1", ""])
    message = capsys.readouterr().err
    assert "prepare_wsj: WSJ0: expected" in message
    assert "found ''; set WSJ0 in db.sh" in message
