"""What a model makes of its members."""

import json
from pathlib import Path

import pytest
import torch
from cache_runs import NUM_SAMPLES, write_noises

from espnet_ensemble.bin.inspect import main
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.integrations.espnet2.model import load_ctc_model
from espnet_ensemble.recipes.inspection import read_weights

MODEL = "valid.ave_2best.pth"


@pytest.fixture
def members(models):
    return [models("WavLM"), models("Hubert")]


@pytest.fixture
def names(members):
    return [Path(member).name for member in members]


def test_page_pictures_and_values(
    tmp_path, build_model, members, names, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))  # without sclite
    build_model(tmp_path / "exp/asr_x", members, fusion="projection")
    data = write_noises(tmp_path)
    write_table(data / "text", dict.fromkeys(NUM_SAMPLES, "ab c"))
    options = ["exp/asr_x", "--dataset", "train", "--data_dir", "."]
    main([*options, "--inference_asr_model", MODEL])
    folder = tmp_path / "exp/asr_x/inspection"
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "exp/asr_x/inspection/index.html"
    assert "The best system for each utterance" in printed
    values = json.loads((folder / "inspection.json").read_text())
    assert sum(values["weights"]["members"].values()) == pytest.approx(1)
    found = values["datasets"]["train"]
    # Of two members, each is what is left without the other.
    assert len(found["subsets"]) == 3
    words = found["words"]
    assert words["total"] == 2 * len(NUM_SAMPLES) and set(words["right"]) == set(names)
    both = sum(words["right"].values()) - sum(words["only"].values())
    assert sum(words["only"].values()) + both // 2 + words["none"] == words["total"]
    page = (folder / "index.html").read_text()
    for picture in ("members.png", "words_train.png"):
        assert picture in page and (folder / picture).stat().st_size > 1000


def test_weights_of_layers_and_of_the_fusion(tmp_path, build_model, members, names):
    first = {"name": members[0], "layer": "weighted_sum"}
    build_model(tmp_path, [first, members[1]], fusion="weighted_sum")
    model = load_ctc_model(None, tmp_path / MODEL)
    frontend = model.model.frontend
    with torch.no_grad():
        frontend.layers[0].weights[2] = 1.0
        frontend.fusion.weights[0] = 2.0
    weights = read_weights(model)
    layers = weights.layers[f"{names[0]}-layerweighted_sum"]
    assert list(layers) == [0, 1, 2, 3] and max(layers, key=layers.get) == 2
    expected = torch.tensor([2.0, 0.0]).softmax(dim=0).tolist()
    assert list(weights.members.values()) == pytest.approx(expected)
    assert weights.kind == "weight in the fusion"


def test_share_of_the_first_layer_behind_the_fusion(
    tmp_path, build_model, members, names
):
    build_model(tmp_path, members)
    model = load_ctc_model(None, tmp_path / MODEL)
    first = model.model.encoder.embed[0]
    with torch.no_grad():
        first.weight[:, :32] = 0.3
        first.weight[:, 32:] = -0.1
    assert read_weights(model).members == pytest.approx(
        {names[0]: 0.75, names[1]: 0.25}
    )
