#!/usr/bin/env python3
"""Say what an experiment will cost: disk, memory, hours of GPUs or cores, and time.

Rates are measured here, on made data, in about a minute: of each upstream, of the model above
them, and of the disk. All else is extrapolated from these, in proportion to hours and
workers. Upstreams that do not load are measured with random weights of their size.

    espnet-ensemble plan --hours 960 --upstreams wavlm_large hubert_large_ll60k
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import humanfriendly
import torch
from tabulate import tabulate

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes import starter
from espnet_ensemble.recipes.planning.costs import (
    BYTES,
    Cost,
    Experiment,
    Workers,
    espnet_tables,
    list_costs,
)
from espnet_ensemble.recipes.planning.rates import (
    Measure,
    UpstreamRate,
    measure_model,
    measure_upstream,
    measure_writing,
)
from espnet_ensemble.recipes.planning.stand_ins import load_or_stand_in
from espnet_ensemble.recipes.training_config import TrainingConfig

#: Seconds that measuring takes, all in all, where a machine is not much slower than speech.
BUDGET = 30.0
_DEFAULT_CONFIG = Path(
    starter.__path__[0], "template", "conf", "train_asr_transformer2_ctc.yaml"
)


def get_parser() -> argparse.ArgumentParser:
    """Options of ``plan``."""
    parser = make_parser("plan", __doc__)
    parser.add_argument(
        "--hours", type=float, required=True, help="hours of training speech"
    )
    parser.add_argument(
        "--utterances",
        type=int,
        help="how many they are (default: of 12.3 s, as LibriSpeech's)",
    )
    parser.add_argument(
        "--upstreams",
        nargs="+",
        help="in place of the configuration's, such as: wavlm_base hubert_base",
    )
    parser.add_argument(
        "--asr_config",
        type=Path,
        default=_DEFAULT_CONFIG,
        help="training configuration (default: new-recipe's, 2 transformer layers)",
    )
    parser.add_argument(
        "--epochs", type=int, help="of training (default: the configuration's)"
    )
    parser.add_argument(
        "--speed_perturb_factors",
        type=str.split,
        default=["1.0"],
        metavar="FACTORS",
        help='copies of the speech, such as "0.9 1.0 1.1" (default: none)',
    )
    parser.add_argument(
        "--storage",
        choices=BYTES,
        default="float16",
        help="type of cached features (default: %(default)s)",
    )
    parser.add_argument(
        "--test_hours",
        type=float,
        default=10,
        help="hours to be decoded (default: %(default)s)",
    )
    parser.add_argument(
        "--ngpu",
        type=int,
        help="GPUs of a machine, such as the one here (default: all that are here)",
    )
    parser.add_argument(
        "--nj",
        type=int,
        help="without GPUs: processes of extraction (default: the cores that are here)",
    )
    parser.add_argument(
        "--num_nodes", type=int, default=1, help="machines (default: %(default)s)"
    )
    parser.add_argument(
        "--cache_dir",
        type=Path,
        default=Path(),
        help="folder on the disk of the features (default: this one)",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Measure, and print the plan."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    config = _config(args)
    frontend_conf = config.frontend_conf()
    if frontend_conf is None:
        raise EnsembleError(
            f"{args.asr_config}: expected frontend: ensemble, found "
            f"{config.content.get('frontend')}; name --upstreams"
        )
    experiment, workers = _experiment(args, config), _workers(args)
    device = torch.device("cuda" if workers.unit == "GPU" else "cpu")
    utterance = 3600 * experiment.hours / experiment.utterances
    number = len(frontend_conf.upstreams) + 2
    measure = Measure(device, BUDGET / number, utterance)
    upstreams, planned = [], []
    for name, conf in zip(
        frontend_conf.member_names, frontend_conf.upstreams, strict=True
    ):
        planned.append(load_or_stand_in(name, conf, frontend_conf.download_dir))
        upstreams.append(measure_upstream(planned[-1], measure))
    model = measure_model(dict(config.content), planned, measure)
    write_rate = measure_writing(args.cache_dir)
    costs = list_costs(experiment, workers, upstreams, model, write_rate)
    took = time.perf_counter() - start
    print(_table(costs, workers))
    print()
    for line in _measured(upstreams, workers, args, took):
        print(line)
    print(
        f"model above them ({args.asr_config.name}, {model.parameters / 1e6:.1f} M "
        f"parameters): training {model.training.speed:,.0f} x real time, decoding "
        f"{model.decoding.speed:,.0f} x"
    )
    print(
        f"disk of {args.cache_dir.absolute()}: {_size(write_rate)}/s written; to keep up, "
        f"training reads {_size(_needed(upstreams, model.training.speed, args))}/s "
        f"per {'GPU' if workers.unit == 'GPU' else 'machine'}"
    )
    for line in _extrapolated(experiment, workers):
        print(line)


def _config(args: argparse.Namespace) -> TrainingConfig:
    config = TrainingConfig.read(args.asr_config)
    return config.with_upstreams(args.upstreams) if args.upstreams else config


def _experiment(args: argparse.Namespace, config: TrainingConfig) -> Experiment:
    utterances = args.utterances or max(1, round(3600 * args.hours / 12.3))
    epochs = args.epochs or int(config.content.get("max_epoch") or 30)
    if min(args.hours, args.test_hours, utterances, epochs) <= 0:
        raise EnsembleError(
            "--hours, --test_hours, --utterances, --epochs: expected numbers above 0"
        )
    return Experiment(
        args.hours,
        utterances,
        len(args.speed_perturb_factors),
        epochs,
        args.test_hours,
        args.storage,
    )


def _workers(args: argparse.Namespace) -> Workers:
    here = torch.cuda.device_count()
    ngpu = here if args.ngpu is None else args.ngpu
    if ngpu and not here:
        raise EnsembleError(
            f"--ngpu {ngpu}: expected a GPU here, to measure it, found none: run this where "
            "one is, or plan for CPUs with --ngpu 0"
        )
    if ngpu:
        return Workers("GPU", ngpu * args.num_nodes, ngpu * args.num_nodes)
    nj = args.nj or len(os.sched_getaffinity(0))
    return Workers("core", nj * args.num_nodes, 1)


def _needed(
    upstreams: Sequence[UpstreamRate], speed: float, args: argparse.Namespace
) -> float:
    """Bytes in a second that training reads at a speed."""
    values = sum(upstream.values_per_second for upstream in upstreams)
    return speed * values * BYTES[args.storage]


def _table(costs: Sequence[Cost], workers: Workers) -> str:
    rows = [
        (
            cost.step,
            _size(cost.disk),
            _size(cost.memory),
            "" if cost.work is None else f"{cost.work:,.1f}",
            _time(cost.time),
        )
        for cost in costs
    ]
    headers = (
        "step",
        "disk",
        f"memory of a {'GPU' if workers.unit == 'GPU' else 'process'}",
        f"{workers.unit} hours",
        f"time, {workers.number} {workers.unit}{'s' * (workers.number > 1)}",
    )
    return tabulate(
        rows, headers, disable_numparse=True, colalign=("left", *["right"] * 4)
    )


def _measured(
    upstreams: Sequence[UpstreamRate],
    workers: Workers,
    args: argparse.Namespace,
    took: float,
) -> list[str]:
    device = torch.cuda.get_device_name() if workers.unit == "GPU" else "one core"
    lines = [f"Measured here in {took:.0f} s, on made data:"]
    for upstream in upstreams:
        size = f"{upstream.parameters / 1e6:.1f} M parameters"
        lines.append(
            f"{upstream.name} ({size}): {upstream.extraction.speed:,.1f} x real time on "
            f"{device}"
            + (upstream.reason and f"; RANDOM weights of its size: {upstream.reason}")
        )
    return lines


def _extrapolated(experiment: Experiment, workers: Workers) -> list[str]:
    lines = [
        "Extrapolated: in proportion to hours of speech, and to the number of "
        f"{workers.unit}s; training on several GPUs is somewhat slower than that. "
        "Reading audio and features is not in it."
    ]
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores + 1:
        lines.append(
            f"Other work was running here (load {load:.0f} on {cores} cores): an idle "
            "machine is faster than this"
        )
    tables = espnet_tables(experiment)
    if tables > 1e9:
        lines.append(
            f"Of {experiment.utterances * experiment.speeds:,} utterances, ESPnet holds "
            f"tables of {_size(tables)} in each process of a training, and so may its data "
            "loaders' workers: see --num_splits_asr in docs/scale.md"
        )
    return lines


def _size(number: float | None) -> str:
    return "" if number is None else humanfriendly.format_size(number)


def _time(hours: float | None) -> str:
    if hours is None:
        return ""
    seconds = 3600 * hours
    return humanfriendly.format_timespan(
        seconds if seconds < 10 else round(seconds), max_units=2
    )


if __name__ == "__main__":
    main()
