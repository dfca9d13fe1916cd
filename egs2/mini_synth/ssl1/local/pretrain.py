#!/usr/bin/env python3
"""Pre-train a tiny wav2vec 2.0, HuBERT or WavLM, in transformers format.

The default takes about an hour on one CPU core. A run that was cut short goes on from its
last checkpoint, on the CPU with the very numbers it would have had.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from pretrain_data import (
    FS,
    HiddenFeatures,
    draw_windows,
    load_or_make_units,
    mfcc,
    num_frames,
    read_speech,
)
from pretrain_objectives import make_objective
from training import (
    Row,
    add_training_options,
    card_ending,
    load_checkpoint,
    make_model,
    run_steps,
    save_checkpoint,
    seed_step,
    update,
    write_table,
)
from transformers import Wav2Vec2FeatureExtractor

_OBJECTIVES = {
    "wav2vec2": "contrastive loss over quantized features, with diversity loss and an "
    "annealed Gumbel softmax (wav2vec 2.0)",
    "hubert": "masked prediction of k-means units (HuBERT)",
    "wavlm": "masked prediction of k-means units, half of the inputs mixed with other "
    "speech or noise (WavLM)",
}


def pretrain(
    args: argparse.Namespace, command: str, work_dir: Path, final: Path
) -> None:
    """Train, and write the model.

    Args:
        args: The options of :func:`get_parser`.
        command: What to note in the model card as the way to make it again.
        work_dir: For what an interrupted run goes on with.
        final: Folder for the model.
    """
    speech = read_speech(Path(args.data_dir))
    units = None
    if args.family != "wav2vec2":
        units = load_or_make_units(
            work_dir / "units.npy", speech, _features(args), args.num_units, args.seed
        )
    torch.manual_seed(args.seed)
    objective = make_objective(args.family, args.num_units).to(args.device).train()
    rows = train(args, objective, speech, units, work_dir)
    save_model(objective.model, final)
    write_table(rows, final / "train_log.csv")
    hours = len(speech) / FS / 3600
    (final / "README.md").write_text(
        model_card(args, command, hours, objective.model, rows), encoding="utf-8"
    )


def _features(args: argparse.Namespace) -> Callable[[], Callable]:
    if args.units_from is None:
        return lambda: mfcc
    return partial(HiddenFeatures, args.units_from, args.units_layer, args.device)


def train(
    args: argparse.Namespace,
    objective: torch.nn.Module,
    speech: np.ndarray,
    units: np.ndarray | None,
    work_dir: Path,
) -> list[Row]:
    """Run the steps that are left.

    Args:
        args: The options of :func:`get_parser`.
        objective: Trained in place.
        speech: (samples,), int16
        units: (frames,), or None for wav2vec 2.0.
        work_dir: Where the checkpoint and the loss curve go.

    Returns:
        The loss curve: means over ``args.log_interval`` steps each.
    """
    optimizer = torch.optim.AdamW(
        objective.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    checkpoint = work_dir / "checkpoint.pt"
    done, rows = load_checkpoint(checkpoint, objective, optimizer, args.device)

    def step(number: int) -> Row:
        return run_step(args, number, objective, optimizer, speech, units)

    for done in run_steps(args, args.family, step, done, rows):
        save_checkpoint(checkpoint, objective, optimizer, done, rows)
        write_table(rows, work_dir / "train_log.csv")
    return rows


def run_step(
    args: argparse.Namespace,
    step: int,
    objective: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    speech: np.ndarray,
    units: np.ndarray | None,
) -> Row:
    """One update; what is random in it depends on the seed and on the step alone.

    Returns:
        What to report.
    """
    rng = seed_step(args.seed, step)
    wavs, frames = draw_windows(speech, args.batch_size, args.window_seconds, rng)
    targets = None
    if units is not None:
        span = np.arange(num_frames(wavs.size(1)))
        targets = torch.from_numpy(units[frames[:, None] + span]).to(args.device)
    progress = step / args.num_steps
    with torch.autocast(args.device, torch.bfloat16, enabled=args.bfloat16):
        loss, metrics = objective(wavs.to(args.device), targets, progress, rng)
    lr = update(args, step, loss, objective, optimizer)
    return {"loss": loss.item(), **metrics, **lr}


def save_model(model: transformers.PreTrainedModel, folder: Path) -> None:
    """Write a folder as a hub checkpoint is."""
    model.to("cpu").save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        do_normalize=True, return_attention_mask=True
    ).save_pretrained(folder)


def model_card(
    args: argparse.Namespace,
    command: str,
    hours: float,
    model: transformers.PreTrainedModel,
    rows: list[Row],
) -> str:
    """What this model is, how it was made, and how its training went."""
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    source = args.units_from and f"layer {args.units_layer} of {args.units_from}"
    units = (
        ""
        if args.family == "wav2vec2"
        else (f"- Units: {args.num_units}, k-means on {source or 'MFCCs'}\n")
    )
    return f"""# {args.family}, tiny, for mini_synth

A {args.family} of {parameters:.1f} M parameters for the quick-start recipe: small enough
for a CPU, of no use for real speech.

- Data: {hours:.2f} h of mini_synth (`{args.data_dir}`): unlabelled, spoken by eSpeak NG
- Objective: {_OBJECTIVES[args.family]}
{units}- Steps: {args.num_steps}, each {args.batch_size} x {args.window_seconds:g} s
{card_ending(args, command, rows)}"""


def get_parser() -> argparse.ArgumentParser:
    """Options of the command.

    Example:
        >>> options = ["--family", "hubert", "--output_dir", "exp/upstreams/hubert"]
        >>> get_parser().parse_args(options).data_dir
        'data/unlabelled'
    """
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--family", required=True, choices=sorted(_OBJECTIVES))
    parser.add_argument("--output_dir", required=True, help="for the finished model")
    parser.add_argument("--data_dir", default="data/unlabelled")
    parser.add_argument("--num_steps", type=int, default=8000)
    parser.add_argument("--batch_size", type=int, default=4, help="windows in a step")
    parser.add_argument("--window_seconds", type=float, default=4.0)
    parser.add_argument("--lr", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--warmup_steps", type=int, default=300)
    parser.add_argument("--num_units", type=int, default=100)
    parser.add_argument(
        "--units_from", help="a model whose hidden features give the units, not MFCCs"
    )
    parser.add_argument("--units_layer", type=int, default=3, help="of --units_from")
    add_training_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Pre-train a model."""
    options = sys.argv[1:] if cmd is None else cmd
    args = get_parser().parse_args(options)
    command = f"python local/pretrain.py {shlex.join(options)}"
    make_model(args, partial(pretrain, args, command))


if __name__ == "__main__":
    main()
