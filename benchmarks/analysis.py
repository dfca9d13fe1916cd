#!/usr/bin/env python3
"""How well probes predict which combination is best: against error rates of trained recognisers.

    cd egs2/mini_synth/asr1
    python ../../../benchmarks/analysis.py --cache_dir dump/feats --output_dir exp/analysis \
        ../../../docs/results/mini_synth.md ../../../docs/results/mini_synth_raw.md

Of each combination of the three pre-trained, and of the three fine-tuned upstreams, a probe gets the
last layers, as the recognisers of the tables did. Its character error rate is compared with the word
error rates that the pages have: rank correlation, the rank of what the probes would have chosen,
and the time of training what they replace. What was computed before, also by 'analyze' with the same
--output_dir, --cache_dir and upstreams, is not computed again.
"""

import argparse
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

from scipy.stats import spearmanr
from tabulate import tabulate

from espnet_ensemble.analysis.features import extract_layers
from espnet_ensemble.analysis.probe import ProbeConf, ProbeResult
from espnet_ensemble.analysis.sample import draw_sample
from espnet_ensemble.analysis.study import find_probe, open_steps
from espnet_ensemble.feature_cache.extract import ExtractConf
from espnet_ensemble.frontend_conf import FrontendConf

FAMILIES = ("wavlm", "hubert", "wav2vec2")
SUFFIX = {"pretrained": "", "finetuned": "_ctc"}


def get_parser() -> argparse.ArgumentParser:
    """Options of this benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="+", type=Path, help="pages of tables")
    parser.add_argument("--data_dir", default="dump/raw/train")
    parser.add_argument("--upstreams_dir", default="upstreams")
    parser.add_argument("--cache_dir", required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    return parser


@dataclass(frozen=True)
class Table:
    """Error rates of one head.

    Attributes:
        name: Page and title.
        size: "pretrained" or "finetuned".
        rates: The families of a combination -> word error rate.
        minutes: Of training them all, once.
    """

    name: str
    size: str
    rates: dict[frozenset[str], float]
    minutes: float


def read_tables(page: Path) -> Iterator[Table]:
    """Read the tables of a page that have all combinations."""
    for section in page.read_text(encoding="utf-8").split("\n## ")[1:]:
        title = section.partition("\n")[0]
        size = next((s for s in SUFFIX if f", {s}," in title), None)
        rates, minutes = {}, {}
        for cells in re.findall(r"^\|(.*)\|$", section, re.MULTILINE):
            first, *values = (cell.strip() for cell in cells.split("|"))
            families = frozenset(first.split("+"))
            if not families <= set(FAMILIES) or first.count("+") >= len(families):
                continue
            if families not in rates:
                found = re.match(r"[\d.]+", values[2])
                rates[families] = float(found[0]) if found else None
            else:
                minutes[families] = float(values[3] or 0)
        if size and rates and None not in rates.values() and len(rates) == 7:
            yield Table(f"{page.stem}: {title}", size, rates, sum(minutes.values()))


def main() -> None:
    """Probe, and compare."""
    args = get_parser().parse_args()
    start = time.perf_counter()
    names = [
        f"{args.upstreams_dir}/{family}{suffix}"
        for suffix in SUFFIX.values()
        for family in FAMILIES
    ]
    frontend = FrontendConf.parse({"upstreams": names, "normalize": "utterance"})
    extraction = ExtractConf(layers="all")
    sample = draw_sample(args.data_dir, args.output_dir, 1.0, frontend.fs)
    nested = extract_layers(sample.data_dir, frontend, args.cache_dir, extraction)
    layers = [layer for of_upstream in nested for layer in of_upstream]
    steps = open_steps(args.output_dir, sample, layers, frontend, extraction)
    conf = ProbeConf()
    predicted = {}
    for first, size in enumerate(SUFFIX):
        last = {f: nested[3 * first + i][-1] for i, f in enumerate(FAMILIES)}
        for number in (1, 2, 3):
            for families in combinations(FAMILIES, number):
                chosen = [last[family] for family in families]
                result = find_probe(steps, chosen, sample, conf)
                predicted[size, frozenset(families)] = result
                print(size, "+".join(families), f"{result.cer:.2f} %", flush=True)
    print(f"{time.perf_counter() - start:.0f} s\n")
    print(
        tabulate(
            [
                row(table, predicted)
                for page in args.pages
                for table in read_tables(page)
            ],
            [
                "table",
                "rank correlation",
                "chosen",
                "its WER",
                "rank",
                "best",
                "median",
                "training all, min",
            ],
            "github",
            floatfmt=".2f",
        )
    )


def row(table: Table, predicted: dict[tuple[str, frozenset[str]], ProbeResult]) -> list:
    """What the probes say of a table."""
    keys = list(table.rates)
    cers = [predicted[table.size, key].cer for key in keys]
    rates = [table.rates[key] for key in keys]
    chosen = keys[cers.index(min(cers))]
    return [
        table.name,
        spearmanr(cers, rates).statistic,
        "+".join(sorted(chosen)),
        table.rates[chosen],
        f"{sorted(rates).index(table.rates[chosen]) + 1} of {len(rates)}",
        min(rates),
        median(rates),
        table.minutes,
    ]


if __name__ == "__main__":
    main()
