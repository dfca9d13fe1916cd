"""What pre-training and fine-tuning share: steps, checkpoints, tables."""

import argparse
import datetime
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import transformers
from tqdm import trange

from espnet_ensemble.files import write_text

# What is reported of a step, or the means over some of them.
Row = dict[str, float]

# Options that decide none of the numbers: they may change when a run goes on.
_FREE = ("output_dir", "device", "save_interval")


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`run_steps` and :func:`update` read, but for their lr."""
    parser.add_argument("--max_grad_norm", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="compute in bfloat16 where autocast does: faster on GPUs and CPUs with AMX",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log_interval", type=int, default=50)
    parser.add_argument("--save_interval", type=int, default=500)


def make_model(args: argparse.Namespace, make: Callable[[Path, Path], None]) -> None:
    """Make ``args.output_dir``, which is there when it is complete; leave one that is.

    Args:
        args: The options of the command.
        make: Writes the model to its second argument. Its first is a folder for what an
            interrupted run goes on with.
    """
    output_dir = Path(args.output_dir)
    if output_dir.exists():
        print(f"{output_dir} is there already; nothing to do")
        return
    work_dir = output_dir.with_name(f"{output_dir.name}.work")
    claim(work_dir, args)
    final = work_dir / "final"
    make(work_dir, final)
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
        write_text(path, json.dumps(options, indent=4) + "\n")
    found = json.loads(path.read_text(encoding="utf-8"))
    changed = {key: found.get(key) for key in options if options[key] != found.get(key)}
    if changed:
        raise ValueError(
            f"{path}: an unfinished run had {changed}; give the same, remove {work_dir}, "
            "or give another --output_dir"
        )


def run_steps(
    args: argparse.Namespace,
    name: str,
    run_step: Callable[[int], Row],
    done: int,
    rows: list[Row],
) -> Iterator[int]:
    """Run the steps that are left, and show how it goes.

    Args:
        args: Has ``num_steps``, ``log_interval`` and ``save_interval``.
        name: To show.
        run_step: Does the step of this number, from 0, and gives what to report of it.
        done: The number of steps that are done.
        rows: The loss curve of these, which is continued: means over
            ``args.log_interval`` steps each.

    Yields:
        The number of steps done, each time that it is time to save.
    """
    recent: list[Row] = []
    with trange(done, args.num_steps, initial=done, total=args.num_steps) as bar:
        bar.set_description(name)
        for step in bar:
            start = time.perf_counter()
            row = run_step(step)
            recent.append({**row, "seconds": time.perf_counter() - start})
            last = step + 1 == args.num_steps
            if (step + 1) % args.log_interval == 0 or last:
                rows.append({"step": step + 1, **_means(recent)})
                recent.clear()
                shown = {k: f"{v:.4g}" for k, v in rows[-1].items() if k != "step"}
                bar.set_postfix(shown, refresh=False)
            if (step + 1) % args.save_interval == 0 or last:
                yield step + 1


def _means(steps: list[Row]) -> Row:
    return {key: sum(s[key] for s in steps) / len(steps) for key in steps[0]}


def seed_step(seed: int, step: int) -> np.random.Generator:
    """Make all that is random in a step depend on the seed and on the step alone."""
    rng = np.random.default_rng([seed, step])
    # transformers' masking, dropout and the Gumbel softmax draw from the global
    # generators.
    np.random.seed(rng.integers(2**32, dtype=np.uint32))
    torch.manual_seed(int(rng.integers(2**32)))
    return rng


def update(
    args: argparse.Namespace,
    step: int,
    loss: torch.Tensor,
    objective: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> Row:
    """Change the weights once.

    Args:
        args: Has ``lr``, ``warmup_steps``, ``num_steps`` and ``max_grad_norm``.
        step: From 0.
        loss: A scalar.
        objective: What is trained.
        optimizer: Of its weights.

    Returns:
        The learning rate, to report.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"step {step}: the loss is {loss.item()}; lower --lr")
    lr = args.lr * lr_factor(step, args.warmup_steps, args.num_steps)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(objective.parameters(), args.max_grad_norm)
    optimizer.step()
    return {"lr": lr}


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


def load_checkpoint(path, objective, optimizer, device) -> tuple[int, list[Row]]:
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


def write_table(rows: list[Row], path: Path) -> None:
    """Write the loss curve as CSV."""
    lines = [",".join(rows[0])] if rows else []
    lines += [",".join(f"{value:.6g}" for value in row.values()) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def card_ending(args: argparse.Namespace, command: str, rows: list[Row]) -> str:
    """What the model cards end with: how the model was made, and the loss curve."""
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    keys = [key for key in rows[0] if key not in ("lr", "seconds")]
    shown = rows[:: max(1, len(rows) // 10)]
    shown += [] if shown[-1] is rows[-1] else rows[-1:]
    curve = [keys, ["---:"] * len(keys)]
    curve += [[f"{row[key]:.4g}" for key in keys] for row in shown]
    table = "\n".join(f"| {' | '.join(line)} |" for line in curve)
    return f"""- Command: `{command}`
- Date: {datetime.date.today()}
- Made with: {versions}, on {args.device}

Means since the row before in `train_log.csv`:

{table}
"""
