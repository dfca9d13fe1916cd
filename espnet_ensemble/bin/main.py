#!/usr/bin/env python3
"""``espnet-ensemble <verb>``: one entry point for people.

Each verb is a module of this package, and ``python -m espnet_ensemble.bin.<verb>`` runs
the same.
"""

import argparse
import importlib

VERBS = {
    "asr_train": "ESPnet's ASR training, with the plugin loaded",
    "asr_inference": "ESPnet's ASR decoding, with the plugin loaded",
    "extract": "compute frozen upstreams' features once, for training from disk",
    "pack": "make a model zoo archive that carries local upstreams",
    "table": "list, run and collect the systems of the paper's tables",
    "upstreams": "list the checkpoints that the paper uses",
}


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble`` itself."""
    parser = argparse.ArgumentParser(
        prog="espnet-ensemble",
        description="Combine frozen self-supervised speech encoders in ESPnet.",
        epilog="verbs:\n"
        + "\n".join(f"  {verb:<16}{text}" for verb, text in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=VERBS, metavar="verb", help="what to do")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="its options")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Run a verb."""
    args = get_parser().parse_args(cmd)
    importlib.import_module(f"espnet_ensemble.bin.{args.verb}").main(args.args)


if __name__ == "__main__":
    main()
