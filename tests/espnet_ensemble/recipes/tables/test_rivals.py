import pytest
import torch
import yaml

from espnet_ensemble.data.tables import write_table
from espnet_ensemble.decoding.ctm import write_ctm
from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.decoding.posteriors import PosteriorWriter
from espnet_ensemble.recipes.results import write_score
from espnet_ensemble.recipes.tables.measures import sets_without_posteriors
from espnet_ensemble.recipes.tables.rivals import RIVALS, combined_rates
from espnet_ensemble.recipes.tables.states import read_state

REFERENCE = "the cat sat on the mat".split()
TOKENS = ("<blank>", "<space>", *sorted(set("".join(REFERENCE))), "<sos/eos>")
ROVER, POSTERIORS = RIVALS


def folders_of(experiment):
    decoding = experiment.exp_dir / experiment.names.inference_tag
    return [decoding / name for name in experiment.system.corpus.sets]


@pytest.fixture
def decode():
    """Leave behind what stages 12 and 13 do: decode(experiment, words)."""

    def make(experiment, words, with_ctm=True):
        for folder in folders_of(experiment):
            ref, hyp = {"utt1": REFERENCE}, {"utt1": words.split()}
            write_score(folder / "score_wer", ref, hyp, {"utt1": "alice"})
            write_table(folder / "text", {"utt1": words})
            (folder / ".done").touch()
            spoken = [
                Word(word, float(i), float(i + 1), confidence=0.9)
                for i, word in enumerate(words.split())
            ]
            if with_ctm:
                write_ctm(folder / "ctm", {"utt1": spoken})
        return experiment

    return make


@pytest.fixture
def keep():
    """Leave posteriors behind: keep(experiment, text, sure), a frame for each letter."""

    def make(experiment, text, sure, more_frames=0, tokens=TOKENS):
        ids = [tokens.index("<space>" if letter == " " else letter) for letter in text]
        # All else is as likely as all else.
        probs = torch.full((len(ids), len(tokens)), (1 - sure) / (len(tokens) - 1))
        probs[range(len(ids)), ids] = sure
        probs = torch.cat([probs, probs[-1:].repeat(more_frames, 1)])
        for folder in folders_of(experiment):
            with PosteriorWriter(folder / "posteriors", tokens, 0.02) as writer:
                writer.write("utt1", probs.log())
        config = {"token_list": list(tokens), "token_type": "char"}
        path = experiment.exp_dir / "config.yaml"
        path.write_text(yaml.safe_dump(config))

    return make


@pytest.fixture
def members(tables, experiment):
    singles = [s for s in tables[2].systems if len(s.families) == 1]
    return [experiment(system) for system in singles[:3]]


def in_all_sets(members, rate):
    return dict.fromkeys(members[0].system.corpus.sets, rate)


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
        decode(member, words)
    assert combined_rates(ROVER, members) == in_all_sets(members, 0.0)


def test_noises_do_not_count(members, decode):
    for member in members[:2]:
        decode(member, "the cat sat <NOISE> on the mat")
    assert combined_rates(ROVER, members[:2]) == in_all_sets(members, 0.0)


@pytest.mark.parametrize("word", ["<unk>", "s<unk>t", "<unk>sat"])
def test_letters_that_are_not_known_do(word, members, decode):
    for member in members[:2]:
        decode(member, f"the cat {word} on the mat")
    rate = pytest.approx(100 / 6)
    assert combined_rates(ROVER, members[:2]) == in_all_sets(members, rate)


def test_nothing_is_known_before_all_are_decoded(members, decode):
    assert combined_rates(ROVER, members) == {}
    decode(members[0], "the cat")
    assert combined_rates(ROVER, members[:2]) == {}
    decode(members[1], "the cat", with_ctm=False)
    assert combined_rates(ROVER, members[:2]) == {}


def test_the_mean_of_posteriors_takes_what_is_surest(members, decode, keep):
    texts = ["the cat sat on the hat", "the cat sat on the mat"]
    for member, text, sure in zip(members, texts, (0.5, 0.9), strict=False):
        decode(member, text)
        keep(member, text, sure)
    assert combined_rates(POSTERIORS, members[:2]) == in_all_sets(members, 0.0)
    # A vote takes the first where the two differ.
    wrong = in_all_sets(members, pytest.approx(100 / 6))
    assert combined_rates(ROVER, members[:2]) == wrong


def test_a_frame_more_at_the_end_is_the_loader_s(members, decode, keep):
    for member, more_frames in zip(members, (0, 1), strict=False):
        decode(member, "the cat sat on the mat")
        keep(member, "the cat sat on the mat", 0.9, more_frames)
    assert combined_rates(POSTERIORS, members[:2]) == in_all_sets(members, 0.0)


def test_posteriors_of_other_tokens_are_left_out(members, decode, keep, caplog):
    for member, tokens in zip(members, (TOKENS, TOKENS[::-1]), strict=False):
        decode(member, "the cat sat on the mat")
        keep(member, "the cat sat on the mat", sure=0.9, tokens=tokens)
    assert combined_rates(POSTERIORS, members[:2]) == {}
    assert "mean of posteriors, left out" in caplog.text
    assert f"expected the {len(TOKENS)} tokens of" in caplog.text
    assert combined_rates(ROVER, members[:2]) == in_all_sets(members, 0.0)


def test_a_system_without_its_posteriors_is_not_done(members, decode, keep):
    for member in members[:2]:
        decode(member, "the cat sat on the mat")
    sets = list(members[0].system.corpus.sets)
    assert sets_without_posteriors(members[0]) == sets
    (members[0].exp_dir / ".done").touch()
    lacks = "interrupted: trained, scored, but decoded without --save_posteriors true"
    assert read_state(members[0]).describe(30) == lacks
    assert combined_rates(POSTERIORS, members[:2]) == {}
    for member in members[:2]:
        keep(member, "the cat sat on the mat", 0.9)
    assert read_state(members[0]).done
    # Decoding them again has been interrupted.
    (folders_of(members[1])[0] / ".done").unlink()
    assert sets_without_posteriors(members[1]) == sets[:1]
    assert not read_state(members[1]).done
    rates = combined_rates(POSTERIORS, members[:2])
    assert rates == {name: 0.0 for name in sets[1:]}


def test_posteriors_are_kept_where_their_mean_is_taken(tables, experiment, mini_synth):
    """It changes no name: transcripts are the same."""
    for table in (*tables.values(), mini_synth):
        keeping = {str(s) for s in table.systems if s.save_posteriors}
        assert keeping == {
            str(s) for s in table.systems if s.part == "paper" and len(s.families) == 1
        }
    single, *_, pair = tables[1].systems[:3]
    words = experiment(single).command([])
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--inference_args"] == "--save_posteriors true"
    tag = experiment(pair).names.inference_tag
    assert options["--inference_tag"] == experiment(single).names.inference_tag == tag
    assert "--inference_args" not in experiment(pair).command([])
