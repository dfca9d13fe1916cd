import pytest

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.corpora.librispeech import measure
from espnet_ensemble.recipes.corpora.parallel import map_processes, map_threads


def half(number: int) -> float:
    """Half of an even number; odd ones are taken for files that are damaged."""
    if number % 2:
        raise AudioError(f"{number}.wav: odd")
    return number / 2


@pytest.mark.parametrize("map_all", [map_threads, map_processes])
@pytest.mark.parametrize("nj", [1, 2])
def test_results_come_in_order(map_all, nj):
    assert map_all(abs, range(-20, 0), nj, "test") == list(range(20, 0, -1))


@pytest.mark.parametrize("map_all", [map_threads, map_processes])
def test_bad_files_are_named_when_all_others_are_done(map_all):
    done = []

    def work(number):
        done.append(half(number))

    with pytest.raises(EnsembleError) as error:
        map_all(work, range(30), 1, "test")
    assert len(done) == 15
    lines = str(error.value).splitlines()
    assert lines[0] == "15 of 30 recordings cannot be used:"
    assert lines[1] == "    1.wav: odd" and lines[-1] == "    and 5 more"
    assert len(lines) == 12


def test_bad_files_are_named_by_other_processes(tmp_path):
    with pytest.raises(EnsembleError, match="2 of 2 .*\n.*/a.flac: .*\n.*/b.flac: "):
        map_processes(measure, [tmp_path / "a.flac", tmp_path / "b.flac"], 2, "test")


def test_other_errors_stop_the_work():
    with pytest.raises(ZeroDivisionError):
        map_processes(lambda number: 1 / number, [1, 0], 1, "test")
