#!/usr/bin/env python3
"""Training from the feature cache beside training from audio.

Two base-size models, WavLM and HuBERT, with random weights (speed and sizes do not depend
on their values), 2 transformer encoder layers and CTC, and noise for speech. ESPnet itself
trains, three times on the same batches: from the cache, from audio with the ensemble
frontend, from audio with `fused`, each in a fresh process.

    python benchmarks/feature_cache.py
"""

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import soundfile
import torch
import yaml
from frontend import (
    FAMILIES,
    FS,
    bare_transformers,
    save_s3prl,
    save_transformers,
    speech,
)
from tabulate import tabulate
from torch.utils.data import DataLoader

from espnet_ensemble.data.datadir import write
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.feature_cache.archive import STORAGES, ArchiveWriter, encode
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.feature_cache.identity import AudioIdentity, DataSet
from espnet_ensemble.feature_cache.shard import (
    ShardConf,
    ShardExtractor,
    plan_batches,
    plan_shards,
)
from espnet_ensemble.files import FileState
from espnet_ensemble.frontend_conf import FrontendConf

# `fused` alone could not import S3PRL on current torchaudio.
TRAIN = """
from espnet_ensemble.upstream.s3prl_hub import import_s3prl_nn
import_s3prl_nn()
from espnet_ensemble.bin.asr_train import main
main()
"""
TOKENS = ["<blank>", "<unk>", *"abcdefghijklmnopqrstuvwxyz", "<sos/eos>"]


def make_data(folder: Path, minutes: float) -> Path:
    """Write noise of 2 to 15 s, as 16-bit FLAC, and texts."""
    rng = np.random.default_rng(0)
    tables: dict[str, dict[str, str]] = {
        name: {} for name in ("utt2spk", "text", "wav.scp", "utt2num_samples")
    }
    left = minutes * 60
    while left > 0:
        key, seconds = f"utt{len(tables['text']):04}", rng.uniform(2, 15)
        path = folder / f"{key}.flac"
        num_samples = int(seconds * FS)
        soundfile.write(path, rng.normal(0, 0.1, num_samples), FS)
        text = "".join(rng.choice(TOKENS[2:-1], int(10 * seconds)))
        values = ("spk", text, str(path), str(num_samples))
        for table, value in zip(tables.values(), values, strict=True):
            table[key] = value
        left -= seconds
    write(folder / "data", tables)
    write_table(folder / "shape", tables["utt2num_samples"])
    (folder / "tokens.txt").write_text("\n".join(TOKENS) + "\n")
    return folder / "data"


def s3prl_upstreams(folder: Path) -> list[dict[str, str]]:
    """The ensemble frontend's `upstreams` that `fused` can have, too."""
    return [
        {"name": f"{f}_local", "path_or_url": str(folder / f"{f}.pt")} for f in FAMILIES
    ]


def train(name: str, source: str, frontend: dict, folder: Path, epochs: int) -> float:
    """Train in a fresh process.

    Returns:
        Seconds of an epoch's training: the median over all but the first.
    """
    exp = folder / f"exp_{name}"
    exp.mkdir()
    conf = {
        **frontend,
        "normalize": "utterance_mvn",
        "encoder": "transformer",
        "encoder_conf": {
            "input_layer": "linear",
            "output_size": 256,
            "linear_units": 1024,
            "num_blocks": 2,
        },
        "decoder": None,
        "model_conf": {"ctc_weight": 1.0},
        "batch_type": "numel",
        "batch_bins": 60 * FS,
        "max_epoch": epochs,
        "num_att_plot": 0,
        "token_type": "char",
        "token_list": str(folder / "tokens.txt"),
    }
    (exp / "train.yaml").write_text(yaml.safe_dump(conf))
    command = [sys.executable, "-W", "ignore", "-c", TRAIN]
    command += ["--config", exp / "train.yaml", "--output_dir", exp, "--ngpu", "0"]
    for split in ("train", "valid"):
        option = f"--{split}_data_path_and_name_and_type"
        command += [option, source, option, f"{folder}/data/text,text,text"]
        command += [f"--{split}_shape_file", folder / "shape"]
    result = subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True
    )
    if result.returncode != 0:
        sys.exit(f"{name}: training failed:\n{result.stderr[-3000:]}")
    # Written by the process above: not a file that was downloaded.
    state = torch.load(exp / "checkpoint.pth", weights_only=False)
    stats = list(state["reporter"]["stats"].values())
    return statistics.median(s["train"]["time"].total_seconds() for s in stats[1:])


def report_training(folder: Path, data: Path, epochs: int) -> None:
    """Print the seconds of an epoch for each source of the features."""
    upstreams = s3prl_upstreams(folder)
    ours = {"frontend": "ensemble", "frontend_conf": {"upstreams": upstreams}}
    theirs = {
        "frontend": "fused",
        "frontend_conf": {
            "frontends": [
                {
                    "frontend_type": "s3prl",
                    "frontend_conf": {
                        "upstream": upstream["name"],
                        "path_or_url": upstream["path_or_url"],
                    },
                    "multilayer_feature": False,
                }
                for upstream in upstreams
            ]
        },
        "freeze_param": [
            "frontend.frontends.0.upstream",
            "frontend.frontends.1.upstream",
        ],
    }
    cache = extract(data, ours["frontend_conf"], folder / "feats")
    audio = f"{data}/wav.scp,speech,sound"
    runs = {
        "fused": (audio, theirs, 2),
        "ensemble, from audio": (audio, ours, 2),
        "ensemble, from the cache": (f"{cache},speech,feature_cache", ours, epochs),
    }
    rows, seconds = [], {}
    for name, (source, frontend, num_epochs) in runs.items():
        seconds[name] = train(
            name.replace(", ", "_"), source, frontend, folder, num_epochs
        )
        faster = seconds["fused"] / seconds[name]
        rows.append([name, f"{seconds[name]:.2f}", f"{faster:.1f} x"])
    show(rows, ["training", "s per epoch", "faster than fused"])


def report_extraction(folder: Path, data: Path, runs: int) -> None:
    """Print the speed of extraction beside the bare model on the same batches."""
    data_set = DataSet.read(data)
    (shard,) = plan_shards([folder], data_set, FS, 1e9)
    bare = bare_transformers(folder, families=("wavlm",))
    frontend = FrontendConf.parse({"upstreams": [str(folder / "wavlm")]})
    torch.set_num_threads(1)
    extractors = {
        storage: ShardExtractor(ShardConf(frontend, storage, 60.0, False), "cpu")
        for storage in STORAGES
    }
    batches = [
        speech([shard.num_samples[utt_id] / FS for utt_id in batch])
        for batch in plan_batches(shard.num_samples, 60 * FS)
    ]
    times: dict[str, list[float]] = {name: [] for name in ("bare", *extractors)}
    for _ in range(runs):
        with torch.no_grad():
            start = time.perf_counter()
            for batch in batches:
                bare(batch)
            times["bare"].append(time.perf_counter() - start)
        for storage, extractor in extractors.items():
            start = time.perf_counter()
            for _ in extractor.make(shard):
                pass
            times[storage].append(time.perf_counter() - start)
    rows = []
    for name, values in times.items():
        share = statistics.median(
            b / v for b, v in zip(times["bare"], values, strict=True)
        )
        speed = shard.seconds / statistics.median(values)
        rows.append([name, f"{speed:.2f}", f"{share:.0%}"])
    show(rows, ["WavLM base, 1 thread", "s of speech per s", "of the bare model"])


def report_storage(folder: Path, data: Path) -> None:
    """Print sizes, errors and reading speeds of the types of storage."""
    conf = {"upstreams": [str(folder / f) for f in FAMILIES]}
    caches = {
        storage: str(extract(data, conf, folder / "caches", ExtractConf(storage)))
        for storage in STORAGES
    }
    hours = sum(DataSet.read(data).num_samples.values()) / FS / 3600
    exact = FeatureCache(caches["float32"])
    rows = []
    for storage, path in caches.items():
        size = sum(
            p.stat().st_size for p in folder.glob(f"caches/*-{storage}/*/shards/*/*")
        )
        cache = FeatureCache(path)
        errors = [
            np.linalg.norm(cache[key] - exact[key]) / np.linalg.norm(exact[key])
            for key in exact
        ]
        row = [storage, f"{size / hours / len(FAMILIES) / 2**30:.2f}"]
        seconds = write_seconds(exact, storage, folder) / hours
        row += [f"{max(errors):.1e}", f"{seconds:.1f}"]
        row += [f"{read_speed(path, n):.0f}" for n in (1, 2, 4)]
        rows.append(row)
    show(
        rows,
        ["storage", "GiB per hour", "largest error", "s to write an hour"]
        + [f"s of speech per s, {n} workers" for n in (1, 2, 4)],
    )


def write_seconds(cache: FeatureCache, storage: str, folder: Path) -> float:
    """Seconds to write one upstream's features."""
    feats = {key: torch.from_numpy(cache[key][:, :768]).clone() for key in cache}
    audio, writer = AudioIdentity("0" * 32, FileState(0, 0)), ArchiveWriter()
    start = time.perf_counter()
    for key, x in feats.items():
        writer.add(key, encode(x, storage), audio)
    writer.write(folder / "written.safetensors", {})
    return time.perf_counter() - start


def read_speed(path: str, num_workers: int) -> float:
    """Seconds of speech per second that loader workers read, of both upstreams."""
    from espnet2.train.dataset import ESPnetDataset

    dataset = ESPnetDataset([(path, "speech", "feature_cache")])
    keys = list(FeatureCache(path))
    order = np.random.default_rng(0).permutation(keys * 20).tolist()
    loader = DataLoader(
        dataset, batch_size=None, sampler=order, num_workers=num_workers
    )
    frames, start = 0, 0.0
    for number, (_, batch) in enumerate(loader):
        if number == len(keys):  # the workers have started
            frames, start = 0, time.perf_counter()
        frames += len(batch["speech"])
    return frames / 50 / (time.perf_counter() - start)


def show(rows: list[list[str]], headers: list[str]) -> None:
    """Print a table."""
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    print(flush=True)


def get_parser() -> argparse.ArgumentParser:
    """Options of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="of speech")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of extraction")
    parser.add_argument("--epochs", type=int, default=6, help="timed, from the cache")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Run the comparison and print its tables."""
    args = get_parser().parse_args(cmd)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    print(f"{os.cpu_count()} CPU cores, torch {torch.__version__}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = make_data(folder, args.minutes)
        save_s3prl(folder)
        save_transformers(folder)
        report_training(folder, data, args.epochs)
        report_storage(folder, data)
        report_extraction(folder, data, args.runs)


if __name__ == "__main__":
    main()
