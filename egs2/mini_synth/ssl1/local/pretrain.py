#!/usr/bin/env python3
"""Pre-train a tiny wav2vec 2.0, HuBERT or WavLM, in transformers format.

The default takes about an hour on one CPU core. A run that was cut short goes on from its
last checkpoint, on the CPU with the very numbers it would have had.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from model_dir import Row, card_ending, make_model, write_table
from pretrain_data import (
    FS,
    HiddenFeatures,
    draw_windows,
    load_or_make_units,
    mfcc,
    read_speech,
)
from pretrain_objectives import OBJECTIVES, make_objective
from torch import Tensor
from training import (
    TrainingOptions,
    add_training_options,
    means,
    options_of,
    train,
)
from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor

from espnet_ensemble.bin.command import run
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import write_text

_OBJECTIVE_IN_WORDS = {
    "wav2vec2": "contrastive loss over quantized features, with diversity loss and an "
    "annealed Gumbel softmax (wav2vec 2.0)",
    "hubert": "masked prediction of k-means units (HuBERT)",
    "wavlm": "masked prediction of k-means units, half of the inputs mixed with other "
    "speech or noise (WavLM)",
}


@dataclass(frozen=True)
class DataOptions:
    """What speech a model is trained on.

    Attributes:
        data_dir: Has ``wav.scp``.
        batch_size: Windows in a step.
        window_seconds: Length of a window.
    """

    data_dir: Path
    batch_size: int
    window_seconds: float


@dataclass(frozen=True)
class UnitOptions:
    """What HuBERT and WavLM predict.

    Attributes:
        num_units: Number of k-means clusters.
        units_from: Folder of the model whose features are clustered; None: MFCCs are.
        units_layer: Which layer's, counted as in S3PRL.
    """

    num_units: int
    units_from: Path | None
    units_layer: int

    def __str__(self) -> str:
        source = "MFCCs"
        if self.units_from is not None:
            source = f"layer {self.units_layer} of {self.units_from}"
        return f"{self.num_units}, k-means on {source}"


@dataclass(frozen=True)
class PretrainOptions:
    """All that decides a pre-trained model.

    Attributes:
        family: One of :data:`OBJECTIVES`.
        init_from: Folder of the model whose weights it starts with; None: fresh ones.
        freeze_feature_encoder: Whether the convolutions stay as they are.
        data: The speech.
        units: None for wav2vec 2.0.
        training: How it is trained.
    """

    family: str
    init_from: Path | None
    freeze_feature_encoder: bool
    data: DataOptions
    units: UnitOptions | None
    training: TrainingOptions

    @classmethod
    def of(cls, args: argparse.Namespace) -> "PretrainOptions":
        """Group the options of :func:`get_parser`.

        Raises:
            EnsembleError: If convolutions with random weights are to stay so.
        """
        if args.freeze_feature_encoder and args.init_from is None:
            raise EnsembleError(
                "--freeze_feature_encoder: expected --init_from, without which the "
                "convolutions have random weights"
            )
        return cls(
            family=args.family,
            init_from=args.init_from,
            freeze_feature_encoder=args.freeze_feature_encoder,
            data=options_of(DataOptions, args),
            units=None if args.family == "wav2vec2" else options_of(UnitOptions, args),
            training=options_of(TrainingOptions, args),
        )


def pretrain(
    options: PretrainOptions, command: str, work_dir: Path, final: Path
) -> None:
    """Train a model, and write it.

    Args:
        options: Of the model.
        command: Noted in the model card as the way to make it again.
        work_dir: For what an interrupted run goes on with.
        final: Folder for the model.
    """
    training = options.training
    speech = read_speech(options.data.data_dir)
    units = None
    if options.units is not None:
        units = load_or_make_units(
            work_dir / "units.npy",
            speech,
            partial(unit_features, options.units, training.device),
            options.units.num_units,
            training.seed,
        )
    torch.manual_seed(training.seed)
    num_units = 0 if options.units is None else options.units.num_units
    objective = make_objective(options.family, num_units, options.init_from)
    if options.freeze_feature_encoder:
        objective.model.base_model.feature_extractor._freeze_parameters()
    objective.to(training.device)
    compute_loss = partial(step_loss, objective, options, speech, units)
    steps = train(objective, compute_loss, training, work_dir)
    rows = means(steps, training.log_interval)
    save_model(objective.model, final)
    write_table(rows, final / "train_log.csv")
    hours = len(speech) / FS / 3600
    card = model_card(options, command, hours, objective.model, rows)
    write_text(final / "README.md", card)


def unit_features(options: UnitOptions, device: str) -> Callable[[Tensor], Tensor]:
    """Choose the features that are clustered: (samples,) -> (frames, feature)."""
    if options.units_from is None:
        return mfcc
    return HiddenFeatures(options.units_from, options.units_layer, device)


def step_loss(
    objective: torch.nn.Module,
    options: PretrainOptions,
    speech: np.ndarray,
    units: np.ndarray | None,
    step: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Row]:
    """Compute the loss of a step.

    Args:
        objective: On its device.
        options: Of the model.
        speech: (samples,), int16
        units: (frames,), or None for wav2vec 2.0.
        step: The step's number, from 0.
        rng: Decides which windows are taken, and what happens to them.

    Returns:
        The loss, a scalar, and what else to report.
    """
    data, training = options.data, options.training
    windows = draw_windows(speech, data.batch_size, data.window_seconds, rng)
    targets = None if units is None else windows.units(units).to(training.device)
    with training.autocast():
        return objective(
            windows.wavs.to(training.device), targets, step / training.num_steps, rng
        )


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write a folder like that of a checkpoint on the Hugging Face hub."""
    model.to("cpu").save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        do_normalize=True, return_attention_mask=True
    ).save_pretrained(folder)


def model_card(
    options: PretrainOptions,
    command: str,
    hours: float,
    model: PreTrainedModel,
    rows: list[Row],
) -> str:
    """Tell what a model is, how it was made, and how its training went."""
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    data, num_steps = options.data, options.training.num_steps
    start = units = ""
    if options.init_from is not None:
        frozen = ", its convolutions frozen" * options.freeze_feature_encoder
        start = f"- Start: the weights of `{options.init_from}`{frozen}\n"
    if options.units is not None:
        units = f"- Units: {options.units}\n"
    return f"""# {options.family}, tiny, for mini_synth

A {options.family} of {parameters:.1f} M parameters for the quick-start recipe: small enough
for a CPU, of no use for real speech.

- Data: {hours:.2f} h of mini_synth (`{data.data_dir}`): unlabelled, spoken by eSpeak NG
- Objective: {_OBJECTIVE_IN_WORDS[options.family]}
{start}{units}- Steps: {num_steps}, each {data.batch_size} x {data.window_seconds:g} s
{card_ending(command, options.training.device, rows)}"""


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command.

    Example:
        >>> options = ["--family", "hubert", "--output_dir", "exp/upstreams/hubert"]
        >>> get_parser().parse_args(options).window_seconds
        4.0
    """
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--family", required=True, choices=sorted(OBJECTIVES), help="what to train")
    add("--output_dir", required=True, type=Path, help="for the finished model")
    add("--init_from", type=Path, help="a finished model whose weights to start with")
    add(
        "--freeze_feature_encoder",
        action="store_true",
        help="leave the convolutions of --init_from as they are, which is faster",
    )
    add = parser.add_argument_group("data").add_argument
    add("--data_dir", type=Path, default="data/unlabelled", help="with a wav.scp")
    add("--batch_size", type=int, default=4, help="windows in a step")
    add("--window_seconds", type=float, default=4.0, help="length of a window")
    add = parser.add_argument_group("units of HuBERT and WavLM").add_argument
    add("--num_units", type=int, default=100, help="k-means clusters")
    add(
        "--units_from",
        type=Path,
        help="a model whose hidden features give the units, not MFCCs",
    )
    add("--units_layer", type=int, default=3, help="of --units_from")
    add_training_options(parser, num_steps=8000)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Pre-train a model."""
    words = sys.argv[1:] if cmd is None else cmd
    command = f"python local/pretrain.py {shlex.join(words)}"

    def work(args: argparse.Namespace) -> None:
        make = partial(pretrain, PretrainOptions.of(args), command)
        make_model(args.output_dir, vars(args), make)

    run(get_parser(), work, words)


if __name__ == "__main__":
    main()
