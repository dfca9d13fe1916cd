import pytest
from repository import REPOSITORY

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.checkout import find_checkout


@pytest.mark.parametrize("folder", [".", "egs2/mini_synth/asr1"])
def test_the_checkout_around_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir(REPOSITORY / folder)
    assert find_checkout() == REPOSITORY


def test_a_given_folder_is_taken_or_refused_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(EnsembleError, match=f"^{tmp_path}: expected a checkout"):
        find_checkout(tmp_path)
    for name in ("conf/tables", "egs2"):
        (tmp_path / name).mkdir(parents=True)
    assert find_checkout(tmp_path) == tmp_path
