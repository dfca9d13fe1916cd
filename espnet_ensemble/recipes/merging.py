"""Models of one configuration, trained with several seeds, merged into one.

.. code-block:: none

    exp/asr_merged/
        config.yaml                   of the first
        merged.yaml                   which experiments
        valid.cer_ctc.ave.pth         the mean of theirs
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from espnet_ensemble.errors import EnsembleError, name_keys
from espnet_ensemble.files import atomic_write, read_yaml, write_yaml
from espnet_ensemble.integrations.espnet2.resuming import settings_differences

#: In the folder of a merged experiment: what it was made of.
MERGED = "merged.yaml"
# What may differ, besides what may change when a training goes on.
_SEED = "seed"

Weights = Mapping[str, Tensor]


def merge_experiments(
    exp_dirs: Sequence[Path], output_dir: Path, checkpoint: str
) -> Path:
    """Average the weights of models that differ in their seed alone.

    Multi-run merging of Ducorroy and Riad, "Robust fine-tuning of speech recognition models via
    model merging: application to disordered speech" (arXiv 2505.20477), with equal weights.
    There, runs start from the same pre-trained weights; heads that start from random ones
    need not have a useful mean, unless they are linear.

    Args:
        exp_dirs: Experiments, such as ``exp/asr_x``; at least two.
        output_dir: For the experiment that is made: ``config.yaml``, ``merged.yaml`` and the
            checkpoint. It is decoded, scored and packed as any other.
        checkpoint: Name of the checkpoint, in each and in the result.

    Returns:
        The checkpoint that was written.

    Raises:
        EnsembleError: If there is one experiment only, one of them lacks a file, their
            configurations differ in more than the seed, their weights are of other
            upstreams or sizes, or the folder is there already, made of others.
    """
    if len(exp_dirs) < 2:
        raise EnsembleError(f"expected several experiments, found {exp_dirs[0]} only")
    _check_configs(exp_dirs)
    content = {
        "checkpoint": checkpoint,
        "experiments": [str(path) for path in exp_dirs],
    }
    _check_folder(output_dir, content)
    paths = [exp_dir / checkpoint for exp_dir in exp_dirs]
    merged = average_weights([_load(path) for path in paths], [str(p) for p in paths])
    output_dir.mkdir(parents=True, exist_ok=True)
    config = read_yaml(exp_dirs[0] / "config.yaml")
    write_yaml(output_dir / "config.yaml", {**config, "output_dir": str(output_dir)})
    write_yaml(output_dir / MERGED, content)
    with atomic_write(output_dir / checkpoint) as part:
        torch.save(merged, part)
    return output_dir / checkpoint


def average_weights(
    members: Sequence[Weights], names: Sequence[str]
) -> dict[str, Tensor]:
    """Average weights, one by one; what counts or names something is the first's.

    Args:
        members: The ``state_dict`` of each.
        names: What messages call them.

    Raises:
        EnsembleError: If they are not of the same model over the same upstreams.

    Example:
        >>> members = [{"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}]
        >>> average_weights(members, ["a", "b"])
        {'w': tensor([1.5000])}
    """
    first = members[0]
    for weights, name in zip(members[1:], names[1:], strict=True):
        _check_same_model(first, weights, names[0], name)
    return {
        key: torch.stack([weights[key].double() for weights in members])
        .mean(dim=0)
        .to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in first.items()
    }


def _check_same_model(first: Weights, weights: Weights, here: str, there: str) -> None:
    others = sorted(first.keys() ^ weights.keys())
    others += [k for k in first.keys() & weights if first[k].shape != weights[k].shape]
    if others:
        raise EnsembleError(
            f"{there}: expected the weights of the model of {here}, found that "
            f"{name_keys(others)} differ"
        )
    key = "frontend.fingerprints"
    if key in first and not torch.equal(first[key], weights[key]):
        raise EnsembleError(f"{there}: expected the upstreams of {here}, found others")


def _check_configs(exp_dirs: Sequence[Path]) -> None:
    first = _settings(exp_dirs[0])
    for exp_dir in exp_dirs[1:]:
        found = list(settings_differences(first, _settings(exp_dir)))
        if found:
            raise EnsembleError(
                f"{exp_dir}: expected the settings of {exp_dirs[0]}, all but the seed:\n  "
                + "\n  ".join(found)
            )


def _settings(exp_dir: Path) -> dict:
    config = read_yaml(exp_dir / "config.yaml")
    return {key: value for key, value in config.items() if key != _SEED}


def _check_folder(output_dir: Path, content: Mapping) -> None:
    path = output_dir / MERGED
    known = read_yaml(path) if path.exists() else None
    if known != content and (known or (output_dir / "config.yaml").exists()):
        raise EnsembleError(
            f"{output_dir}: there already, not made of these: give another --output_dir, or "
            "remove it"
        )


def _load(path: Path) -> Weights:
    if not path.is_file():
        raise EnsembleError(f"{path}: expected a checkpoint, found none")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's, pickle's and zipfile's are many
        found = " ".join(str(error).split())
        raise EnsembleError(f"{path}: expected a checkpoint, found {found}") from error
