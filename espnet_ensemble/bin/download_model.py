#!/usr/bin/env python3
"""Make an experiment of a published model, for asr.sh --download_model to decode with.

It is fetched with espnet_model_zoo. What the experiment's files are is printed, as
assignments for the shell.
"""

import argparse
import os
import shlex
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.files import atomic_write, read_yaml, write_text, write_yaml
from espnet_ensemble.recipes.results_page import MODEL_LINK


def get_parser() -> argparse.ArgumentParser:
    """Options of ``download_model``."""
    parser = make_parser("download_model", __doc__)
    parser.add_argument(
        "model_tag",
        help="id on the Hugging Face hub (user/model), name or address in ESPnet's model "
        "zoo, or an archive",
    )
    parser.add_argument("--expdir", default="exp", help="folder for experiments")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Fetch the model, and link it where an experiment has its own."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    # Not before the options are checked: it imports ESPnet's tasks.
    from espnet_ensemble.integrations.espnet2.packed_config import is_ensemble
    from espnet_ensemble.integrations.espnet2.unpacking import fetch_model

    files = fetch_model(args.model_tag)
    config = read_yaml(files["asr_train_config"])
    if is_ensemble(config):
        config["frontend"] = "ensemble"  # archives say, too, how to install the plugin
    weights = Path(files["asr_model_file"]).absolute()
    asr_exp = Path(args.expdir, _name(args.model_tag))
    asr_exp.mkdir(parents=True, exist_ok=True)
    write_yaml(asr_exp / "config.yaml", config)
    with atomic_write(asr_exp / weights.name) as part:
        part.symlink_to(weights)
    if model_card := _address(args.model_tag):
        write_text(asr_exp / MODEL_LINK, f"{model_card}\n")
    names = {
        "asr_exp": asr_exp,
        "asr_config": asr_exp / "config.yaml",
        "inference_asr_model": weights.name,
        "model_bpemodel": config.get("bpemodel") or "none",
        "model_unused": " ".join(sorted({"lm_file", "ngram_file"} & files.keys())),
    }
    for name, value in names.items():
        print(f"{name}={shlex.quote(os.fspath(value))}")


def _name(model_tag: str) -> str:
    """A folder: that of ESPnet's for an id; of an archive, its name."""
    is_file = Path(model_tag).is_file() or "://" in model_tag
    return Path(model_tag).stem if is_file else model_tag


def _address(model_tag: str) -> str:
    """Where the model is published; "": it is an archive of this machine's."""
    if "://" in model_tag:
        return model_tag
    is_here = Path(model_tag).is_file() or "/" not in model_tag
    return "" if is_here else f"https://huggingface.co/{model_tag.partition('@')[0]}"


if __name__ == "__main__":
    main()
