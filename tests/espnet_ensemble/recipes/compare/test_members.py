import matplotlib.image
import pytest

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.compare.members import (
    compare_members,
    member_frontends,
    render_members,
)
from espnet_ensemble.recipes.compare.picture import draw_systems
from espnet_ensemble.recipes.training_config import TrainingConfig


def test_members_beside_the_ensemble(make_decoding, tmp_path):
    exp = make_decoding("asr_x", {"bob-u2": "and slapped"}).parent
    make_decoding("asr_x/members/wavlm", {"bob-u2": "or slapped"})
    make_decoding("asr_x/members/hubert", {"alice-u1": "a bat sits", "bob-u2": "or"})
    (comparison,) = compare_members(exp, "decode")
    lines = render_members(comparison).splitlines()
    # The worst first; what people came for at the end.
    found = [[cell.strip() for cell in line.split("|")[1:3]] for line in lines[2:5]]
    assert found == [
        ["hubert alone", "45.45"],
        ["wavlm alone", "18.18"],
        ["together", "9.09"],
    ]
    assert lines[-1].startswith(
        "test: together 50 % fewer errors than the best alone, wavlm (paired bootstrap: p = "
    )
    draw_systems([comparison], tmp_path / "images" / "members.png")
    assert matplotlib.image.imread(tmp_path / "images" / "members.png").ndim == 3


def test_a_member_may_be_better(make_decoding):
    exp = make_decoding("asr_x", {"bob-u2": "or slapped"}).parent
    make_decoding("asr_x/members/wavlm", {"bob-u2": "and slapped"})
    (comparison,) = compare_members(exp, "decode")
    assert "together 100 % more errors" in render_members(comparison)


def test_no_members(make_decoding):
    exp = make_decoding("asr_x", {}).parent
    with pytest.raises(EnsembleError, match="members: expected an experiment for each"):
        compare_members(exp, "decode")


def test_frontends_keep_the_options_of_an_upstream():
    frontend_conf = {
        "upstreams": ["up/wavlm", {"name": "up/hubert", "layer": 3}],
        "normalize": "utterance",
        "fusion": "gate",
        "fusion_conf": {"gate_per": "utterance"},
        "member_dropout": 0.2,
        "member_warmup": {"num_batches": 9, "first": "wavlm"},
    }
    config = TrainingConfig(
        "train", {"frontend": "ensemble", "frontend_conf": frontend_conf}
    )
    frontends = member_frontends(config)
    assert frontends["hubert-layer3"] == {
        "frontend": "ensemble",
        "frontend_conf": {
            "upstreams": [{"name": "up/hubert", "layer": 3}],
            "normalize": "utterance",
        },
    }
    assert list(frontends) == ["wavlm", "hubert-layer3"]


@pytest.mark.parametrize(
    "content",
    [{}, {"frontend": "ensemble", "frontend_conf": {"upstreams": ["up/wavlm"]}}],
)
def test_nothing_to_take_apart(content):
    with pytest.raises(EnsembleError, match="with several upstreams"):
        member_frontends(TrainingConfig("train", content))
