#!/usr/bin/env python3
"""``espnet2.bin.pack``, whose archives work on any machine.

They name published upstreams by id, revision and fingerprint, carry those that exist only
here, and have a model card.
"""

import argparse
from typing import Any

import yaml
from espnet2.bin import pack as espnet_pack
from espnet2.utils.types import str2bool, str_or_none

from espnet_ensemble.bin.command import run
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import read_yaml
from espnet_ensemble.integrations.espnet2.packing import PackConf
from espnet_ensemble.recipes.options import split_words
from espnet_ensemble.recipes.publishing import pack_with_card


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet2.bin.pack``, and more for each kind of model."""
    parser = espnet_pack.get_parser()
    parser.prog = "espnet-ensemble pack"
    parser.description = __doc__
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for kind in action.choices.values():
                _add_options(kind)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models with the frontend ensemble")
    group.add_argument(
        "--bundle_upstreams",
        type=str2bool,
        default=False,
        help="whether to carry published upstreams, too",
    )
    group.add_argument(
        "--inference_config", type=str_or_none, help="decoding configuration to carry"
    )
    group.add_argument(
        "--inference_args", default="", help="options that override it, in one word"
    )
    group.add_argument(
        "--model_name",
        type=str_or_none,
        help="what the model card calls the model, such as user/model; None: as the archive "
        "is called",
    )


def main(cmd: list[str] | None = None) -> None:
    """Pack a model."""
    run(get_parser(), _pack, cmd)


def _pack(args: argparse.Namespace) -> None:
    if not hasattr(args, "contents"):
        raise EnsembleError("expected what to pack, such as asr")
    names = pack_with_card(
        yaml_files=_given(args, args.contents.yaml_files),
        files=_given(args, args.contents.files),
        option=args.option,
        outpath=args.outpath,
        conf=PackConf(args.bundle_upstreams, _decoding(args)),
        model=args.model_name,
    )
    for name in names:
        print(f"  {name}")
    print(f"{args.outpath}: {len(names)} files and folders")


def _given(args: argparse.Namespace, keys: list[str]) -> dict:
    return {key: getattr(args, key) for key in keys if getattr(args, key) is not None}


def _decoding(args: argparse.Namespace) -> dict[str, Any] | None:
    """The configuration with the options that override it."""
    found = read_yaml(args.inference_config) if args.inference_config else {}
    words = split_words("inference_args", args.inference_args)
    for option, value in zip(words[::2], words[1::2], strict=False):
        found[option.removeprefix("--")] = yaml.safe_load(value)
    return found or None


if __name__ == "__main__":
    main()
