"""A checkout whose recipes have no more than what a table asks of them."""

import pytest
from repository import REPOSITORY

from espnet_ensemble.recipes.results import write_score
from espnet_ensemble.recipes.tables.experiments import Experiment, Setup
from espnet_ensemble.recipes.tables.systems import read_experiment_table

PAPER = Setup()


@pytest.fixture(scope="session")
def tables():
    """The paper's three tables, by number."""
    folder = REPOSITORY / "conf" / "tables"
    return {n: read_experiment_table(folder / f"table{n}.yaml") for n in (1, 2, 3)}


@pytest.fixture(scope="session")
def mini_synth():
    """The table of the miniature."""
    return read_experiment_table(REPOSITORY / "conf" / "tables" / "mini_synth.yaml")


@pytest.fixture
def checkout(tmp_path):
    """A checkout with empty recipes."""
    (tmp_path / "conf").symlink_to(REPOSITORY / "conf")
    (tmp_path / "local").symlink_to(REPOSITORY / "local")
    template = REPOSITORY / "egs2" / "TEMPLATE" / "asr1"
    for name in ("librilight_10h", "librispeech_100", "wsj"):
        recipe = tmp_path / "egs2" / name / "asr1"
        (recipe / "conf").mkdir(parents=True)
        for script in ("asr.sh", "cmd.sh", "path.sh", "utils"):
            (recipe / script).symlink_to(template / script)
        shared = REPOSITORY / "conf"
        for config in (*shared.glob("tuning/*.yaml"), shared / "decode_asr_ctc.yaml"):
            (recipe / "conf" / config.name).symlink_to(config)
    return tmp_path


@pytest.fixture
def experiment(checkout):
    """A system as an experiment of the checkout: experiment(system, setup)."""

    def make(system, setup=PAPER):
        return Experiment(checkout, system, setup)

    return make


@pytest.fixture
def train():
    """Leave behind what ESPnet's trainer does: train(experiment, epoch)."""

    def make(experiment, epoch):
        exp = experiment.exp_dir
        exp.mkdir(parents=True)
        (exp / "train.log").touch()
        if epoch:
            (exp / f"{epoch}epoch.pth").touch()
            (exp / "latest.pth").symlink_to(f"{epoch}epoch.pth")
        return exp

    return make


@pytest.fixture
def score():
    """Leave behind what stage 13 does: score(experiment, errors, sets).

    So many of 1000 words are wrong, of every set: 0.1 % each.
    """

    def make(experiment, errors, sets=None):
        exp = experiment.exp_dir
        ref = {"utt1": ["a"] * 1000}
        hyp = {"utt1": ["b"] * errors + ["a"] * (1000 - errors)}
        for name in sets or experiment.system.corpus.sets:
            folder = exp / experiment.names.inference_tag / name
            write_score(folder / "score_wer", ref, hyp, {"utt1": "alice"})
            if experiment.system.save_posteriors:
                (folder / "posteriors").mkdir()
                (folder / "posteriors" / "posteriors.scp").touch()
                (folder / ".done").touch()
        return exp

    return make
