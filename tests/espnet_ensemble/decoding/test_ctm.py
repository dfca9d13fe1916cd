import pytest

from espnet_ensemble.decoding.ctm import read_ctm, write_ctm
from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.errors import EnsembleError


def test_words_come_back(tmp_path):
    words = {
        "b-1": [Word("naïve", 0.1, 0.32, 0.5), Word("x", 0.4, 0.4, 0.0)],
        "a-1": [Word("日本", 12.345, 99.9, 1.0)],
        "c-1": [],
    }
    write_ctm(tmp_path / "ctm", words)
    assert read_ctm(tmp_path / "ctm") == {key: words[key] for key in ("a-1", "b-1")}
    lines = (tmp_path / "ctm").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "a-1 1 12.345 87.555 日本 1.000000"


def test_comments_of_other_programs(tmp_path):
    (tmp_path / "ctm").write_text(";; made by hand\nu 1 0.0 1.0 a 0.5\n")
    assert read_ctm(tmp_path / "ctm") == {"u": [Word("a", 0.0, 1.0, 0.5)]}


@pytest.mark.parametrize(
    "line",
    [
        "u 1 0.0 1.0 a",
        "u 1 x 1.0 a 0.5",
        "u 1 0 1 a 1.5",
        "u 1 0 -1 a 1",
        "",
        "u 1 0 nan a 1",
    ],
)
def test_a_line_that_is_none(line, tmp_path):
    (tmp_path / "ctm").write_text(f"u 1 0.0 1.0 a 0.5\n{line}\n")
    with pytest.raises(EnsembleError, match="ctm:2: expected 'utt_id channel start"):
        read_ctm(tmp_path / "ctm")


def test_no_file(tmp_path):
    with pytest.raises(EnsembleError, match="ctm: expected a CTM file"):
        read_ctm(tmp_path / "ctm")
