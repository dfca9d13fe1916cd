"""Experiments with what stage 13 leaves of them."""

import pytest

from espnet_ensemble.data.tables import write_table
from espnet_ensemble.files import write_yaml
from espnet_ensemble.recipes.results import write_score

SAID = {
    "alice-u1": "the cat sat",
    "alice-u2": "on the mat",
    "bob-u1": "all day long",
    "bob-u2": "and slept",
}


@pytest.fixture
def make_decoding(tmp_path, monkeypatch):
    """Make a scored decoding: make(experiment, recognised, said, dataset, config)."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))  # without sclite

    def make(name, hyp, said=SAID, dataset="test", tag="decode", **config):
        folder = tmp_path / "exp" / name / tag / dataset
        hyp = {**said, **hyp}
        speakers = {utt_id: utt_id.split("-")[0] for utt_id in said}
        tokens = [
            {utt_id: text.split() for utt_id, text in table.items()}
            for table in (said, hyp)
        ]
        write_score(folder / "score_wer", *tokens, speakers)
        write_table(folder / "text", hyp)
        write_yaml(tmp_path / "exp" / name / "config.yaml", config)
        return folder.parents[dataset.count("/")]

    return make
