#!/usr/bin/env python3
"""Extract the features of frozen upstreams, to train from them.

The last line printed is the file that training reads:
--train_data_path_and_name_and_type FILE,speech,feature_cache

A run that was killed goes on where it stopped. With --verify, nothing is extracted: all
that is in --cache_dir is compared with its checksums.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.feature_cache.store import DEFAULT_STORAGE, STORAGES
from espnet_ensemble.feature_cache.verify import verify
from espnet_ensemble.feature_cache.workers import Workers


def get_parser() -> argparse.ArgumentParser:
    """Options of ``extract``."""
    parser = argparse.ArgumentParser(
        prog="espnet-ensemble extract",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data_dir",
        help="data directory with one audio file per utterance, such as dump/raw/train",
    )
    parser.add_argument(
        "--frontend_conf",
        metavar="FILE|JSON",
        help="YAML file with frontend_conf, such as a training configuration; or the "
        "frontend_conf itself, as JSON: {...}",
    )
    parser.add_argument(
        "--cache_dir", required=True, help="where all features are, such as dump/feats"
    )
    parser.add_argument(
        "--verify", action="store_true", help="look for damage in the cache"
    )
    group = parser.add_argument_group("what is stored")
    group.add_argument(
        "--storage",
        choices=STORAGES,
        default=DEFAULT_STORAGE,
        help="type of the numbers (default: %(default)s)",
    )
    group.add_argument(
        "--shard_utts",
        type=int,
        default=200,
        help="utterances per archive; a killed run continues after the last complete one "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--on_error",
        choices=("stop", "skip"),
        default="stop",
        help="what to do if the features of an utterance cannot be had: stop, or do the "
        "rest and list it in the member's file 'skipped' (default: %(default)s)",
    )
    group = parser.add_argument_group("who does it")
    group.add_argument(
        "--nj",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes on CPUs, of one thread each (default: %(default)s, the cores)",
    )
    group.add_argument(
        "--ngpu",
        type=int,
        default=torch.cuda.device_count(),
        help="GPUs; if not 0, there is one process for each, whatever --nj is "
        "(default: %(default)s, all)",
    )
    group.add_argument(
        "--dask",
        metavar="local|slurm|ADDRESS",
        help="extract on a Dask cluster: 'local' starts --nj workers here, 'slurm' --nj "
        "jobs as dask-jobqueue's configuration says; or that of a scheduler, "
        "tcp://host:8786",
    )
    group.add_argument(
        "--batch_seconds",
        type=float,
        default=60,
        help="seconds of speech that an upstream gets at once (default: %(default)s)",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Extract them, and say where they are."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    try:
        if args.verify:
            print(f"{args.cache_dir}: {verify(args.cache_dir)} records are as written")
            return
        for name in ("data_dir", "frontend_conf"):
            if getattr(args, name) is None:
                parser.error(f"--{name} is required")
        conf = ExtractConf(
            args.storage,
            args.shard_utts,
            args.batch_seconds,
            args.on_error == "skip",
            Workers(args.nj, args.ngpu, args.dask),
        )
        frontend_conf = _read_frontend_conf(args.frontend_conf)
        print(extract(args.data_dir, frontend_conf, args.cache_dir, conf))
    except (OSError, ValueError) as error:
        parser.exit(1, f"extract: {error}\n")


def _read_frontend_conf(value: str) -> dict[str, Any]:
    is_json = value.lstrip().startswith("{")
    text = value if is_json else Path(value).read_text(encoding="utf-8")
    try:
        conf = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--frontend_conf {value}: {error}") from error
    if isinstance(conf, dict):
        conf = conf.get("frontend_conf", conf)
    if not isinstance(conf, dict) or "upstreams" not in conf:
        raise ValueError(
            f"--frontend_conf {value}: expected frontend_conf with upstreams, found none"
        )
    return conf


if __name__ == "__main__":
    main()
