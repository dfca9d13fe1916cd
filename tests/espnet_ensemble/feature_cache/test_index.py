import pickle
import shutil
import tracemalloc

import pytest

from espnet_ensemble.data.tables import write_table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import Entry
from espnet_ensemble.feature_cache.identity import AudioIdentity
from espnet_ensemble.feature_cache.index import (
    Index,
    Place,
    index_damage,
    is_current,
    make_index,
)

TABLES = ["feats.scp"]
AUDIO = AudioIdentity.parse("5b1d 32044 17")


def make(folder, utt_ids):
    """An index of utterances, two to an archive."""
    folder.mkdir(exist_ok=True)
    entries = {
        utt_id: (f"{row // 2:04}.ark", Entry(row * 10**6, 9, 0, row + 1, AUDIO))
        for row, utt_id in enumerate(utt_ids)
    }
    write_table(folder / "feats.scp", dict.fromkeys(utt_ids, "x"))
    make_index(folder, entries, TABLES)
    return Index(folder)


def test_places_are_found(tmp_path):
    utt_ids = ["é", "b-long", "b", "a", "日本", "B"]
    index = make(tmp_path, utt_ids)
    assert list(index) == sorted(utt_ids) and len(index) == 6
    places = {utt_id: index[utt_id] for utt_id in utt_ids}
    assert places["é"] == Place("0000.ark", 0, 1)
    assert places["B"] == Place("0002.ark", 5 * 10**6, 6)
    assert dict(pickle.loads(pickle.dumps(index))) == places


@pytest.mark.parametrize("utt_id", ["", "A", "b-", "b-longer than any", "c", "日本語"])
def test_unknown_utterances(utt_id, tmp_path):
    index = make(tmp_path, ["a", "b", "b-long", "日本"])
    assert utt_id not in index
    with pytest.raises(KeyError):
        index[utt_id]


def test_nothing_at_all(tmp_path):
    index = make(tmp_path, [])
    assert list(index) == [] and "a" not in index


def test_same_keys(tmp_path):
    index = make(tmp_path / "one", ["a", "b"])
    assert index.has_same_keys(make(tmp_path / "two", ["b", "a"]))
    assert not index.has_same_keys(make(tmp_path / "three", ["a", "c"]))
    assert not index.has_same_keys(make(tmp_path / "four", ["a", "b", "c"]))


def test_it_takes_no_memory(tmp_path):
    utt_ids = [f"speaker-{number:08}" for number in range(50_000)]
    make(tmp_path, utt_ids)
    tracemalloc.start()
    index = Index(tmp_path)
    assert all(index[utt_id].num_frames for utt_id in utt_ids[::500])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


def test_only_that_of_the_tables_that_are_there_is_used(tmp_path):
    make(tmp_path, ["a", "b"])
    assert is_current(tmp_path, TABLES)
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert is_current(tmp_path / "copy", TABLES)
    write_table(tmp_path / "feats.scp", {"a": "x", "b": "y"})
    assert not is_current(tmp_path, TABLES)
    shutil.rmtree(tmp_path / "index")
    assert not is_current(tmp_path, TABLES)


def test_damage(tmp_path):
    make(tmp_path, ["a", "b"])
    assert index_damage(tmp_path, TABLES) is None
    path = tmp_path / "index" / "ids.npy"
    path.write_bytes(path.read_bytes()[:-1])
    assert index_damage(tmp_path, TABLES) == f"{path}: expected another checksum"
    with pytest.raises(CacheError, match="index: expected an index of the features"):
        Index(tmp_path)
    shutil.rmtree(tmp_path / "index")
    assert index_damage(tmp_path, TABLES) is None
