import pytest

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import write_yaml
from espnet_ensemble.recipes.compare.systems import differences, read_systems
from espnet_ensemble.recipes.scoring import Pair


def test_what_systems_recognised(make_decoding):
    decodings = [
        make_decoding("asr_a", {"alice-u1": "the cat", "bob-u2": ""}),
        make_decoding("asr_b", {"alice-u1": "a cat sat"}),
    ]
    first, second = read_systems(decodings, "test")
    assert first.decoding == decodings[0]
    assert [u.utt_id for u in first.score.utterances] == [
        "alice-u1",
        "alice-u2",
        "bob-u1",
        "bob-u2",
    ]
    assert [u.spk for u in first.score.utterances] == ["alice", "alice", "bob", "bob"]
    assert first.score.counts.deletions == 3
    assert first.wer == pytest.approx(100 * 3 / 11)
    assert second.score.utterances[0].pairs[0] == Pair("the", "a")


def test_references_that_differ(make_decoding):
    decodings = [
        make_decoding("asr_a", {}),
        make_decoding("asr_b", {}, {"alice-u1": "the cat spat"}),
    ]
    message = "expected the references of .*asr_a/decode/test; "
    with pytest.raises(EnsembleError, match=message):
        read_systems(decodings, "test")


def test_no_words(make_decoding):
    decoding = make_decoding("asr_a", {}, {"u-1": ""})
    with pytest.raises(EnsembleError, match="expected words, found none"):
        read_systems([decoding], "test")


def test_what_differs_in_configurations(make_decoding):
    def conf(names, lr, **more):
        frontend = {"upstreams": names, "fusion": "concat"}
        return {"frontend_conf": frontend, "optim_conf": {"lr": lr}, "seed": 0, **more}

    decodings = [
        make_decoding("asr_a", {}, **conf(["wavlm"], 0.1, output_dir="exp/a")),
        make_decoding("asr_b", {}, **conf(["wavlm", {"name": "x", "layer": 3}], 0.1)),
        make_decoding("asr_c", {}, tag="beam", **conf(["wavlm"], 0.1, patience=2)),
    ]
    assert differences(decodings) == {
        "decoding": ["decode", "decode", "beam"],
        "frontend_conf.upstreams": ["wavlm", "wavlm, {layer: 3, name: x}", "wavlm"],
        "patience": ["", "", "2"],
    }


def test_a_combination_has_no_training(make_decoding):
    decodings = [
        make_decoding("asr_a", {}, seed=1, max_epoch=2),
        make_decoding("asr_b", {}, seed=2, max_epoch=2),
        make_decoding("asr_combined", {}, tag="decode_rover"),
    ]
    (decodings[2].parent / "config.yaml").unlink()
    content = {"method": "rover", "decodings": ["exp/asr_a/decode"]}
    write_yaml(decodings[2] / "combination.yaml", content)
    assert differences(decodings) == {
        "decoding": ["decode", "decode", "decode_rover"],
        "seed": ["1", "2", ""],
    }
