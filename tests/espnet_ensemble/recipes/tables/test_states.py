import pytest

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.tables.states import read_state, running


@pytest.fixture
def system(tables, experiment):
    return experiment(tables[3].systems[1])


def describe(system):
    return read_state(system).describe(50)


def test_not_run(system):
    assert describe(system) == "not run"


@pytest.mark.parametrize("epoch", [0, 1, 12])
def test_interrupted(epoch, system, train):
    train(system, epoch)
    state = read_state(system)
    assert not state.done
    assert state.describe(50) == f"interrupted: epoch {epoch} of 50 done"


def test_running(system, train):
    exp = system.exp_dir
    exp.parent.mkdir()
    with running(exp):
        assert describe(system) == "running: not yet training"
        train(system, 3)
        assert describe(system) == "running: epoch 3 of 50 done"
    assert describe(system) == "interrupted: epoch 3 of 50 done"


def test_trained(system, train):
    exp = train(system, 50)
    (exp / ".done").touch()
    assert describe(system) == "interrupted: trained, not yet scored"


def test_done_when_every_set_is_scored(system, train, score):
    exp = train(system, 50)
    (exp / ".done").touch()
    # The validation set is decoded as asr.sh does it.
    score(system, 158, ["org/test_dev93"])
    assert describe(system) == "interrupted: trained, not yet scored"
    score(system, 149, ["test_eval92"])
    assert not read_state(system).done
    score(system, 151, ["test_eval93"])
    state = read_state(system)
    assert state.done
    assert state.rates == pytest.approx({"test_dev93": 15.8, "test_eval93": 15.1})
    assert state.describe(50) == "done: test_dev93 15.80, test_eval93 15.10"


def test_another_decoding_does_not_count(system, train, score):
    exp = score(system, 100)
    (tag,) = exp.iterdir()
    tag.rename(exp / "decode_asr_beam_asr_model_valid.cer_ctc.ave")
    assert describe(system) == "not run"


def test_rates_have_two_decimals(system, score):
    """sclite's own table would say 33.3."""
    exp = score(system, 333)
    assert "33.30" in describe(system)
    for result in exp.glob("*/*/score_wer/result.txt"):
        text = result.read_text()
        result.write_text(text.replace(" 1000 ", " 2000 "))
    assert "16.65" in describe(system)


def test_broken_results_are_named(system, score):
    exp = score(system, 100)
    result = next(exp.glob("*/*/score_wer/result.txt"))
    result.write_text("")
    with pytest.raises(EnsembleError, match=f"^{result}: "):
        read_state(system)
