#!/usr/bin/env python3
"""Extract the features of frozen upstreams, to train from them.

The last line printed is the file that training reads:
--train_data_path_and_name_and_type FILE,speech,feature_cache
Of several data directories, it is a line for each, in their order.

A run that was killed goes on where it stopped. With --verify, nothing is extracted: all
that is in --cache_dir is compared with its checksums; with --convert, what an older version
has written is made readable.
"""

import argparse
from typing import Any

import yaml

from espnet_ensemble.bin.command import make_parser, run, show_log
from espnet_ensemble.bin.worker_options import add_worker_options, read_workers
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.archive import DEFAULT_STORAGE, STORAGES
from espnet_ensemble.feature_cache.convert import convert
from espnet_ensemble.feature_cache.extract import ExtractConf, extract_sets
from espnet_ensemble.feature_cache.verify import verify
from espnet_ensemble.files import read_yaml


def get_parser() -> argparse.ArgumentParser:
    """Options of ``extract``."""
    parser = make_parser("extract", __doc__)
    parser.add_argument(
        "--data_dir",
        nargs="+",
        help="data directory with one audio file per utterance, such as dump/raw/train; "
        "or several, of different names",
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
    parser.add_argument(
        "--convert",
        action="store_true",
        help="make members that version 0.2 or older wrote, which are refused, ones of now, "
        "without the upstreams",
    )
    group = parser.add_argument_group("what is stored")
    group.add_argument(
        "--storage",
        choices=STORAGES,
        default=DEFAULT_STORAGE,
        help="type of the numbers (default: %(default)s)",
    )
    group.add_argument(
        "--layers",
        nargs="+",
        type=_layer,
        metavar="all|N",
        help="store these hidden states of each upstream, all or some indices, each as a "
        "member of its own, of one pass; what is printed is what 'layer: weighted_sum', "
        "or a list, trains from (default: what frontend_conf's 'layer' says)",
    )
    group.add_argument(
        "--shard_seconds",
        type=float,
        default=1200.0,
        help="seconds of speech per archive, about; a killed run continues after the last "
        "complete one (default: %(default)s)",
    )
    group.add_argument(
        "--on_error",
        choices=("stop", "skip"),
        default="stop",
        help="what to do if the features of an utterance cannot be had: stop, or do the "
        "rest and list it in the member's file 'skipped' (default: %(default)s)",
    )
    add_worker_options(parser)
    parser.add_argument(
        "--batch_seconds",
        type=float,
        default=60.0,
        help="seconds of speech that an upstream gets at once (default: %(default)s)",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Extract features, verify or convert those that are there, and say where they are."""
    show_log()
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    if args.verify:
        print(f"{args.cache_dir}: {verify(args.cache_dir)} records are as written")
        return
    if args.convert:
        print(f"{args.cache_dir}: {convert(args.cache_dir)} members are converted")
        return
    for name in ("data_dir", "frontend_conf"):
        if getattr(args, name) is None:
            get_parser().error(f"--{name} is required")
    conf = ExtractConf(
        storage=args.storage,
        shard_seconds=args.shard_seconds,
        batch_seconds=args.batch_seconds,
        skip=args.on_error == "skip",
        workers=read_workers(args),
        layers=_layers(args.layers),
    )
    frontend_conf = _read_frontend_conf(args.frontend_conf)
    for path in extract_sets(args.data_dir, frontend_conf, args.cache_dir, conf):
        print(path)


def _layer(word: str) -> str | int:
    return word if word == "all" else int(word)


def _layers(words: list[str | int] | None) -> str | list[int] | None:
    if words == ["all"]:
        return "all"
    if words and "all" in words:
        get_parser().error("--layers: expected 'all' or indices, found both")
    return words  # type: ignore[return-value]


def _read_frontend_conf(value: str) -> dict[str, Any]:
    if value.lstrip().startswith("{"):
        try:
            conf = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise EnsembleError(f"--frontend_conf {value}: {error}") from error
    else:
        conf = read_yaml(value)
    conf = conf.get("frontend_conf", conf)
    if not isinstance(conf, dict) or "upstreams" not in conf:
        raise EnsembleError(
            f"--frontend_conf {value}: expected frontend_conf with upstreams, found none"
        )
    return conf


if __name__ == "__main__":
    main()
