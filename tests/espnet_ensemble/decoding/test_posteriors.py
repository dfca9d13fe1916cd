"""Posteriors on disk."""

import pytest
import torch

from espnet_ensemble.data.tables import read_table, write_table
from espnet_ensemble.decoding.posteriors import PosteriorWriter, SavedPosteriors
from espnet_ensemble.errors import EnsembleError

TOKENS = ("<blank>", "<space>", "a")


@pytest.fixture
def utterances():
    generator = torch.Generator().manual_seed(0)
    sizes = {"utt-b": 7, "utt-a": 1, "utt-ä": 30}
    return {
        utt_id: torch.randn(n, 3, generator=generator).log_softmax(1)
        for utt_id, n in sizes.items()
    }


@pytest.fixture
def folder(tmp_path, utterances):
    with PosteriorWriter(tmp_path / "posteriors", TOKENS, 0.02) as writer:
        for utt_id, log_probs in utterances.items():
            writer.write(utt_id, log_probs)
    return tmp_path / "posteriors"


def test_they_are_read_as_they_were_written(folder, utterances):
    saved = SavedPosteriors(folder)
    assert (saved.tokens, saved.frame_seconds) == (TOKENS, 0.02)
    assert set(saved) == set(utterances)
    for utt_id, log_probs in utterances.items():
        assert torch.equal(saved[utt_id].log_probs, log_probs)
        assert saved[utt_id].frame_seconds == 0.02


def test_they_may_be_moved(folder, utterances):
    moved = folder.rename(folder.with_name("elsewhere"))
    found = SavedPosteriors(moved)["utt-a"].log_probs
    assert torch.equal(found, utterances["utt-a"])


def test_archives_of_several_jobs_may_be_beside_each_other(folder, utterances):
    (folder / "posteriors.ark").rename(folder / "posteriors.1.ark")
    with PosteriorWriter(folder.with_name("other"), TOKENS, 0.02) as writer:
        writer.write("utt-c", utterances["utt-b"])
    (folder.with_name("other") / "posteriors.ark").rename(folder / "posteriors.2.ark")
    places = {
        **read_table(folder / "posteriors.scp"),
        **read_table(folder.with_name("other") / "posteriors.scp"),
    }
    named = {
        utt_id: place.replace(".ark:", ".2.ark:" if utt_id == "utt-c" else ".1.ark:")
        for utt_id, place in places.items()
    }
    write_table(folder / "posteriors.scp", named)
    saved = SavedPosteriors(folder.rename(folder.with_name("moved")))
    assert torch.equal(saved["utt-c"].log_probs, utterances["utt-b"])
    assert torch.equal(saved["utt-ä"].log_probs, utterances["utt-ä"])


def test_a_writer_that_fails_leaves_nothing(tmp_path, utterances):
    with pytest.raises(KeyboardInterrupt):
        with PosteriorWriter(tmp_path, TOKENS, 0.02) as writer:
            writer.write("utt-a", utterances["utt-a"])
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_cut_off_is_named(folder):
    ark = folder / "posteriors.ark"
    ark.write_bytes(ark.read_bytes()[:-40])
    with pytest.raises(EnsembleError, match=r"posteriors\.ark.*'utt-ä'"):
        SavedPosteriors(folder)["utt-ä"]
