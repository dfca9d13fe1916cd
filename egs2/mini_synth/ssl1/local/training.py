"""The training loop of pre-training and of fine-tuning.

A run that was cut short goes on from its last checkpoint, on the CPU with the very numbers
that it would have had: all that is random in a step depends on the seed and on the step's
number alone.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from model_dir import Row, write_table
from torch import Tensor
from tqdm import tqdm

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import atomic_write

Options = TypeVar("Options")

#: Gives a step's loss, a scalar, and what else to report of the step. It takes the step's
#: number, from 0, and the generator that decides what is random.
ComputeLoss = Callable[[int, np.random.Generator], tuple[Tensor, Row]]


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained.

    Attributes:
        num_steps: Updates of the weights.
        lr: Highest learning rate.
        warmup_steps: Steps until the learning rate is at its highest.
        max_grad_norm: Norm that gradients are clipped to.
        device: Where to compute, as torch names it.
        bfloat16: Whether to compute in bfloat16 where autocast does.
        seed: Decides the fresh weights and all that is random in training.
        log_interval: Steps whose means make a row of the loss curve.
        save_interval: Steps between two checkpoints.
    """

    num_steps: int
    lr: float
    warmup_steps: int
    max_grad_norm: float
    device: str
    bfloat16: bool
    seed: int
    log_interval: int
    save_interval: int

    def autocast(self) -> torch.autocast:
        """Compute in bfloat16 within a ``with`` block, if so chosen."""
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.bfloat16)


def add_training_options(parser: argparse.ArgumentParser, num_steps: int) -> None:
    """Add the options of :class:`TrainingOptions`; ``num_steps`` is one's default."""
    add = parser.add_argument_group("training").add_argument
    add("--num_steps", type=int, default=num_steps, help="updates of the weights")
    add("--lr", type=float, default=1e-3, help="highest learning rate")
    add("--warmup_steps", type=int, default=300, help="until the rate is highest")
    add("--max_grad_norm", type=float, default=1.0, help="gradients are clipped to it")
    add("--device", default="cpu", help="where to compute, such as cuda")
    add(
        "--bfloat16",
        action="store_true",
        help="compute in bfloat16 where autocast does: faster on GPUs and CPUs with AMX",
    )
    add("--seed", type=int, default=0, help="of all that is random")
    add("--log_interval", type=int, default=50, help="steps in a row of the loss curve")
    add("--save_interval", type=int, default=500, help="steps between two checkpoints")


def options_of(kind: type[Options], args: argparse.Namespace) -> Options:
    """Make a dataclass of the parsed options that have its fields' names."""
    names = (field.name for field in fields(kind))
    return kind(**{name: getattr(args, name) for name in names})


def train(
    model: torch.nn.Module,
    compute_loss: ComputeLoss,
    options: TrainingOptions,
    work_dir: Path,
) -> list[Row]:
    """Run the steps that are left.

    Args:
        model: Trained in place. It is on its device.
        compute_loss: Runs the model on a step's data.
        options: How to train.
        work_dir: Where the checkpoint and the loss curve go.

    Returns:
        What each step reports: the loss, what ``compute_loss`` adds, the learning rate and
        the seconds that the step took.

    Raises:
        EnsembleError: If a loss is not finite.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    checkpoint = work_dir / "checkpoint.pt"
    steps = load_checkpoint(checkpoint, model, optimizer, options.device)
    model.train()
    with tqdm(initial=len(steps), total=options.num_steps, desc="train") as bar:
        while len(steps) < options.num_steps:
            steps.append(run_step(len(steps), model, optimizer, compute_loss, options))
            bar.update()
            if len(steps) % options.log_interval == 0:
                bar.set_postfix(steps[-1], refresh=False)
            if len(steps) % options.save_interval == 0:
                save_checkpoint(checkpoint, model, optimizer, steps)
                write_table(
                    means(steps, options.log_interval), work_dir / "train_log.csv"
                )
    return steps


def run_step(
    step: int,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    compute_loss: ComputeLoss,
    options: TrainingOptions,
) -> Row:
    """Change the weights once; ``step`` counts from 0.

    Returns:
        What the step reports.

    Raises:
        EnsembleError: If the loss is not finite.
    """
    start = time.perf_counter()
    loss, metrics = compute_loss(step, seed_step(options.seed, step))
    if not math.isfinite(loss.item()):
        raise EnsembleError(
            f"step {step}: expected a finite loss, found {loss.item()}; lower --lr"
        )
    lr = options.lr * lr_factor(step, options.warmup_steps, options.num_steps)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), options.max_grad_norm)
    optimizer.step()
    seconds = time.perf_counter() - start
    return {"loss": loss.item(), **metrics, "lr": lr, "seconds": seconds}


def seed_step(seed: int, step: int) -> np.random.Generator:
    """Make all that is random in a step depend on the seed and on the step alone."""
    rng = np.random.default_rng([seed, step])
    # transformers' masking, dropout and the Gumbel softmax draw from the global
    # generators.
    np.random.seed(rng.integers(2**32, dtype=np.uint32))
    torch.manual_seed(int(rng.integers(2**32)))
    return rng


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


def means(steps: list[Row], interval: int) -> list[Row]:
    """Average what steps report: a row of the loss curve for so many steps.

    Example:
        >>> means([{"loss": 3.0}, {"loss": 1.0}, {"loss": 1.0}], interval=2)
        [{'step': 2, 'loss': 2.0}, {'step': 3, 'loss': 1.0}]
    """
    rows = []
    for first in range(0, len(steps), interval):
        part = steps[first : first + interval]
        row = {key: sum(step[key] for step in part) / len(part) for key in part[0]}
        rows.append({"step": first + len(part), **row})
    return rows


def save_checkpoint(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: list[Row],
) -> None:
    """Write what :func:`load_checkpoint` reads, all of it or nothing."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "steps": steps,
    }
    with atomic_write(path) as part:
        torch.save(state, part)


def load_checkpoint(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, device: str
) -> list[Row]:
    """Put a model and its optimizer where a run stopped; leave them if there was none.

    Returns:
        What each step that is done has reported.
    """
    if not path.exists():
        return []
    state = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["steps"]
