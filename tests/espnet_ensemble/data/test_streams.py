import random
from pathlib import Path

import pytest

from espnet_ensemble.data import streams
from espnet_ensemble.data.streams import SortedRows, Stream, group_values, match


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("in_memory", [1, 7, 100, 1000])
@pytest.mark.parametrize("number", [0, 1, 99, 100, 301])
def test_rows_are_sorted_wherever_they_are(number, in_memory, folder, monkeypatch):
    monkeypatch.setattr(streams, "_MAX_FILES", 5)
    rng = random.Random(number)
    rows = [
        (f"{rng.randrange(50)}", rng.randrange(9), "\u2028\tx") for _ in range(number)
    ]
    sorted_rows = SortedRows(iter(rows), in_memory)
    assert len(sorted_rows) == number
    for _ in range(2):
        assert list(sorted_rows) == sorted(rows)
    assert any(folder.iterdir()) == (number > in_memory)


def test_what_is_in_order_is_one_file_and_removed_in_the_end(folder):
    rows = SortedRows((f"{n:04}" for n in range(1000)), 10)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 1
    assert list(rows) == [f"{n:04}" for n in range(1000)]
    # Two readers have a place each.
    for number, pair in enumerate(zip(rows, rows, strict=True)):
        assert pair == (f"{number:04}", f"{number:04}")
    left = iter(rows)
    del rows
    assert sum(1 for _ in left) == 1000
    del left
    assert list(folder.iterdir()) == []


def test_files_that_are_open_are_few(folder, monkeypatch):
    monkeypatch.setattr(streams, "_MAX_FILES", 4)
    rows = SortedRows(reversed(range(1000)), 10)
    assert len([path for path in folder.rglob("*") if path.is_file()]) <= 4
    assert list(rows) == list(range(1000))


def test_a_stream_begins_anew(tmp_path):
    path = Path(tmp_path / "x")
    stream = Stream(lambda: iter(path.read_text()))
    path.write_text("ab")
    assert list(stream) == ["a", "b"]
    path.write_text("c")
    assert list(stream) == ["c"]


@pytest.mark.parametrize("seed", range(20))
def test_merged_as_dictionaries_would_be(seed):
    rng = random.Random(seed)
    left, right = (
        sorted((f"{key:02}", rng.random()) for key in rng.sample(range(30), 12))
        for _ in range(2)
    )
    both = sorted(dict(left).keys() & dict(right).keys())
    assert list(match(left, right)) == [
        (k, dict(left)[k], dict(right)[k]) for k in both
    ]
    assert list(streams.join(left, [key for key, _ in right])) == [
        row for row in left if row[0] in both
    ]
    assert list(streams.without(left, [key for key, _ in right])) == [
        row for row in left if row[0] not in both
    ]


def test_groups():
    rows = [("a", "1"), ("b", "2"), ("b", "1")]
    assert list(group_values(rows)) == [("a", ["1"]), ("b", ["2", "1"])]
