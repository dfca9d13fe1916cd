import pytest

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.decodings import (
    common_datasets,
    find_decoding,
    list_datasets,
)


@pytest.fixture
def exp(tmp_path):
    """An experiment with two decodings, one of them of two sets."""
    for text in ("greedy/test", "beam/test", "beam/org/dev"):
        (tmp_path / "asr_x" / text).mkdir(parents=True)
        (tmp_path / "asr_x" / text / "text").touch()
    (tmp_path / "asr_x" / "tensorboard" / "train").mkdir(parents=True)
    return tmp_path / "asr_x"


def test_the_folder_of_a_decoding(exp):
    assert find_decoding(exp / "beam") == exp / "beam"
    assert find_decoding(exp / "greedy", inference_tag="whatever") == exp / "greedy"
    assert list_datasets(exp / "beam") == ["org/dev", "test"]


def test_a_decoding_of_the_validation_set_alone(tmp_path):
    (tmp_path / "asr_x/beam/org/dev").mkdir(parents=True)
    (tmp_path / "asr_x/beam/org/dev/text").touch()
    for path in (tmp_path / "asr_x", tmp_path / "asr_x" / "beam"):
        assert find_decoding(path) == tmp_path / "asr_x" / "beam"


def test_an_experiment_and_a_tag(exp):
    assert find_decoding(exp, "greedy") == exp / "greedy"
    with pytest.raises(
        EnsembleError, match="expected a decoding x, found beam, greedy"
    ):
        find_decoding(exp, "x")


def test_several_decodings(exp):
    message = (
        f"{exp}: expected one decoding, found beam, greedy: give the folder of one"
    )
    with pytest.raises(EnsembleError, match=message):
        find_decoding(exp)


def test_no_decoding(tmp_path):
    with pytest.raises(EnsembleError, match=f"{tmp_path}: expected an experiment or a"):
        find_decoding(tmp_path)


def test_datasets_that_all_have(exp):
    both = [exp / "beam", exp / "greedy"]
    assert common_datasets(both) == ["test"]
    assert common_datasets([exp / "beam"]) == ["org/dev", "test"]
    assert common_datasets([exp / "beam"], ["test"]) == ["test"]
    with pytest.raises(EnsembleError, match="expected dataset org/dev, found test"):
        common_datasets(both, ["org/dev"])


def test_no_dataset_in_common(exp):
    (exp / "beam" / "test" / "text").unlink()
    with pytest.raises(EnsembleError, match="expected a dataset that all have decoded"):
        common_datasets([exp / "beam", exp / "greedy"])
