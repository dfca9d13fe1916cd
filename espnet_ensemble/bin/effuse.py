#!/usr/bin/env python3
"""Make a trained ensemble run one upstream only, and predict the features of the others.

Linear maps from one member's hidden states to the others' features are fitted by ridge regression;
the member is the one that predicts best. Then they are fine-tuned together with all that the
ensemble has trained, from cached features. The result is an ordinary experiment, <exp_dir>_effuse,
which decodes, packs and serves like any other; a table compares the two. Run it in the recipe's
folder. What a killed run has trained is gone on with.
"""

import argparse
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tabulate import tabulate

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.scoring_options import add_scoring_options, scoring_options
from espnet_ensemble.bin.worker_options import add_worker_options, read_workers
from espnet_ensemble.feature_cache.archive import DEFAULT_STORAGE, STORAGES
from espnet_ensemble.feature_cache.extract import ExtractConf
from espnet_ensemble.files import write_text
from espnet_ensemble.recipes.compare.comparison import compare
from espnet_ensemble.recipes.compare.report import heading, results_table
from espnet_ensemble.recipes.compare.systems import read_systems

# Of the decodings that are compared.
_TAG = "decode_greedy"


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble effuse``."""
    parser = make_parser("effuse", __doc__)
    parser.add_argument("exp_dir", type=Path, help="ensemble, such as exp/asr_x")
    parser.add_argument(
        "--output_dir", type=Path, help="new experiment (default: <exp_dir>_effuse)"
    )
    parser.add_argument(
        "--inference_asr_model",
        default="valid.cer_ctc.ave.pth",
        help="checkpoint of both (default: %(default)s)",
    )
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data_dir",
        type=Path,
        default=Path("dump/raw"),
        help="folder with each set's data directory (default: %(default)s)",
    )
    group.add_argument("--train_set", default="train", help="(default: %(default)s)")
    group.add_argument("--valid_set", default="dev", help="(default: %(default)s)")
    group.add_argument(
        "--dataset",
        action="append",
        default=[],
        help="dataset to compare on, such as test; may be repeated",
    )
    group.add_argument(
        "--compare",
        nargs="*",
        type=Path,
        default=[],
        metavar="EXP_DIR",
        help="other experiments for the table, such as that of the member alone",
    )
    group.add_argument(
        "--cache_dir",
        type=Path,
        default=Path("dump/feats"),
        help="feature cache (default: %(default)s)",
    )
    group.add_argument("--storage", choices=STORAGES, default=DEFAULT_STORAGE)
    group = parser.add_argument_group("what is made")
    group.add_argument(
        "--member", help="the member that stays (default: the one that predicts best)"
    )
    group.add_argument(
        "--num_layers",
        type=int,
        help="hidden states that predict, at most (default: as many as fit the memory)",
    )
    group.add_argument(
        "--epochs", type=int, default=5, help="of fine-tuning (default: %(default)s)"
    )
    group.add_argument(
        "--lr_factor",
        type=float,
        default=0.3,
        help="its learning rate, in parts of the training's (default: %(default)s)",
    )
    add_worker_options(parser)
    add_scoring_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Fit, fine-tune, compare."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    # They take seconds, in which options are refused.
    from espnet_ensemble.bin import asr_train
    from espnet_ensemble.recipes.effusion import EffuseConf, Effusion, load_ensemble

    conf = EffuseConf(args.member, args.num_layers, args.epochs, args.lr_factor)
    output_dir = args.output_dir or args.exp_dir.with_name(
        f"{args.exp_dir.name}_effuse"
    )
    model = load_ensemble(args.exp_dir, args.inference_asr_model)
    config = output_dir / "effuse" / "train.yaml"
    if not config.exists():
        effusion = Effusion(
            model,
            args.exp_dir,
            args.inference_asr_model,
            args.data_dir / args.train_set,
            args.data_dir / args.valid_set,
            args.cache_dir,
            ExtractConf(args.storage, workers=read_workers(args), layers="all"),
            conf,
        )
        predictors = effusion.choose()
        for predictor in predictors:
            name = effusion.names[predictor.member]
            print(f"from {name}: R² {predictor.r2:.3f}, penalty {predictor.penalty:g}")
        config = effusion.prepare(predictors[0], output_dir)
    del model
    with _logged(output_dir / "train.log"):
        asr_train.main(["--config", str(config)])
    _report(args, output_dir)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Let what training logs be seen, and be where other commands look for it."""
    root = logging.getLogger()
    handlers: list[logging.Handler]
    handlers = [logging.StreamHandler(), logging.FileHandler(path, encoding="utf-8")]
    level, name = root.level, os.uname()[1].split(".")[0]
    text = f"[{name}] %(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s"
    for handler in handlers:
        handler.setFormatter(logging.Formatter(text))
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def _report(args: argparse.Namespace, output_dir: Path) -> None:
    from espnet_ensemble.analysis.cost import measure, total
    from espnet_ensemble.data.tables import read_table
    from espnet_ensemble.frontend_conf import FrontendConf
    from espnet_ensemble.integrations.espnet2.model import load_ctc_model
    from espnet_ensemble.recipes.ablation import decode_and_score
    from espnet_ensemble.recipes.effusion import count_parameters

    exp_dirs = [args.exp_dir, output_dir, *args.compare]
    paths = list(read_table(args.data_dir / args.valid_set / "wav.scp").values())
    rows = []
    for exp_dir in exp_dirs:
        model = load_ctc_model(None, exp_dir / args.inference_asr_model)
        frontend = FrontendConf.parse(model.config.frontend_conf)
        cost = total([measure(m, paths, "cpu") for m in frontend.members()])
        rows.append(
            [
                exp_dir.name,
                f"{count_parameters(model) / 1e6:.2f} M",
                f"{cost.parameters / 1e6:.2f} M",
                f"{cost.speed:.0f}",
            ]
        )
        for dataset in args.dataset:
            decode_and_score(
                model,
                model.member_names,
                exp_dir / _TAG,
                dataset,
                args.data_dir,
                scoring_options(args),
            )
    titles = ["", "parameters", "of encoders", "encoders, speech s/s"]
    parts = [tabulate(rows, titles, "github", disable_numparse=True)]
    for dataset in args.dataset:
        systems = read_systems([exp_dir / _TAG for exp_dir in exp_dirs], dataset)
        comparison = compare(dataset, systems)
        parts += [heading(comparison), results_table(comparison)]
    about = json.loads((output_dir / "effuse" / "prediction.json").read_text())
    parts.append(
        f"{about['member']} stays; from its hidden states "
        f"{', '.join(map(str, about['layers']))}, {100 * about['r2']:.1f} % of the variance of "
        "the others' features is predicted."
    )
    text = "\n\n".join(parts)
    write_text(output_dir / "effuse" / "report.md", text + "\n")
    print(text)


if __name__ == "__main__":
    main()
