import pickle
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import Archive, Entry
from espnet_ensemble.feature_cache.identity import AudioIdentity, encode_ids
from espnet_ensemble.feature_cache.index import Index, Place, differs, make_index

SHARDS = Path("shards")


def archives(utt_ids, of_each=2):
    """So many utterances to an archive, of 1, 2, 3 … frames."""
    for number in range(0, len(utt_ids), of_each):
        entries = {
            utt_id: Entry(
                offsets=(row * 10**6, row * 10**6 + 7),
                num_bytes=(9, 2),
                checksum=0,
                num_frames=row + 1,
                audio=AudioIdentity.parse(f"{row:032x} 32044 {row}"),
            )
            for row, utt_id in enumerate(utt_ids[number:][:of_each], number)
        }
        name = SHARDS / f"000/{number // of_each:06}.safetensors"
        yield Archive(name, 10**7 + number, "int8", entries, {})


def make(folder, utt_ids, of_each=2):
    folder.mkdir(exist_ok=True)
    assert make_index(folder, archives(utt_ids, of_each), SHARDS) == len(utt_ids)
    return Index(folder)


def test_places_are_found(tmp_path):
    utt_ids = ["é", "b-long", "b", "a", "日本", "B"]
    index = make(tmp_path, utt_ids)
    assert list(index) == sorted(utt_ids) and len(index) == 6
    places = {utt_id: index[utt_id] for utt_id in utt_ids}
    assert places["é"] == Place("000/000000.safetensors", 10**7, (0, 7), 1)
    last = Place(
        "000/000002.safetensors", 10**7 + 4, (5 * 10**6, 5 * 10**6 + 7), num_frames=6
    )
    assert places["B"] == last
    assert dict(pickle.loads(pickle.dumps(index))) == places
    assert index.digests.tolist() == [
        f"{utt_ids.index(utt_id):032x}".encode() for utt_id in sorted(utt_ids)
    ]


@pytest.mark.parametrize("utt_id", ["", "A", "b-", "b-longer than any", "c", "日本語"])
def test_unknown_utterances(utt_id, tmp_path):
    index = make(tmp_path, ["a", "b", "b-long", "日本"])
    assert utt_id not in index
    with pytest.raises(KeyError):
        index[utt_id]


def test_nothing_at_all(tmp_path):
    index = make(tmp_path, [])
    assert list(index) == [] and "a" not in index
    assert index.rows(encode_ids(["a"])).tolist() == [-1]


def test_rows(tmp_path):
    index = make(tmp_path, ["a", "c", "e"])
    assert index.rows(encode_ids("ace")).tolist() == [0, 1, 2]
    assert index.rows(encode_ids(["", "a", "b", "c", "efg", "z"])).tolist() == [
        *(-1, 0, -1, 1, -1, -1)
    ]


def test_same_keys(tmp_path):
    index = make(tmp_path / "one", ["a", "b"])
    assert index.has_same_keys(make(tmp_path / "two", ["b", "a"]))
    assert not index.has_same_keys(make(tmp_path / "three", ["a", "c"]))
    assert not index.has_same_keys(make(tmp_path / "four", ["a", "b", "c"]))


def test_it_takes_no_memory(tmp_path):
    utt_ids = [f"speaker-{number:08}" for number in range(50_000)]
    make(tmp_path, utt_ids, of_each=1000)
    tracemalloc.start()
    index = Index(tmp_path)
    assert all(index[utt_id].num_frames for utt_id in utt_ids[::500])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


def test_states_that_were_found_later_are_kept(tmp_path):
    index = make(tmp_path, ["a", "b", "c"])
    assert index.states.tolist() == [(32044, 0), (32044, 1), (32044, 2)]
    states = np.array([(1, 9), (2, 10)], index.states.dtype)
    index.keep_states(np.array([0, 2]), states)
    expected = [(1, 9), (32044, 1), (2, 10)]
    assert index.states.tolist() == Index(tmp_path).states.tolist() == expected
    assert not differs(tmp_path, archives(["a", "b", "c"]), SHARDS)


def test_difference_to_the_archives(tmp_path):
    make(tmp_path, ["a", "b", "c"])
    assert not differs(tmp_path, archives(["a", "b", "c"]), SHARDS)
    for others in (["a", "c", "b"], ["a", "b"], ["a", "b", "d"]):
        assert differs(tmp_path, archives(others), SHARDS)


@pytest.mark.parametrize(
    "name", ["ids.npy", "places.npy", "digests.npy", "archives.npy", "states.npy"]
)
def test_damage(name, tmp_path):
    make(tmp_path, ["a", "b"])
    path = tmp_path / "index" / name
    good = path.read_bytes()
    damages = [good[:-1], b"", good[:40]]
    if name != "states.npy":  # a hint: the worst is that a file is read
        damages.append(good[:-3] + bytes([good[-3] ^ 1]) + good[-2:])
    for bad in damages:
        path.write_bytes(bad)
        with pytest.raises(CacheError, match=f"{name}(.|\n)* mends it"):
            Index(tmp_path)
    path.unlink()
    with pytest.raises(CacheError, match=f"{name}(.|\n)* mends it"):
        Index(tmp_path)


def test_no_index(tmp_path):
    make(tmp_path, ["a", "b"])
    (tmp_path / "index" / "crc32.json").write_text("{}")
    with pytest.raises(CacheError, match="crc32.json: missing key 'ids'"):
        Index(tmp_path)
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(CacheError, match="expected a file, found No such file"):
        Index(tmp_path)


def test_archives_that_are_not_there(tmp_path):
    index = make(tmp_path, ["a", "b", "c"])
    folder = tmp_path / SHARDS / "000"
    folder.mkdir(parents=True)
    for number, size in enumerate((10**7, 10**7 + 2)):
        with (folder / f"{number:06}.safetensors").open("wb") as file:
            file.truncate(size)
    index.check_archives(tmp_path / SHARDS)
    with (folder / "000001.safetensors").open("wb") as file:
        file.truncate(10**7)
    with pytest.raises(CacheError, match="000001.safetensors: expected 10000002 bytes"):
        index.check_archives(tmp_path / SHARDS)
    (folder / "000000.safetensors").unlink()
    with pytest.raises(CacheError, match="000000.* bytes, found No such file"):
        index.check_archives(tmp_path / SHARDS)
