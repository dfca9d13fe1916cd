#!/usr/bin/env python3
"""All layers in one pass: time and size against one layer.

    python benchmarks/all_layers.py --data_dir dump/raw/valid --upstream upstreams/wavlm

Runs of one layer, of all layers in one pass, and of one pass for each layer take turns in one
process, several times; the best time of each counts. "writing" is the time to write the same
bytes again, and to sync neither.
"""

import argparse
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tabulate import tabulate

from espnet_ensemble.feature_cache.archive import STORAGES, SUFFIX
from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.feature_cache.identity import DataSet
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.upstream.registry import load_upstream


def get_parser() -> argparse.ArgumentParser:
    """Options of this benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--storage", choices=STORAGES, default="float16")
    parser.add_argument("--repeats", type=int, default=3)
    return parser


def main() -> None:
    """Measure, and print a table."""
    args = get_parser().parse_args()
    conf = FrontendConf.parse({"upstreams": [args.upstream]})
    (upstream,) = conf.upstreams
    num_layers = load_upstream(upstream).layers[-1]
    seconds: dict[str, list[float]] = defaultdict(list)
    sizes = {}
    samples = sum(DataSet.read(args.data_dir).num_samples.values())
    with tempfile.TemporaryDirectory() as folder:
        cache_dir = Path(folder) / "feats"
        for _ in range(args.repeats):
            for name, passes in (
                ("the last layer", [[num_layers]]),
                ("all layers, one pass", ["all"]),
                ("a pass for each layer", [[n] for n in range(num_layers + 1)]),
            ):
                start = time.perf_counter()
                for layers in passes:
                    options = ExtractConf(args.storage, layers=layers)
                    extract(args.data_dir, conf.to_dict(), cache_dir, options)
                seconds[name].append(time.perf_counter() - start)
                sizes[name] = sum(
                    p.stat().st_size for p in cache_dir.rglob(f"*{SUFFIX}")
                )
                if passes == ["all"]:
                    seconds["writing all layers"].append(write_again(cache_dir))
                shutil.rmtree(cache_dir)
    one = min(seconds["the last layer"])
    rows = [
        [name, f"{min(times):.2f}", f"{min(times) / one:.2f}", size_per_hour(name)]
        for size_per_hour in [lambda n: f"{sizes.get(n, 0) / samples * 57.6:.0f}"]
        for name, times in seconds.items()
    ]
    print(tabulate(rows, ["", "s", "against one layer", "MB per hour"], "github"))


def write_again(cache_dir: Path) -> float:
    """Seconds that writing the bytes of all archives takes."""
    archives = [path.read_bytes() for path in cache_dir.rglob(f"*{SUFFIX}")]
    start = time.perf_counter()
    for number, content in enumerate(archives):
        (cache_dir / f"again{number}").write_bytes(content)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
