#!/usr/bin/env python3
"""Print what asr.sh calls its folders and files, as assignments for the shell.

First, the training configuration with its frontend is written to <expdir>/conf, as the
options have it. With --stages, it is looked at what these stages need: upstreams, GPUs,
sample rates, names of options.
"""

import argparse
import shlex
from dataclasses import fields
from pathlib import Path

from espnet2.utils.types import str2bool

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.names import AsrNames, NamingOptions
from espnet_ensemble.recipes.options import split_words
from espnet_ensemble.recipes.preflight import Plan, check_plan
from espnet_ensemble.recipes.training_config import read_training_config

#: Options of asr.sh that are several words.
WORDS = (
    "asr_args",
    "bpe_train_text",
    "cache_opts",
    "inference_args",
    "lm_train_text",
    "local_data_opts",
    "local_score_opts",
    "pretrained_model",
)


def get_parser() -> argparse.ArgumentParser:
    """Options of ``asr_names``: those of ``asr.sh`` that it needs to know."""
    parser = make_parser("asr_names", __doc__)
    parser.add_argument("--asr_config", required=True, help="training configuration")
    parser.add_argument(
        "--frontend_config", help="file with frontend and frontend_conf to use instead"
    )
    parser.add_argument(
        "--upstreams",
        type=str.split,
        default=[],
        help="names of upstreams to use instead, separated by spaces",
    )
    group = parser.add_argument_group("options of asr.sh, with its defaults")
    for field in fields(NamingOptions):
        group.add_argument(f"--{field.name}", default=field.default)
    for name in sorted(
        {*WORDS}.difference(field.name for field in fields(NamingOptions))
    ):
        group.add_argument(f"--{name}", default="")
    group = parser.add_argument_group("what asr.sh is about to do")
    group.add_argument(
        "--stages",
        type=lambda value: [int(word) for word in value.split()],
        default=[],
        help="numbers of the stages that it will run (default: none)",
    )
    for name in ("train_set", "valid_set", "test_sets", "cuda_cmd", "download_model"):
        group.add_argument(f"--{name}", default="")
    for name in ("eval_valid_set", "cache_feats", "gpu_inference"):
        group.add_argument(f"--{name}", type=str2bool, default=False)
    group.add_argument("--ngpu", type=int, default=0)
    group.add_argument("--num_nodes", type=int, default=1)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Write the configuration, look at the plan, and print all that asr.sh asks for."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    words = {name: split_words(name, getattr(args, name)) for name in WORDS}
    config = read_training_config(args.asr_config, args.frontend_config, args.upstreams)
    config = config.with_fs(args.fs)
    given = {field.name: getattr(args, field.name) for field in fields(NamingOptions)}
    if args.inference_config:  # a link is called by what it leads to
        given["inference_config"] = str(Path(args.inference_config).resolve())
    names = AsrNames.of(NamingOptions(**given), config)
    used = config.with_arguments(words["asr_args"])
    test_sets, eval_sets = _sets(args)
    check_plan(_plan(args, eval_sets), used, names)
    path = Path(args.asr_config)
    if not args.download_model:  # that of a published model is used as it is
        path = used.write(Path(args.expdir, "conf"))
    print(f"asr_config={shlex.quote(str(path))}\n{names.to_shell()}")
    print(f"feats_dir={shlex.quote(f'{args.dumpdir}/feats{used.feats_tag}')}")
    print(f"eval_valid_set={str(len(eval_sets) > len(test_sets)).lower()}")
    print(f"test_sets={shlex.quote(' '.join(test_sets))}")
    print(f"eval_sets={shlex.quote(' '.join(eval_sets))}")
    for name, value in words.items():
        print(f"{name}_words=({shlex.join(value)})")


def _sets(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Evaluation sets, and what is decoded: these, and the validation set if asked for."""
    wanted = list(dict.fromkeys(args.test_sets.split()))
    test_sets = [name for name in wanted if name != args.valid_set]
    decodes_valid = args.eval_valid_set or test_sets != wanted
    return test_sets, [f"org/{args.valid_set}"] * decodes_valid + test_sets


def _plan(args: argparse.Namespace, eval_sets: list[str]) -> Plan:
    known = {field.name for field in fields(Plan)}
    given = {name: value for name, value in vars(args).items() if name in known}
    return Plan(**given, eval_sets=eval_sets)


if __name__ == "__main__":
    main()
