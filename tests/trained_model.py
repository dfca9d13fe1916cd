"""An experiment as ESPnet's training leaves it, without training."""

import sys
from argparse import Namespace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import yaml


def build_model(
    folder: Path,
    upstreams,
    sharpness=1.0,
    letters=("a", "b", "c"),
    model_conf=None,
    **frontend_conf,
) -> None:
    """Write a config.yaml and a checkpoint as ESPnet's training does.

    Args:
        folder: Where.
        upstreams: Two of 32 features.
        sharpness: Factor of the CTC layer's outputs: how sure the model is.
        letters: Its tokens, besides those that all models have.
        model_conf: Of ``model: ensemble``, which it then is.
        frontend_conf: More of it; then there is no global_mvn.
    """
    from espnet2.tasks.asr import ASRTask

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    feats = generator.standard_normal((100, 64))
    stats = dict(count=100, sum=feats.sum(0), sum_square=np.square(feats).sum(0))
    np.savez(folder / "feats_stats.npz", **stats)
    with patch.object(sys, "argv", sys.argv[:1]):  # ESPnet would read pytest's options
        defaults = ASRTask.get_default_config()
    config = {
        **defaults,
        "token_list": ["<blank>", "<unk>", *letters, "<sos/eos>"],
        "token_type": "char",
        "frontend": "ensemble",
        "frontend_conf": {"upstreams": upstreams, **frontend_conf},
        "normalize": "global_mvn",
        "normalize_conf": {"stats_file": str(folder / "feats_stats.npz")},
        "encoder": "transformer",
        "encoder_conf": dict(
            input_layer="linear", output_size=32, linear_units=64, num_blocks=2
        ),
        "decoder": None,
        "model_conf": {"ctc_weight": 1.0},
    }
    if model_conf is not None:
        config |= {"model": "ensemble", "model_conf": {"ctc_weight": 1.0, **model_conf}}
    if frontend_conf:
        config |= {"normalize": "utterance_mvn", "normalize_conf": {}}
    torch.manual_seed(0)
    model = ASRTask.build_model(Namespace(**config)).eval()
    model.ctc.ctc_lo.bias.data[0] = -1.0  # less blank, for a text to compare
    if sharpness != 1:
        for parameter in model.ctc.ctc_lo.parameters():
            parameter.data *= sharpness
        # No training has it as a target, and ESPnet's search ends there.
        model.ctc.ctc_lo.bias.data[-1] = -1e4
    torch.save(model.state_dict(), folder / "valid.ave_2best.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
