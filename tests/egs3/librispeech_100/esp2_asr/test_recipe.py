"""The recipe for ESPnet3 has the data and the systems of the one for ESPnet2."""

import importlib.util
import sys

import pytest
import yaml
from repository import REPOSITORY

from espnet_ensemble.data.datadir import validate
from espnet_ensemble.testing.librispeech import make_librispeech

pytest.importorskip("espnet3", reason="ESPnet3 comes with ESPnet 202611")

RECIPE = REPOSITORY / "egs3" / "librispeech_100" / "esp2_asr"
HEADS = {"": "transformer2_ctc", "_ctc": "ctc"}
FRONTENDS = [
    path.stem
    for size in ("base", "large")
    for path in (REPOSITORY / "conf" / "frontends").glob(f"{size}_*.yaml")
]


def load(path):
    from espnet3.utils.config_utils import load_and_merge_config
    from omegaconf import OmegaConf

    package = "egs3.TEMPLATE.esp2_asr"
    config = load_and_merge_config(path, f"{path.stem[:8]}.yaml", package)
    return OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("head", HEADS)
def test_every_system_of_table_2(head, frontend):
    found = load(RECIPE / "conf" / "tuning" / f"training{head}_{frontend}.yaml")
    conf = REPOSITORY / "conf"
    path = conf / "tuning" / f"train_asr_{HEADS[head]}.yaml"
    expected = yaml.safe_load(path.read_text())
    expected |= yaml.safe_load((conf / "frontends" / f"{frontend}.yaml").read_text())
    model = found["model"]
    assert {key: expected.get(key) for key in model if key in expected} == {
        key: value for key, value in model.items() if key in expected
    }
    keys = {
        "frontend",
        "encoder",
        "encoder_conf",
        "specaug",
        "specaug_conf",
        "normalize",
    }
    assert {key for key in keys if expected.get(key)} <= model.keys()
    batches = found["dataloader"]["train"]["iter_factory"]["batches"]
    assert batches["batch_bins"] == expected["batch_bins"]
    assert found["trainer"]["max_epochs"] == expected["max_epoch"]
    assert found["trainer"]["gradient_clip_val"] == expected["grad_clip"]
    assert found["optimizer"]["lr"] == expected["optim_conf"]["lr"]
    assert found["exp_tag"] == f"training{head}_{frontend}"


def test_its_data_are_those_of_the_corpus(tmp_path):
    corpus = make_librispeech(tmp_path / "LibriSpeech")
    path = RECIPE / "dataset" / "builder.py"
    spec = importlib.util.spec_from_file_location("librispeech_100_builder", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    builder = module.LibriSpeech100Builder()
    options = {"recipe_dir": tmp_path, "librispeech": str(tmp_path / "LibriSpeech")}
    assert builder.is_source_prepared(**options)
    builder.build(**options, partial=True)
    for name in (*module.SETS, "dev"):
        parts = [part for part in corpus if part.replace("-", "_").startswith(name)]
        expected = {key for part in parts for key in corpus[part]}
        assert validate(tmp_path / "data" / name)["utt2num_samples"].keys() == expected
