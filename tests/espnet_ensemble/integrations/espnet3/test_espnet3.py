"""A recipe of ESPnet3's, stage by stage."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from espnet3_recipe import TASK, UTT_IDS, run, write_recipe
from omegaconf import OmegaConf

from espnet_ensemble import EnsembleError, EnsembleFrontend
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.feature_cache import CacheError

pytest.importorskip("espnet3", reason="ESPnet3 comes with ESPnet 202611")
pytest.importorskip("lightning", reason="ESPnet3 trains with Lightning")

ALL = ("training", "inference", "metrics", "publication")


def trained(folder):
    return folder / "exp" / "training"


@pytest.mark.slow
@pytest.mark.parametrize("task", [TASK, "espnet2.tasks.asr.ASRTask"])
def test_stages(task, tmp_path, monkeypatch, tiny_wavlm, tiny_hubert):
    from espnet3.publication import InferenceModel

    folder = write_recipe(tmp_path, ["upstreams/wavlm", tiny_hubert], task)
    shutil.copytree(tiny_wavlm, folder / "upstreams" / "wavlm")
    monkeypatch.chdir(folder)
    (folder / "tokens.txt").unlink()
    run(["train_tokenizer", "collect_stats", "train"], "training")
    tokens = (folder / "tokens.txt").read_text().split()
    assert sorted(tokens[2:4]) == ["h", "i"]
    shape = read_table(folder / "exp/stats/train/speech_shape")
    assert shape == {"a": "3217", "b": "8000", "d": "7999", "f": "16000"}

    # Frozen weights are in no checkpoint; what says which they are survives averaging.
    averaged = torch.load(trained(folder) / "valid.cer_ctc.ave_2best.pth")
    frontend = [key for key in averaged if key.startswith("frontend.")]
    assert sorted(frontend) == ["frontend.fingerprints", "frontend.probes"]
    last = torch.load(trained(folder) / "last.ckpt", weights_only=False)
    sizes = [
        x["exp_avg"].numel() for x in last["optimizer_states"][0]["state"].values()
    ]
    assert sum(sizes) == sum(
        x.numel() for key, x in averaged.items() if key not in frontend
    )

    run(["infer", "measure", "pack_model"], *ALL)
    decoded = trained(folder) / "inference" / "test"
    lines = (decoded / "text.scp").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == list(UTT_IDS)
    metrics = json.loads((decoded.parent / "metrics.json").read_text())
    assert len(metrics) == 2

    expected = dict(line.partition(" ")[::2] for line in lines)
    wav = str(folder / "wav" / "f.wav")
    bundle = shutil.move(trained(folder) / "model_pack", tmp_path / "elsewhere")
    shutil.rmtree(folder / "upstreams")
    packed = yaml.safe_load((bundle / "exp/training/config.yaml").read_text())
    names = packed["frontend_conf"]["upstreams"]
    assert names == ["upstreams/wavlm", f"upstreams/{tiny_hubert.rpartition('/')[2]}"]
    model = InferenceModel.from_packed(bundle)
    assert model(wav)["text"] == expected["f"]


def decode_audio_and_features(folder):
    """Whether both give the same; in the folder of a recipe that was trained."""
    path = folder / "conf" / "inference.yaml"
    config = yaml.safe_load(path.read_text())
    run(["infer"], "training", "inference")
    texts = [(trained(folder) / "inference/test/text.scp").read_text()]
    shutil.rmtree(trained(folder) / "inference")
    (features,) = folder.glob("feats/combinations/*/train/members.yaml")
    (entry,) = config["dataset"]["test"]
    entry["data_src"] = "espnet_ensemble.integrations.espnet3.feature_cache"
    entry["data_src_args"] = {"path": str(features), "numbered": True}
    config["contract"] = {
        "imports": ["espnet_ensemble.integrations.espnet3.datasets"],
        "inputs": {"speech": {"kind": "features", "channels": None}},
    }
    path.write_text(yaml.safe_dump(config))
    run(["infer"], "training", "inference")
    texts += [(trained(folder) / "inference/test/text.scp").read_text()]
    return texts[0] == texts[1] and len(texts[0].splitlines()) == len(UTT_IDS)


def test_freeze_param_takes_the_names_of_upstreams_that_train(tiny_wavlm, tiny_hubert):
    from espnet3.components.modeling.lightning_module import ESPnetLightningModule

    model = torch.nn.Module()
    upstreams = [tiny_wavlm, tiny_hubert]
    model.frontend = EnsembleFrontend(upstreams=upstreams, frozen=False)
    config = OmegaConf.create({"model": {"freeze_param": ["frontend.upstreams.0"]}})
    module = SimpleNamespace(model=model, config=config)
    ESPnetLightningModule._freeze_parameters(module)
    trains = {n.split(".")[2] for n, p in model.named_parameters() if p.requires_grad}
    assert trains == {"1"}


@pytest.mark.slow
def test_training_from_features_is_training_from_audio(
    tmp_path, monkeypatch, tiny_wavlm, tiny_hubert
):
    cache = {"cache_dir": "feats", "storage": "float32"}
    weights = []
    for name, more in (("audio", {}), ("features", {"feature_cache": cache})):
        folder = write_recipe(tmp_path / name, [tiny_wavlm, tiny_hubert], **more)
        monkeypatch.chdir(folder)
        run(["extract_feats", "train"], "training")
        assert (folder / "feats").exists() == bool(more)
        last = torch.load(trained(folder) / "last.ckpt", weights_only=False)
        weights.append(last["state_dict"]["ctc.ctc_lo.weight"])
    assert torch.allclose(*weights, atol=1e-5)
    assert decode_audio_and_features(folder)

    path = folder / "conf" / "training.yaml"
    config = yaml.safe_load(path.read_text())
    config["dataset"]["preprocessor"]["rir_scp"] = "rir.scp"
    (folder / "rir.scp").write_text("")
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(CacheError, match="rir_scp needs the waveform in each epoch"):
        run(["train"], "training")


@pytest.mark.slow
def test_a_worker_in_another_process_has_the_plugin():
    from espnet3.parallel.parallel import get_client, wrap_func_with_worker_env

    def set_up():
        import sys

        return {"names": [x for x in sys.modules if x == "espnet_ensemble"]}

    def loaded(index, names):
        return names

    config = OmegaConf.create({"env": "local", "n_workers": 1, "options": {}})
    with get_client(config, setup_fn=set_up) as client:
        future = client.submit(wrap_func_with_worker_env(loaded), 0)
        assert future.result() == ["espnet_ensemble"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "missing key 'cache_dir'"),
        ({"cache_dir": "feats", "storag": "int8"}, "unknown key 'storag'"),
        ("feats", "feature_cache: expected options, found 'feats'"),
    ],
)
def test_feature_cache_is_not_what_it_should_be(
    section, message, tmp_path, monkeypatch, tiny_wavlm
):
    folder = write_recipe(tmp_path, [tiny_wavlm], feature_cache=section)
    monkeypatch.chdir(folder)
    with pytest.raises(EnsembleError, match=message):
        run(["extract_feats"], "training")


def test_features_are_of_data_directories(tmp_path, monkeypatch, tiny_wavlm):
    cache = {"cache_dir": "feats"}
    folder = write_recipe(tmp_path, [tiny_wavlm], feature_cache=cache)
    (folder / "dataset").mkdir()
    (folder / "dataset" / "__init__.py").write_text(
        "from espnet3.components.data.base_dataset import BaseDataset\n"
        "class Dataset(BaseDataset):\n"
        "    def __getitem__(self, index):\n"
        "        raise IndexError\n"
    )
    path = folder / "conf" / "training.yaml"
    config = yaml.safe_load(path.read_text())
    config["dataset"]["train"] = [{"data_src_args": {}}]
    path.write_text(yaml.safe_dump(config))
    monkeypatch.chdir(folder)
    with pytest.raises(EnsembleError, match="dataset.train: expected .* found Dataset"):
        run(["extract_feats"], "training")
