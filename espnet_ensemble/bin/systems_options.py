"""Options of commands that take the decodings of several systems."""

import argparse
from pathlib import Path

from espnet_ensemble.recipes.decodings import common_datasets, find_decoding


def add_systems_options(parser: argparse.ArgumentParser, order: str) -> None:
    """Add which systems, and which of their datasets.

    Args:
        parser: The command's.
        order: What the order of the systems means, such as "the best first".
    """
    parser.add_argument(
        "exp_dir",
        nargs="+",
        type=Path,
        help="experiment, such as exp/asr_x, or one of its decodings, such as "
        f"exp/asr_x/decode_y; {order}",
    )
    parser.add_argument("--inference_tag", help="decoding of each experiment")
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        help="dataset, such as test or org/dev; may be repeated (default: all that every "
        "system has decoded)",
    )


def find_systems(args: argparse.Namespace) -> tuple[list[Path], list[str]]:
    """The decodings that the options mean, and the datasets.

    Raises:
        EnsembleError: If there is no such decoding, or a system has not decoded a dataset.
    """
    decodings = [find_decoding(path, args.inference_tag) for path in args.exp_dir]
    return decodings, common_datasets(decodings, args.dataset)
