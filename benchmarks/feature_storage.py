#!/usr/bin/env python3
"""What the cache's types of storage do to features, and to the loss and the word error rate
of a trained model that gets them.

Run it in a recipe's folder after training, as upstreams may be named relative to it:

    cd egs2/mini_synth/asr1 && ./run.sh
    python ../../../benchmarks/feature_storage.py --exp exp/asr_… --data_dir dump/raw/valid
"""

import argparse
import logging
import statistics
import tempfile
import warnings
from pathlib import Path

import editdistance
import numpy as np
import torch
import yaml
from espnet2.bin.asr_inference import Speech2Text
from espnet2.tasks.asr import ASRTask
from tabulate import tabulate

import espnet_ensemble  # noqa: F401
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.feature_cache.archive import STORAGES
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.extract import ExtractConf, extract


@torch.no_grad()
def losses(
    speech2text: Speech2Text, texts: dict[str, str], cache: FeatureCache
) -> list[float]:
    """The model's loss of each utterance, in evaluation mode."""
    preprocess = ASRTask.build_preprocess_fn(speech2text.asr_train_args, train=False)
    values = []
    for utt_id, text in texts.items():
        data = preprocess(utt_id, {"speech": cache[utt_id], "text": text})
        batch = {}
        for name, value in data.items():
            batch[name] = torch.from_numpy(value)[None]
            batch[f"{name}_lengths"] = torch.tensor([len(value)])
        values.append(speech2text.asr_model(**batch)[0].item())
    return values


def word_error_rate(
    speech2text: Speech2Text, texts: dict[str, str], cache: FeatureCache
) -> float:
    """In percent, as stages 12 and 13 have it from audio."""
    errors = words = 0
    for utt_id, text in texts.items():
        hypothesis, *_ = speech2text(cache[utt_id])[0]
        errors += editdistance.eval(text.split(), hypothesis.split())
        words += len(text.split())
    return 100 * errors / words


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference, as a share of the norm."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def get_parser() -> argparse.ArgumentParser:
    """Options of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exp", type=Path, required=True, help="a trained experiment")
    parser.add_argument("--checkpoint", default="valid.cer_ctc.ave.pth")
    parser.add_argument("--data_dir", type=Path, required=True, help="formatted data")
    parser.add_argument("--inference_config", default="conf/decode_asr_ctc.yaml")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Run the comparison and print its table."""
    args = get_parser().parse_args(cmd)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    speech2text = Speech2Text(
        args.exp / "config.yaml",
        args.exp / args.checkpoint,
        **yaml.safe_load(Path(args.inference_config).read_text()),
    )
    conf = speech2text.asr_train_args.frontend_conf
    texts = read_table(args.data_dir / "text")
    caches: dict[str, FeatureCache] = {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for storage in STORAGES:
            path = extract(args.data_dir, conf, folder, ExtractConf(storage))
            caches[storage] = FeatureCache(path)
        exact, first = caches["float32"], None
        for storage, cache in caches.items():
            errors = [relative_error(cache[key], exact[key]) for key in exact]
            found = losses(speech2text, texts, cache)
            first = first or found
            mean = statistics.mean(found)
            largest = max(abs(a - b) for a, b in zip(found, first, strict=True))
            difference = mean - statistics.mean(first)
            row = [storage, f"{max(errors):.1e}", f"{mean:.4f}", f"{difference:+.4f}"]
            wer = word_error_rate(speech2text, texts, cache)
            rows.append([*row, f"{largest:.4f}", f"{wer:.2f}"])
    headers = ["storage", "largest error of features", "mean loss", "difference"]
    headers += ["largest difference of an utterance", "WER"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
