"""The recipe for ESPnet3 is that for ESPnet2, from the first stage to a demo."""

import json
import shutil

import pytest
import soundfile
import yaml
from repository import REPOSITORY

pytest.importorskip("espnet3", reason="ESPnet3 comes with ESPnet 202611")
pytest.importorskip("lightning", reason="ESPnet3 trains with Lightning")
pytest.importorskip("espeakng_loader")

RECIPE = REPOSITORY / "egs3" / "mini_synth" / "esp2_asr"


def test_the_model_is_that_of_the_recipe_for_espnet2():
    config = yaml.safe_load((RECIPE / "conf" / "training.yaml").read_text())
    path = REPOSITORY / "egs2/mini_synth/asr1/conf/train_asr_transformer2_ctc.yaml"
    expected = yaml.safe_load(path.read_text())
    del config["model"]["token_list"]
    assert {key: expected[key] for key in config["model"]} == config["model"]
    batches = config["dataloader"]["train"]["iter_factory"]["batches"]
    assert batches["batch_bins"] == expected["batch_bins"]
    assert config["trainer"]["max_epochs"] == expected["max_epoch"]
    assert config["trainer"]["gradient_clip_val"] == expected["grad_clip"]
    assert config["optimizer"]["lr"] == expected["optim_conf"]["lr"]
    warmup = config["scheduler"]["warmup_steps"]
    assert warmup == expected["scheduler_conf"]["warmup_steps"]


@pytest.mark.slow
def test_all_stages(tmp_path, monkeypatch):
    from espnet3.publication import InferenceModel
    from espnet3_recipe import run

    recipe = tmp_path / "egs3" / "mini_synth" / "esp2_asr"
    shutil.copytree(
        RECIPE, recipe, ignore=shutil.ignore_patterns("data", "exp", "dump")
    )
    monkeypatch.chdir(recipe)
    path = recipe / "conf" / "training.yaml"
    config = yaml.safe_load(path.read_text())
    minutes = {"train": 0.3, "dev": 0.1, "test": 0.1}
    config["create_dataset"] |= {"minutes": minutes, "nj": 1}
    config["feature_cache"]["nj"] = 1
    config["best_model_criterion"] = [["valid/cer_ctc", 1, "min"]]
    config["trainer"]["max_epochs"] = 2
    path.write_text(yaml.safe_dump(config))
    path = recipe / "conf" / "inference.yaml"
    config = yaml.safe_load(path.read_text())
    config["model"]["asr_model_file"] = "${exp_dir}/valid.cer_ctc.ave_1best.pth"
    config["parallel"] = {"options": {"processes": False}}
    path.write_text(yaml.safe_dump(config))

    stages = ["create_dataset", "train_tokenizer", "collect_stats", "extract_feats"]
    run([*stages, "train"], "training")
    roles = ("training", "inference", "metrics", "publication", "demo")
    run(["infer", "measure", "pack_model", "pack_demo"], *roles)

    exp = recipe / "exp" / "training"
    metrics = json.loads((exp / "inference" / "metrics.json").read_text())
    assert len(metrics) == 2
    demo = recipe / "exp" / "demo"
    requirements = (demo / "requirements.txt").read_text().splitlines()
    assert "espnet-ensemble" in requirements
    assert "espnet_ensemble" in (demo / "app.py").read_text()
    # What the page loads, elsewhere.
    bundle = shutil.move(exp / "model_pack", tmp_path / "bundle")
    shutil.rmtree(tmp_path / "egs3" / "mini_synth" / "esp2_asr" / "upstreams")
    samples = next((recipe / "downloads").rglob("*.wav"))
    text = InferenceModel.from_packed(bundle)(soundfile.read(samples)[::-1])["text"]
    assert isinstance(text, str)
