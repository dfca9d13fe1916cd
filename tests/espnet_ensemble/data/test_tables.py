import os
import re
import subprocess

import pytest

from espnet_ensemble.data.tables import DataError, Segment, read_table, write_table
from espnet_ensemble.files import write_text


def test_written_tables_are_in_c_locale_order(tmp_path):
    keys = ["b", "B", "a-1", "a", "a1", "a_1", "é", "z", "\U0001f600", "￿", "a.b", "~"]
    write_table(tmp_path / "x", {key: "1 2" for key in keys})
    lines = "".join(f"{key} 1 2\n" for key in keys).encode()
    env = dict(os.environ, LC_ALL="C")
    expected = subprocess.run(
        ["sort"], input=lines, capture_output=True, env=env
    ).stdout
    assert (tmp_path / "x").read_bytes() == expected
    assert sorted(read_table(tmp_path / "x")) == sorted(keys)


def test_read_is_what_was_written(tmp_path):
    table = {"a": "HELLO  WORLD", "b": "", "c": "日本 語"}
    write_table(tmp_path / "text", table)
    assert read_table(tmp_path / "text") == table
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_empty_table(tmp_path):
    write_table(tmp_path / "text", {})
    assert read_table(tmp_path / "text") == {}


def test_tabs_and_carriage_returns_are_no_part_of_a_value(tmp_path):
    (tmp_path / "text").write_bytes(b"a\tHELLO \r\nb  WORLD")
    assert read_table(tmp_path / "text") == {"a": "HELLO", "b": "WORLD"}


@pytest.mark.parametrize(
    "content,message",
    [
        (b"a 1\nb 2\na 3\n", "x:3: expected every key once, found 'a' also in line 1"),
        (b"a 1\n\nb 2\n", "x:2: expected a key and a value, found no text"),
        (b"a 1\nb \xff\n", "x:2: expected UTF-8, found b'b \\xff'"),
    ],
)
def test_wrong_table(content, message, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/{message}")):
        read_table(tmp_path / "x")


def test_missing_table(tmp_path):
    with pytest.raises(DataError, match="/x: expected a file, found No such file"):
        read_table(tmp_path / "x")


def test_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    write_text(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new\n" * 10000 + "\udc80")
    assert path.read_text() == "old\n"


@pytest.mark.parametrize(
    "value,segment,text",
    [
        ("r 0 1", Segment("r", 0, 1), "from 0.0 s to 1.0 s"),
        ("r 0.5 -1", Segment("r", 0.5), "from 0.5 s"),
        ("r 0.0 -1.0", Segment("r"), "from 0.0 s"),
        ("r 1e1 20", Segment("r", 10, 20), "from 10.0 s to 20.0 s"),
    ],
)
def test_segment(value, segment, text):
    assert Segment.parse(value) == segment
    assert str(Segment.parse(value)) == text
    assert segment.is_whole == (segment == Segment("r"))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "r",
        "r 1",
        "r 0 1 A",
        "r x 1",
        "r 2 1",
        "r 1 1",
        "r -1 1",
        "r nan 1",
        "r 0 nan",
        "r 0 inf",
        "r inf -1",
        "r 0 -2",
    ],
)
def test_wrong_segment(value):
    message = f"0 <= start < end (or end -1: to the recording's end); found {value!r}"
    with pytest.raises(DataError, match=re.escape(message)):
        Segment.parse(value)
