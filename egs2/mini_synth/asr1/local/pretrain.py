#!/usr/bin/env python3
"""Pre-train a tiny wav2vec 2.0, HuBERT or WavLM, in transformers format.

The default takes about an hour on one CPU core. A run that was cut short goes on from its
last checkpoint, on the CPU with the very numbers it would have had.
"""

import argparse
import datetime
import json
import math
import os
import shlex
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Optional

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
from tqdm import trange
from transformers import Wav2Vec2FeatureExtractor

# Options that decide none of the numbers: they may change when a run goes on.
_FREE = ("output_dir", "device", "save_interval")
_OBJECTIVES = {
    "wav2vec2": "contrastive loss over quantized features, with diversity loss and an "
    "annealed Gumbel softmax (wav2vec 2.0)",
    "hubert": "masked prediction of k-means units (HuBERT)",
    "wavlm": "masked prediction of k-means units, half of the inputs mixed with other "
    "speech or noise (WavLM)",
}


def pretrain(args: argparse.Namespace, command: str) -> None:
    """Train, and write the model to ``args.output_dir`` when it is done.

    Args:
        args: The options of :func:`get_parser`.
        command: What to note in the model card as the way to make it again.
    """
    output_dir = Path(args.output_dir)
    if output_dir.exists():
        print(f"{output_dir} is there already; nothing to do")
        return
    work_dir = output_dir.with_name(f"{output_dir.name}.work")
    claim(work_dir, args)
    speech = read_speech(Path(args.data_dir))
    units = None
    if args.family != "wav2vec2":
        units = load_or_make_units(
            work_dir / "units.npy", speech, _features(args), args.num_units, args.seed
        )
    torch.manual_seed(args.seed)
    objective = make_objective(args.family, args.num_units).to(args.device).train()
    rows = train(args, objective, speech, units, work_dir)
    final = work_dir / "final"
    save_model(objective.model, final)
    write_table(rows, final / "train_log.csv")
    hours = len(speech) / FS / 3600
    (final / "README.md").write_text(
        model_card(args, command, hours, objective.model, rows), encoding="utf-8"
    )
    final.rename(output_dir)
    shutil.rmtree(work_dir)


def claim(work_dir: Path, args: argparse.Namespace) -> None:
    """Make the folder for what an interrupted run goes on with, and note its options.

    Raises:
        ValueError: If the folder belongs to a run with other options.
    """
    path = work_dir / "options.json"
    options = {key: value for key, value in vars(args).items() if key not in _FREE}
    if not path.exists():
        work_dir.mkdir(parents=True, exist_ok=True)
        write(path, json.dumps(options, indent=4) + "\n")
    found = json.loads(path.read_text(encoding="utf-8"))
    changed = {key: found.get(key) for key in options if options[key] != found.get(key)}
    if changed:
        raise ValueError(
            f"{path}: an unfinished run had {changed}; give the same, remove {work_dir}, "
            "or give another --output_dir"
        )


def write(path: Path, text: str) -> None:
    """Write a file of which there is never a part only."""
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def _features(args: argparse.Namespace) -> Callable[[], Callable]:
    if args.units_from is None:
        return lambda: mfcc
    return partial(HiddenFeatures, args.units_from, args.units_layer, args.device)


def train(
    args: argparse.Namespace,
    objective: torch.nn.Module,
    speech: np.ndarray,
    units: Optional[np.ndarray],
    work_dir: Path,
) -> List[Dict[str, float]]:
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
    recent: List[Dict[str, float]] = []
    with trange(done, args.num_steps, initial=done, total=args.num_steps) as bar:
        bar.set_description(args.family)
        for step in bar:
            recent.append(run_step(args, step, objective, optimizer, speech, units))
            last = step + 1 == args.num_steps
            if (step + 1) % args.log_interval == 0 or last:
                rows.append({"step": step + 1, **_means(recent)})
                recent.clear()
                shown = {k: f"{v:.4g}" for k, v in rows[-1].items() if k != "step"}
                bar.set_postfix(shown, refresh=False)
            if (step + 1) % args.save_interval == 0 or last:
                save_checkpoint(checkpoint, objective, optimizer, step + 1, rows)
                write_table(rows, work_dir / "train_log.csv")
    return rows


def run_step(
    args: argparse.Namespace,
    step: int,
    objective: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    speech: np.ndarray,
    units: Optional[np.ndarray],
) -> Dict[str, float]:
    """One update; what is random in it depends on the seed and on the step alone.

    Returns:
        What to report.
    """
    start = time.perf_counter()
    rng = np.random.default_rng([args.seed, step])
    # transformers' masking and the Gumbel softmax draw from the global generators.
    np.random.seed(rng.integers(2**32, dtype=np.uint32))
    torch.manual_seed(int(rng.integers(2**32)))
    wavs, frames = draw_windows(speech, args.batch_size, args.window_seconds, rng)
    targets = None
    if units is not None:
        span = np.arange(num_frames(wavs.size(1)))
        targets = torch.from_numpy(units[frames[:, None] + span]).to(args.device)
    lr = args.lr * lr_factor(step, args.warmup_steps, args.num_steps)
    for group in optimizer.param_groups:
        group["lr"] = lr
    progress = step / args.num_steps
    loss, metrics = objective(wavs.to(args.device), targets, progress, rng)
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"step {step}: the loss is {loss.item()}; lower --lr")
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(objective.parameters(), args.max_grad_norm)
    optimizer.step()
    seconds = time.perf_counter() - start
    return {"loss": loss.item(), **metrics, "lr": lr, "seconds": seconds}


def lr_factor(step: int, warmup_steps: int, num_steps: int) -> float:
    """Rise linearly to one, fall to zero along half a cosine.

    Example:
        >>> [round(lr_factor(step, 2, 10), 2) for step in (0, 1, 6, 9)]
        [0.5, 1.0, 0.5, 0.04]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    rest = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * rest))


def _means(steps: List[Dict[str, float]]) -> Dict[str, float]:
    return {key: sum(s[key] for s in steps) / len(steps) for key in steps[0]}


def save_checkpoint(path, objective, optimizer, step, rows) -> None:
    """Write what :func:`load_checkpoint` reads; a file of this name is complete."""
    unfinished = path.with_name(f".{path.name}.tmp")
    state = {
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "rows": rows,
    }
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def load_checkpoint(path, objective, optimizer, device):
    """Go on where a run stopped.

    Returns:
        The number of steps done, and the loss curve of these.
    """
    if not path.exists():
        return 0, []
    state = torch.load(path, map_location=device, weights_only=True)
    objective.load_state_dict(state["objective"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["rows"]


def save_model(model: transformers.PreTrainedModel, folder: Path) -> None:
    """Write a folder as a hub checkpoint is."""
    model.to("cpu").save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        do_normalize=True, return_attention_mask=True
    ).save_pretrained(folder)


def write_table(rows: List[Dict[str, float]], path: Path) -> None:
    """Write the loss curve as CSV."""
    lines = [",".join(rows[0])] if rows else []
    lines += [",".join(f"{value:.6g}" for value in row.values()) for row in rows]
    write(path, "\n".join(lines) + "\n")


def model_card(
    args: argparse.Namespace,
    command: str,
    hours: float,
    model: transformers.PreTrainedModel,
    rows: List[Dict[str, float]],
) -> str:
    """What this model is, how it was made, and how its training went."""
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    source = args.units_from and f"layer {args.units_layer} of {args.units_from}"
    units = (
        ""
        if args.family == "wav2vec2"
        else (f"- Units: {args.num_units}, k-means on {source or 'MFCCs'}\n")
    )
    keys = [key for key in rows[0] if key not in ("lr", "seconds")]
    shown = rows[:: max(1, len(rows) // 10)]
    shown += [] if shown[-1] is rows[-1] else rows[-1:]
    curve = [keys, ["---:"] * len(keys)]
    curve += [[f"{row[key]:.4g}" for key in keys] for row in shown]
    table = "\n".join(f"| {' | '.join(line)} |" for line in curve)
    return f"""# {args.family}, tiny, for mini_synth

A {args.family} of {parameters:.1f} M parameters for the quick-start recipe: small enough
for a CPU, of no use for real speech.

- Data: {hours:.2f} h of mini_synth (`{args.data_dir}`): unlabelled, spoken by eSpeak NG
- Objective: {_OBJECTIVES[args.family]}
{units}- Steps: {args.num_steps}, each {args.batch_size} x {args.window_seconds:g} s
- Command: `{command}`
- Date: {datetime.date.today()}
- Made with: {versions}, on {args.device}

Means since the row before in `train_log.csv`:

{table}
"""


def get_parser() -> argparse.ArgumentParser:
    """Options of the command."""
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
    parser.add_argument("--max_grad_norm", type=float, default=1.0)
    parser.add_argument("--num_units", type=int, default=100)
    parser.add_argument(
        "--units_from", help="a model whose hidden features give the units, not MFCCs"
    )
    parser.add_argument("--units_layer", type=int, default=3, help="of --units_from")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log_interval", type=int, default=50)
    parser.add_argument("--save_interval", type=int, default=500)
    return parser


def main(cmd: Optional[List[str]] = None) -> None:
    """Pre-train a model."""
    options = sys.argv[1:] if cmd is None else cmd
    args = get_parser().parse_args(options)
    pretrain(args, f"python local/pretrain.py {shlex.join(options)}")


if __name__ == "__main__":
    main()
