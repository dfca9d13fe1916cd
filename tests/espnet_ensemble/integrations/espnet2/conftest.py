"""An experiment as ESPnet's training leaves it, without training."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml


@pytest.fixture
def build_model():
    """Write a config.yaml and a checkpoint: build_model(folder, upstreams)."""
    return _build_model


def _build_model(folder: Path, upstreams) -> None:
    """Write a config.yaml and a checkpoint as ESPnet's training does."""
    from espnet2.tasks.asr import ASRTask

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    feats = generator.standard_normal((100, 64))
    stats = dict(count=100, sum=feats.sum(0), sum_square=np.square(feats).sum(0))
    np.savez(folder / "feats_stats.npz", **stats)
    config = {
        **ASRTask.get_default_config(),
        "token_list": ["<blank>", "<unk>", "a", "b", "c", "<sos/eos>"],
        "token_type": "char",
        "frontend": "ensemble",
        "frontend_conf": {"upstreams": upstreams},
        "normalize": "global_mvn",
        "normalize_conf": {"stats_file": str(folder / "feats_stats.npz")},
        "encoder": "transformer",
        "encoder_conf": dict(
            input_layer="linear", output_size=32, linear_units=64, num_blocks=2
        ),
        "decoder": None,
        "model_conf": {"ctc_weight": 1.0},
    }
    torch.manual_seed(0)
    model = ASRTask.build_model(Namespace(**config)).eval()
    model.ctc.ctc_lo.bias.data[0] = -1.0  # less blank, for a text to compare
    torch.save(model.state_dict(), folder / "valid.ave_2best.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
