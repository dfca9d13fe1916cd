import pytest

from espnet_ensemble.data.tables import write_table
from espnet_ensemble.decoding.ctm import write_ctm
from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.recipes.results import write_score
from espnet_ensemble.recipes.tables.rivals import vote

REFERENCE = "the cat sat on the mat".split()


@pytest.fixture
def decode():
    """Leave behind what stages 12 and 13 do: decode(experiment, words, confidence)."""

    def make(experiment, words, confidence, with_ctm=True):
        for name in experiment.system.corpus.sets:
            tag = experiment.names.inference_tag
            folder = experiment.exp_dir / tag / name
            ref, hyp = {"utt1": REFERENCE}, {"utt1": words.split()}
            write_score(folder / "score_wer", ref, hyp, {"utt1": "alice"})
            write_table(folder / "text", {"utt1": words})
            spoken = [
                Word(word, float(i), float(i + 1), confidence)
                for i, word in enumerate(words.split())
            ]
            if with_ctm:
                write_ctm(folder / "ctm", {"utt1": spoken})
        return experiment

    return make


@pytest.fixture
def members(tables, experiment):
    singles = [s for s in tables[2].systems if len(s.families) == 1]
    return [experiment(system) for system in singles[:3]]


def test_what_most_have_is_taken(members, decode):
    for member, words in zip(
        members,
        [
            "the cat sat on a mat",
            "the bat sat on the mat",
            "the cat sat on the hat",
        ],
        strict=True,
    ):
        decode(member, words, 0.9)
    assert vote(members) == dict.fromkeys(members[0].system.corpus.sets, 0.0)


def test_noises_do_not_count(members, decode):
    for member in members[:2]:
        decode(member, "the cat sat <NOISE> on the mat", 0.9)
    assert set(vote(members[:2]).values()) == {0.0}


def test_nothing_is_known_before_all_are_decoded(members, decode):
    assert vote(members) == {}
    decode(members[0], "the cat", 0.9)
    assert vote(members[:2]) == {}
    decode(members[1], "the cat", 0.9, with_ctm=False)
    assert vote(members[:2]) == {}
