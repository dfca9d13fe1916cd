"""The folder of a finished model: made once and whole, with a card and a loss curve."""

import datetime
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, atomic_write, write_text

#: What is reported of a step, or the means over some of them.
Row = dict[str, float]

# Options that decide none of the numbers: they may change when a run goes on.
_FREE = ("output_dir", "device", "save_interval")


def make_model(
    output_dir: Path, options: Mapping[str, Any], make: Callable[[Path, Path], None]
) -> None:
    """Make a model's folder, which is there when it is complete; leave one that is.

    Args:
        output_dir: The folder.
        options: All options of the run.
        make: Writes the model to its second argument. Its first is the folder
            ``<output_dir>.work``, for what an interrupted run goes on with.

    Raises:
        EnsembleError: If an unfinished run of other options has left its work.
    """
    if output_dir.exists():
        print(f"{output_dir} is there already; nothing to do")
        return
    work_dir = output_dir.with_name(f"{output_dir.name}.work")
    claim(work_dir, options)
    with atomic_write(output_dir) as part:
        make(work_dir, part)
    shutil.rmtree(work_dir)


def claim(work_dir: Path, options: Mapping[str, Any]) -> None:
    """Make the folder for what an interrupted run goes on with, and note its options.

    Raises:
        EnsembleError: If the folder belongs to a run with other options.
    """
    path = work_dir / "options.json"
    options = {key: value for key, value in options.items() if key not in _FREE}
    options = json.loads(json.dumps(options, default=str))
    if not path.exists():
        work_dir.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(options, indent=4) + "\n")
    found = json.loads(path.read_text(encoding="utf-8"))
    changed = {key: found.get(key) for key in options if options[key] != found.get(key)}
    if changed:
        raise EnsembleError(
            f"{path}: an unfinished run had {changed}; give the same, remove {work_dir}, "
            "or give another --output_dir"
        )


def check_nothing_missing(folder: PathLike, missing: Iterable[str]) -> None:
    """Refuse a checkpoint that lacks weights, which transformers would make up.

    Raises:
        EnsembleError: If a weight is missing.
    """
    if missing := sorted(missing):
        raise EnsembleError(
            f"{folder} lacks weights, which would be random: {', '.join(missing)}"
        )


def write_table(rows: list[Row], path: Path) -> None:
    """Write the loss curve as CSV."""
    lines = [",".join(rows[0])] if rows else []
    lines += [",".join(f"{value:.6g}" for value in row.values()) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def card_ending(command: str, device: str, rows: list[Row]) -> str:
    """Tell at the end of a model card how the model was made, and the loss curve.

    Args:
        command: Makes the model again.
        device: Where it was trained.
        rows: The loss curve; about ten of them are shown.
    """
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    keys = [key for key in rows[0] if key not in ("lr", "seconds")]
    shown = rows[:: max(1, len(rows) // 10)]
    shown += [] if shown[-1] is rows[-1] else rows[-1:]
    curve = [keys, ["---:"] * len(keys)]
    curve += [[f"{row[key]:.4g}" for key in keys] for row in shown]
    table = "\n".join(f"| {' | '.join(line)} |" for line in curve)
    return f"""- Command, in `egs2/mini_synth/ssl1`: `{command}`
- Date: {datetime.date.today()}
- Made with: {versions}, on {device}

Means since the row before in `train_log.csv`:

{table}
"""
