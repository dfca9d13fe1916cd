"""Options of the commands that decode speech: device, search, batches and long audio."""

import argparse
from dataclasses import fields, replace

import torch
from espnet2.utils.types import str_or_none

from espnet_ensemble.decoding.long_audio import LongAudioConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike
from espnet_ensemble.integrations.espnet2.training_lengths import mean_utt_seconds

_USUAL = LongAudioConf()


def add_device_options(group: argparse._ArgumentGroup, ngpu: int | None = 0) -> None:
    """Add the options of where, and in which type, a model computes.

    Args:
        group: Gets them.
        ngpu: Default of --ngpu; None: a GPU if there is one.
    """
    default = "a GPU if there is one" if ngpu is None else ngpu
    group.add_argument(
        "--ngpu", type=int, default=ngpu, help=f"0: CPU; 1: GPU (default: {default})"
    )
    group.add_argument(
        "--device",
        type=str_or_none,
        help="which one, such as cuda:1, in place of --ngpu",
    )
    group.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32", "float64"),
        default="float32",
        help="type that it computes in (default: %(default)s)",
    )


def device_of(args: argparse.Namespace) -> torch.device:
    """The device that these options choose.

    Raises:
        EnsembleError: If there is no such device.
    """
    ngpu = args.ngpu
    if ngpu is None:
        ngpu = int(torch.cuda.is_available())
    if ngpu > 1:
        raise EnsembleError(
            f"--ngpu {ngpu}: expected 0 or 1; start a process for each GPU, each "
            "with its --device and its part of the speech"
        )
    device = torch.device(args.device or ("cuda" if ngpu else "cpu"))
    if device.type == "cuda" and torch.cuda.device_count() <= (device.index or 0):
        raise EnsembleError(
            f"expected the GPU {device}, found {torch.cuda.device_count()} GPUs"
        )
    return device


def add_search_option(group: argparse._ArgumentGroup) -> None:
    """Add the choice between the best path and a beam search."""
    group.add_argument(
        "--search",
        choices=("greedy", "beam"),
        help="greedy: the best path, fastest; beam: the transcript whose paths are the "
        "most probable together (default: greedy, unless an option of beam "
        "search asks for more)",
    )


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of batches and long audio."""
    group = parser.add_argument_group("batches and long audio")
    group.add_argument(
        "--batch_seconds",
        type=float,
        help="seconds of speech that the model gets at once, with padding; half of it "
        "where memory runs out (default: 60, and 480 on a GPU)",
    )
    group.add_argument(
        "--batch_size", type=int, help="utterances at once (default: what fits)"
    )
    group.add_argument(
        "--segment_seconds",
        type=float,
        help="length that segments of long audio shall have, more or less (default: the "
        "mean of the utterances that the model was trained on, if its recipe still has "
        f"their lengths, or else {_USUAL.segment_seconds:g})",
    )
    group.add_argument(
        "--long_seconds",
        type=float,
        help="longer utterances are cut into segments (default: 4 times "
        "--segment_seconds)",
    )
    group.add_argument(
        "--window_seconds",
        type=float,
        help="long utterances of the feature cache are decoded in windows of this length "
        "(default: 2.7 times --segment_seconds)",
    )
    group.add_argument(
        "--overlap_seconds",
        type=float,
        help="what neighbouring windows share (default: a fifth of them)",
    )


def long_audio_conf(
    args: argparse.Namespace, asr_train_config: PathLike | None
) -> LongAudioConf:
    """What those options say of long audio.

    Args:
        args: The options.
        asr_train_config: The model's ``config.yaml``; None: it is not known.

    Raises:
        EnsembleError: If they do not fit together.
    """
    given = {
        each.name: value
        for each in fields(LongAudioConf)
        if (value := getattr(args, each.name)) is not None
    }
    trained = asr_train_config and mean_utt_seconds(asr_train_config)
    seconds = args.segment_seconds or trained or _USUAL.segment_seconds
    return replace(LongAudioConf.of(seconds), **given)
