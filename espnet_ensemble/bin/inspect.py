#!/usr/bin/env python3
"""Look into a trained ensemble: weights, what each member contributes, what each alone knows.

Datasets are decoded with all members, without each, and with each alone, as 'ablate' does; a
member left out is zeros, which a model that was trained without member_dropout has never seen. In
<exp_dir>/inspection are then index.html with pictures, and inspection.json. Run it in the recipe's
folder.
"""

import argparse

from espnet_ensemble.bin.ablate import add_ablation_options, decode, load_model
from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.ablation import contributions_table, leave_one_out
from espnet_ensemble.recipes.compare.comparison import compare
from espnet_ensemble.recipes.compare.report import heading, oracle_line
from espnet_ensemble.recipes.compare.systems import read_systems
from espnet_ensemble.recipes.inspection import (
    Inspected,
    count_words,
    read_weights,
    words_text,
    write_inspection,
)


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble inspect``."""
    parser = make_parser("inspect", __doc__)
    add_ablation_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Decode, compare, and write the page."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    model = load_model(args)
    names, weights = model.member_names, read_weights(model)
    without = list(leave_one_out(names))
    alone = [(name,) for name in names] if len(names) > 1 else []
    subsets = list(dict.fromkeys([*without, *alone]))
    found = []
    for dataset in args.dataset:
        folders = dict(zip(subsets, decode(args, model, subsets, dataset), strict=True))
        contributions = compare(
            dataset, read_systems([folders[subset] for subset in without], dataset)
        )
        print(
            heading(contributions),
            contributions_table(contributions, names),
            sep="\n\n",
        )
        of_alone = words = None
        if alone:
            of_alone = compare(
                dataset, read_systems([folders[subset] for subset in alone], dataset)
            )
            words = count_words(of_alone, {f"members_{name}": name for name in names})
            print("", words_text(words), oracle_line(of_alone), sep="\n")
        print(flush=True)
        found.append(Inspected(contributions, of_alone, words))
    print(write_inspection(weights, found, names, args.exp_dir / "inspection"))


if __name__ == "__main__":
    main()
