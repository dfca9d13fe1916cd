"""Training from windows of archives, by ``iterator_type: task``."""

import os
from argparse import Namespace
from dataclasses import replace
from itertools import chain, groupby

import pytest
import torch
from cache_runs import FEATURES
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory

import espnet_ensemble  # noqa: F401
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import ArchiveWriter, encode
from espnet_ensemble.feature_cache.dataset import write_combination
from espnet_ensemble.feature_cache.identity import AudioIdentity, AudioStates
from espnet_ensemble.feature_cache.member import Member, MemberInfo
from espnet_ensemble.feature_cache.shard import archive_name
from espnet_ensemble.integrations.espnet2 import disk_order

UTT_IDS = [f"utt{number:03}" for number in range(60)]
OF_ARCHIVE, WINDOW = 6, 3
AUDIO = AudioIdentity.parse("5b1d7bd97b3e3e2bd9b4a93b9f2d4f11 32044 17")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Ten archives of six utterances of 1, 2, 3 … frames, in each of two members."""
    monkeypatch.setattr(disk_order, "WINDOW", WINDOW)
    members = []
    for name in ("wavlm", "hubert"):
        features = replace(FEATURES, upstream=name, feature_size=2)
        info = MemberInfo(features, "float16")
        member = Member(tmp_path / "feats" / name / "train", info)
        member.folder.mkdir(parents=True)
        with member.being_made(AudioStates({})):
            for number in range(0, len(UTT_IDS), OF_ARCHIVE):
                writer = ArchiveWriter()
                for utt_id in UTT_IDS[number : number + OF_ARCHIVE]:
                    feats = torch.full((1 + int(utt_id[3:]), 2), float(utt_id[3:]))
                    writer.add(utt_id, encode(feats, "float16"), AUDIO)
                path = member.shards / archive_name(number // OF_ARCHIVE)
                writer.write(path, {})
        members.append(member)
    names = [member.name for member in members]
    return write_combination(tmp_path / "feats", members, tmp_path, names)


@pytest.fixture
def build(cache, tmp_path):
    """Build the factory of training: build(utterances, option=value, …)."""

    class Task:
        """Of ESPnet's task, what is asked for."""

        @staticmethod
        def build_dataset(args, iter_options, utt_ids):
            return sorted(utt_ids)

    def make(utt_ids=UTT_IDS, **options):
        shapes = {utt_id: str(1 + int(utt_id[3:])) for utt_id in utt_ids}
        write_table(tmp_path / "speech_shape", shapes)
        write_table(
            tmp_path / "text_shape", {key: f"{n},7" for key, n in shapes.items()}
        )
        values = {
            "data_path_and_name_and_type": [
                (f"{tmp_path}/text", "text", "text"),
                (str(cache), "speech", "feature_cache"),
            ],
            "shape_files": [str(tmp_path / f"{x}_shape") for x in ("speech", "text")],
            "batch_type": "folded",
            "batch_size": 4,
            "batch_bins": 1000,
            "num_batches": None,
            "num_iters_per_epoch": None,
            "distributed": False,
            "train": True,
            "collate_fn": lambda batch: batch,
            "fold_length": [800, 150],
            "sort_in_batch": "descending",
            "sort_batch": "descending",
            "drop_last_iter": False,
            "min_batch_size": 1,
            "shuffle_within_batch": False,
            "seed": 1,
            "num_workers": 0,
            "ngpu": 0,
            **options,
        }
        conf = Namespace(**values)
        return disk_order.build_iter_factory(Task, conf, conf, "train")

    return make


def batches_of(factory, epoch):
    return list(factory.build_iter(epoch).batch_sampler)


def archive_of(utt_id):
    return int(utt_id[3:]) // OF_ARCHIVE


def archives_of(window):
    return {archive_of(utt_id) for batch in window for utt_id in batch}


def order_of(batches, factory):
    """The windows of batches that follow one another, by their numbers."""
    number_of = {
        archive: number
        for number, window in enumerate(factory.sampler.windows)
        for archive in archives_of(window)
    }
    return [
        n for n, _ in groupby(batches, lambda batch: number_of[archive_of(batch[0])])
    ]


@pytest.mark.parametrize("batch_type", ["folded", "numel", "unsorted", "length"])
def test_an_epoch_has_each_utterance_once_and_windows_follow_one_another(
    batch_type, build
):
    factory = build(batch_type=batch_type)
    archives = [archives_of(window) for window in factory.sampler.windows]
    assert sorted(map(len, archives)) == [1, 3, 3, 3]
    assert set.union(*archives) == set(range(10))
    # Neighbours in the order of ids do not stay together.
    assert any(max(window) - min(window) > WINDOW for window in archives)
    for epoch in (1, 2, 3):
        batches = batches_of(factory, epoch)
        assert sorted(chain.from_iterable(batches)) == UTT_IDS
        assert sorted(order_of(batches, factory)) == [0, 1, 2, 3]


def test_epochs_are_shuffled_and_repeatable(build):
    factory = build()
    first, second = batches_of(factory, 1), batches_of(factory, 2)
    assert sorted(map(sorted, first)) == sorted(map(sorted, second))
    # The windows, and the batches in them.
    assert order_of(first, factory) != order_of(second, factory)
    archives = archives_of(factory.sampler.windows[0])
    of_window = [
        [batch for batch in batches if archive_of(batch[0]) in archives]
        for batches in (first, second)
    ]
    assert of_window[0] != of_window[1]
    assert sorted(of_window[0]) == sorted(of_window[1])
    assert batches_of(build(), 1) == first
    other = batches_of(build(seed=2), 1)
    assert sorted(map(sorted, other)) != sorted(map(sorted, first))


def test_validation_has_one_order(build):
    factory = build(train=False)
    assert batches_of(factory, 1) == batches_of(factory, 2)


def test_batches_are_espnet_s_where_one_window_has_all(build, monkeypatch, tmp_path):
    monkeypatch.setattr(disk_order, "WINDOW", 10)
    found = batches_of(build(batch_type="numel", batch_bins=600), 3)
    expected = disk_order.build_batch_sampler(
        type="numel",
        shape_files=[str(tmp_path / f"{x}_shape") for x in ("speech", "text")],
        batch_size=4,
        batch_bins=600,
        sort_batch="descending",
    )
    assert sorted(found) == sorted(expected)


def test_a_part_of_an_epoch_at_a_time(build):
    factory = build(num_iters_per_epoch=5)
    assert isinstance(factory, SequenceIterFactory)
    total = len(factory.sampler)
    seen = [b for epoch in (1, 2, 3) for b in batches_of(factory, epoch)]
    assert len(seen) == 15 and total == len(list(factory.sampler))
    assert len(set(map(tuple, seen[:total]))) == min(15, total)


def test_ranks_share_each_batch(build, monkeypatch):
    whole = build(min_batch_size=2).sampler
    parts = []
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        factory = build(distributed=True)
        parts.append(batches_of(factory, 1))
        # Its own keys alone.
        assert factory.dataset == sorted(chain.from_iterable(parts[-1]))
    assert len(parts[0]) == len(parts[1]) == len(whole)
    both = [sorted([*a, *b]) for a, b in zip(*parts, strict=True)]
    assert sorted(both) == sorted(map(sorted, whole))


def test_archives_of_a_window_and_the_next_are_read_ahead(build, cache, monkeypatch):
    advised = []
    monkeypatch.setattr(disk_order, "_advise", advised.append)
    monkeypatch.setattr(disk_order.threading, "Thread", AtOnce)
    factory = build()
    batches, seen = iter(factory.build_iter(1).batch_sampler), []
    for batch in batches:
        seen.append(batch)
        archives = [{int(path.stem) for path in paths} for paths in advised]
        at = len(order_of(seen, factory))
        assert {archive_of(utt_id) for utt_id in batch} <= archives[at - 1]
        assert len(archives) == min(at, 3) + 1
    for paths in advised:
        members = [
            name for name, _ in groupby(paths, lambda path: path.parents[3].name)
        ]
        assert members == ["wavlm", "hubert"]
        assert all(os.path.exists(path) for path in paths)


class AtOnce:
    """A thread that is done when it has started."""

    def __init__(self, target, args, daemon):
        self.start = lambda: target(*args)


def test_advice_does_no_harm(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10000)
    disk_order._advise([tmp_path / "none", tmp_path / "a"])


def test_what_it_cannot_do_is_refused(build, cache):
    with pytest.raises(CacheError, match="shuffle_within_batch: false, found true"):
        build(shuffle_within_batch=True)
    with pytest.raises(CacheError, match="expected data of the type feature_cache"):
        build(data_path_and_name_and_type=[("wav.scp", "speech", "sound")])
    with pytest.raises(CacheError, match="expected features of 'utt999', found none"):
        build([*UTT_IDS, "utt999"])
    with pytest.raises(RuntimeError, match="keys are mismatched|different|mismatch"):
        write_table(cache.parents[4] / "other_shape", {"utt000": "1"})
        build(
            shape_files=[f"{cache.parents[4]}/{x}_shape" for x in ("speech", "other")]
        )
