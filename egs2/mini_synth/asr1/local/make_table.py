#!/usr/bin/env python3
"""Put the word error rates of all combinations and heads into one table and one chart."""

import argparse
import itertools
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from tabulate import tabulate  # noqa: E402

from espnet_ensemble.recipes.results import read_results  # noqa: E402
from espnet_ensemble.recipes.tables import comparison  # noqa: E402

HEADS = {"ctc": "CTC layer only", "transformer2_ctc": "2 encoder layers + CTC"}
COMBINATIONS: list[tuple[str, ...]] = [
    ("wav2vec2",),
    ("hubert",),
    ("wavlm",),
    ("wav2vec2", "hubert"),
    ("wavlm", "wav2vec2"),
    ("wavlm", "hubert"),
    ("wav2vec2", "hubert", "wavlm"),
]
# (head, upstreams) -> word error rate, in percent
Rates = dict[tuple[str, tuple[str, ...]], float]


def read_rates(exp: Path, suffix: str, dataset: str, inference_tag: str) -> Rates:
    """Read the word error rates of the systems.

    Raises:
        ValueError: If a system has none.
    """
    rates = {}
    for head, names in itertools.product(HEADS, COMBINATIONS):
        upstreams = "_".join(name + suffix for name in names)
        folder = exp / f"asr_train_asr_{head}_{upstreams}_raw_char"
        found = [
            result.percentages.errors
            for result in read_results(folder)
            if (result.inference_tag, result.dataset) == (inference_tag, dataset)
            and result.metric == "wer"
        ]
        if not found:
            raise ValueError(f"{folder}: no result {inference_tag}/{dataset}")
        rates[head, names] = found[0]
    return rates


def relative_gain(rates: Rates, head: str, names: tuple[str, ...]) -> float | None:
    """How much lower the rate is than that of the best single member, in percent of it.

    Example:
        >>> rates = {("ctc", ("a",)): 20.0, ("ctc", ("b",)): 10.0, ("ctc", ("a", "b")): 9.0}
        >>> relative_gain(rates, "ctc", ("a", "b"))
        10.0
    """
    of_head = {key[1]: rate for key, rate in rates.items() if key[0] == head}
    return comparison.relative_gain(of_head, names)


def make_table(rates: Rates) -> str:
    """A table in Markdown: word error rate and relative gain, for each head."""
    rows = []
    for names in COMBINATIONS:
        row = [" + ".join(names)]
        for head in HEADS:
            gain = relative_gain(rates, head, names)
            row += [f"{rates[head, names]:.1f}", "" if gain is None else f"{gain:+.1f}"]
        rows.append(row)
    headers = ["upstreams"]
    for title in HEADS.values():
        headers += [f"{title}: WER (%)", "relative gain (%)"]
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers, "github", colalign=align, disable_numparse=True)


def draw(rates: Rates, path: Path) -> None:
    """Draw a bar for each system."""
    figure, axes = plt.subplots(figsize=(10, 4.5), layout="constrained")
    width = 0.8 / len(HEADS)
    for index, (head, title) in enumerate(HEADS.items()):
        places = [place + index * width for place in range(len(COMBINATIONS))]
        bars = axes.bar(
            places, [rates[head, names] for names in COMBINATIONS], width, label=title
        )
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set_xticks(
        [place + width / 2 for place in range(len(COMBINATIONS))],
        ["\n+ ".join(names) for names in COMBINATIONS],
    )
    axes.set_ylabel("word error rate (%)")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def get_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("exp", type=Path, help="folder of the experiments")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--suffix", default="", help="of the upstreams' names")
    parser.add_argument("--dataset", default="test")
    parser.add_argument(
        "--inference_tag", default="decode_asr_ctc_asr_model_valid.cer_ctc.ave"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make table.md and table.png."""
    args = get_parser().parse_args(cmd)
    rates = read_rates(args.exp, args.suffix, args.dataset, args.inference_tag)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    table = make_table(rates)
    (args.output_dir / "table.md").write_text(table + "\n", encoding="utf-8")
    draw(rates, args.output_dir / "table.png")
    print(f"{table}\n\nchart: {(args.output_dir / 'table.png').resolve()}")


if __name__ == "__main__":
    main()
