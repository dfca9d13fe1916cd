"""What a model card tells of an experiment."""

import pytest
import yaml

from espnet_ensemble.integrations.espnet2.manifest import Manifest, PackedUpstream
from espnet_ensemble.recipes.model_card import CardSource, model_card
from espnet_ensemble.recipes.results import write_score

PUBLISHED = PackedUpstream(
    "microsoft/wavlm-large",
    bundled=False,
    source="microsoft/wavlm-large",
    revision="c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c",
    fingerprint="0123456789abcdef" * 4,
    licence="mit",
)
LOCAL = PackedUpstream("upstreams/hubert", bundled=True, fingerprint="fedcba98" * 8)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """A recipe's experiment that has been scored on ten utterances."""
    folder = tmp_path / "egs2" / "corpus" / "asr1"
    exp = folder / "exp" / "asr_x"
    exp.mkdir(parents=True)
    monkeypatch.chdir(folder)
    (exp / "speech_shape").write_text("utt1 16000\nutt2 8000\n")
    config = {
        "frontend": "ensemble",
        "frontend_conf": {
            "upstreams": ["microsoft/wavlm-large", {"name": "exp/hubert", "layer": 7}],
            "fusion": "projection",
            "fusion_conf": {"proj_dim": 80},
            "fs": 8000,
        },
        "encoder": "transformer",
        "token_type": "char",
        "train_data_path_and_name_and_type": [
            ["dump/raw/train/wav.scp", "speech", "sound"],
            ["dump/raw/train/text", "text", "text"],
        ],
        "train_shape_file": [str(exp / "speech_shape"), "exp/text_shape"],
        "valid_data_path_and_name_and_type": [["dump/raw/dev/text", "text", "text"]],
        "valid_shape_file": ["exp/gone"],
    }
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    (exp / "train.log").write_text("# python -m espnet2.bin.asr_train --seed 1\n# x\n")
    ref = {f"utt{i}": ["a", "b", "c", "d"] for i in range(10)}
    hyp = {**ref, "utt3": ["a", "b", "c"], "utt7": ["a", "x", "c", "d"]}
    spk = dict.fromkeys(ref, "alice")
    for metric in ("wer", "cer"):
        write_score(exp / "decode_y" / "test" / f"score_{metric}", ref, hyp, spk)
    return exp / "config.yaml"


@pytest.fixture
def card(experiment):
    source = CardSource(experiment, "asr_x.zip")
    return model_card(source, Manifest(8000, (PUBLISHED, LOCAL)))


def cells(card: str, first: str) -> list[str]:
    """Those of the table row that begins so."""
    (row,) = [line for line in card.splitlines() if line.startswith(f"| {first}")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_hub_reads_its_head(card):
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["library_name"] == "espnet"
    assert head["pipeline_tag"] == "automatic-speech-recognition"
    assert head["base_model"] == ["microsoft/wavlm-large"]


def test_upstreams_and_their_fusion(card):
    assert "by 2 frozen" in card and "(fusion: projection, proj_dim: 80)" in card
    assert "speech of one channel at 8000 Hz" in card
    assert cells(card, "[microsoft/wavlm-large](https://huggingface.co/mic")[1:] == [
        "last",
        "c1423ed94bb0",
        "mit",
        "0123456789abcdef",
        "no",
    ]
    assert cells(card, "hubert (made for this model)")[1:] == [
        "7",
        "-",
        "not stated",
        "fedcba98fedcba98",
        "upstreams/hubert",
    ]


def test_data_as_far_as_it_is_known(card):
    assert "Recipe: `corpus/asr1`" in card
    assert cells(card, "training") == ["training", "train", "2", "0.00"]
    assert cells(card, "choice of the") == ["choice of the checkpoint", "dev", "-", "-"]


def test_error_rates_with_their_intervals(card):
    row = cells(card, "test ")
    assert row[:3] == ["test", "decode_y", "10"]
    assert row[3] == row[4] == "5.0 (0.0 to 12.5)"


def test_the_command_and_the_three_ways(card):
    assert "```sh\npython -m espnet2.bin.asr_train --seed 1\n```" in card
    assert "espnet-ensemble transcribe asr_x.zip recording.wav" in card
    assert 'espnet_ensemble.pretrained("asr_x.zip")' in card
    assert 'ModelDownloader().download_and_unpack("asr_x.zip")' in card


def test_an_experiment_that_nobody_has_scored(experiment):
    for path in experiment.parent.rglob("result.txt"):
        path.unlink()
    (experiment.parent / "train.log").unlink()
    card = model_card(CardSource(experiment, "x"), Manifest(8000, (PUBLISHED, LOCAL)))
    assert "It has not been scored." in card
