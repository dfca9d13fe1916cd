#!/usr/bin/env python3
"""Extract the features of frozen upstreams, to train from them.

The last line printed is the file that training reads:
--train_data_path_and_name_and_type FILE,speech,feature_cache
"""

import argparse
from pathlib import Path
from typing import Any, Dict, List, Optional

import yaml

from espnet_ensemble.feature_cache.extract import ExtractConf, extract


def get_parser() -> argparse.ArgumentParser:
    """Options of ``extract``."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_ensemble.bin.extract",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data_dir",
        required=True,
        help="data directory with one audio file per utterance, such as dump/raw/train",
    )
    parser.add_argument(
        "--frontend_conf",
        required=True,
        metavar="FILE|JSON",
        help="YAML file with frontend_conf, such as a training configuration; or the "
        "frontend_conf itself, as JSON: {...}",
    )
    parser.add_argument(
        "--cache_dir", required=True, help="where all features are, such as dump/feats"
    )
    parser.add_argument(
        "--nj", type=int, default=2, help="processes, of one thread each (default: 2)"
    )
    parser.add_argument(
        "--shard_utts",
        type=int,
        default=200,
        help="utterances per archive; a killed run continues after the last complete one "
        "(default: 200)",
    )
    parser.add_argument(
        "--batch_seconds",
        type=float,
        default=60,
        help="seconds of speech that an upstream gets at once (default: 60)",
    )
    return parser


def main(cmd: Optional[List[str]] = None) -> None:
    """Extract them, and say where they are."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    try:
        conf = ExtractConf(args.nj, args.shard_utts, args.batch_seconds)
        frontend_conf = _read_frontend_conf(args.frontend_conf)
        print(extract(args.data_dir, frontend_conf, args.cache_dir, conf))
    except (OSError, ValueError) as error:
        parser.exit(1, f"extract: {error}\n")


def _read_frontend_conf(value: str) -> Dict[str, Any]:
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
