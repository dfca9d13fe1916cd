import pytest

from espnet_ensemble.recipes.planning.costs import (
    Experiment,
    Workers,
    espnet_tables,
    list_costs,
)
from espnet_ensemble.recipes.planning.rates import ModelRate, Rate, UpstreamRate

# 50 frames a second of 768 numbers; 40 and 20 times as fast as speech.
UPSTREAMS = [
    UpstreamRate("wavlm", 50 * 768, 95_000_000, Rate(20, 2_000_000_000)),
    UpstreamRate("hubert", 50 * 768, 95_000_000, Rate(40, 1_000_000_000)),
]
MODEL = ModelRate(7_000_000, Rate(1000, 3_000_000_000), Rate(5000, 500_000_000))
FAST_DISK = 1e12


def costs(experiment, workers, write_rate=FAST_DISK):
    rows = list_costs(experiment, workers, UPSTREAMS, MODEL, write_rate)
    return {row.step.split(",")[0]: row for row in rows}


def test_disk_is_numbers_times_their_size():
    for storage, size in (("float16", 2), ("float32", 4), ("int8", 1)):
        rows = costs(Experiment(10, 3000, storage=storage), Workers("core", 2, 1))
        assert rows["features of wavlm"].disk == 36_000 * 50 * 768 * size
        assert rows["features of all"].disk == 2 * 36_000 * 50 * 768 * size
    assert rows["audio as stage 3 makes it"].disk == 36_000 * 16_000 * 2


def test_work_is_shared_by_workers():
    rows = costs(Experiment(10, 3000, epochs=20), Workers("GPU", 8, 8))
    assert rows["features of wavlm"].work == pytest.approx(10 / 20)
    assert rows["features of wavlm"].time == pytest.approx(10 / 20 / 8)
    assert rows["features of all"].work == pytest.approx(10 / 20 + 10 / 40)
    training = rows["training"]
    assert training.time == pytest.approx(20 * 10 / 1000 / 8)
    assert training.work == pytest.approx(20 * 10 / 1000)
    again = rows["the same without a cache"]
    assert again.work == pytest.approx(training.work + 20 * (10 / 20 + 10 / 40))
    decoding = rows["decoding 10 hours of audio"]
    assert decoding.work == pytest.approx(10 / 20 + 10 / 40 + 10 / 5000)


def test_one_process_trains_on_all_cores():
    rows = costs(Experiment(10, 3000, epochs=1, test_hours=1), Workers("core", 4, 1))
    assert rows["training"].time == pytest.approx(10 / 1000)
    assert rows["training"].work == pytest.approx(4 * 10 / 1000)
    work = 1 / 20 + 1 / 40 + 4 / 5000
    assert rows["decoding 1 hours of audio"].work == pytest.approx(work)


def test_copies_are_more_speech():
    one, three = (
        costs(Experiment(10, 3000, speeds), Workers("core", 2, 1)) for speeds in (1, 3)
    )
    for name in ("features of all", "training"):
        assert three[name].work == pytest.approx(3 * one[name].work)
    assert three["decoding 10 hours of audio"] == one["decoding 10 hours of audio"]
    assert espnet_tables(Experiment(10, 3000, 3)) == 3 * espnet_tables(
        Experiment(10, 3000)
    )


def test_a_slow_disk_is_waited_for():
    disk = 36_000 * 50 * 768 * 2
    rows = costs(Experiment(10, 3000), Workers("GPU", 100, 100), disk / 3600)
    assert rows["features of wavlm"].time == pytest.approx(1)
    assert rows["features of wavlm"].work == pytest.approx(10 / 20)
