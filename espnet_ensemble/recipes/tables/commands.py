"""What follows from a system: its configuration, its command and its folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_ensemble.bin.train_config import frontend_tag, read_config, set_frontend
from espnet_ensemble.files import write_text
from espnet_ensemble.layers import layer_indices
from espnet_ensemble.recipes.tables.systems import System, TableError
from espnet_ensemble.upstream.checkpoints import CHECKPOINTS

ENCODERS = ("transformer", "conformer")
_MODEL = "valid.cer_ctc.ave"
# Options that the table sets, and others that asr.sh names an experiment by.
_TAKEN = set(
    "asr_args asr_config asr_exp asr_tag expdir frontend_config inference_args "
    "inference_asr_model inference_config inference_tag lang nbpe speed_perturb_factors "
    "test_sets token_type train_set upstreams".split()
)


@dataclass(frozen=True)
class Variant:
    """How systems differ from the paper's.

    Attributes:
        layer: Of every upstream: "last", "weighted_sum" or an index.
        fusion: How several upstreams are combined; one alone has nothing to combine.
        encoder: In place of the transformer, where the head has one.
    """

    layer: str | int = "last"
    fusion: str = "concat"
    encoder: str = "transformer"

    @property
    def name(self) -> str:
        """What is not as in the paper, for names of files; "" where all is.

        Example:
            >>> Variant(layer=8, encoder="conformer").name
            'layer8_conformer'
        """
        parts = [] if self.layer == "last" else [f"layer{self.layer}"]
        parts += [] if self.fusion == "concat" else [self.fusion]
        parts += [] if self.encoder == "transformer" else [self.encoder]
        return "_".join(parts)


def recipe_dir(root: Path, system: System) -> Path:
    """The folder of the system's recipe in the checkout ``root``."""
    return root / "egs2" / system.corpus.recipe / "asr1"


def asr_config(system: System, variant: Variant) -> str:
    """The training configuration that the frontend is put into, in the recipe's folder.

    The encoder of a variant has as many layers as its own file says.
    """
    head = system.head
    if variant.encoder != "transformer":
        head = re.sub(r"^transformer\d+", variant.encoder, head)
    return f"conf/train_asr_{head}.yaml"


def training_config(root: Path, system: System, variant: Variant) -> dict[str, Any]:
    """The configuration that training gets.

    Args:
        root: The checkout.

    Raises:
        TableError: If an upstream has no such layer.
        ConfigError: If the configuration of the head is wrong.
    """
    entries: list = list(system.upstreams)
    if variant.layer != "last":
        _check_layer(system, variant)
        entries = [{"name": name, "layer": variant.layer} for name in entries]
    path = recipe_dir(root, system) / asr_config(system, variant)
    config = set_frontend(read_config(str(path)), upstreams=entries)
    if len(entries) > 1:
        config["frontend_conf"]["fusion"] = variant.fusion
    if system.max_epoch is not None:
        config["max_epoch"] = system.max_epoch
    return config


def experiment_dir(root: Path, system: System, variant: Variant) -> Path:
    """Where ``asr.sh`` puts the experiment."""
    lang = f"_{system.corpus.lang}" if system.corpus.lang else ""
    epochs = "" if system.max_epoch is None else f"_max_epoch{system.max_epoch}"
    stem = Path(asr_config(system, variant)).stem
    tag = frontend_tag(training_config(root, system, variant))
    name = f"asr_{stem}_{tag}_raw{lang}_char{epochs}"
    return recipe_dir(root, system) / "exp" / name


def inference_tag(system: System) -> str:
    """What ``asr.sh`` calls its decoding."""
    return f"{Path(system.inference_config).stem}_asr_model_{_MODEL}"


def command(
    root: Path, system: System, variant: Variant, run_args: list[str]
) -> list[str]:
    """The command that trains, decodes and scores a system, to be run in ``root``.

    Args:
        root: The checkout.
        run_args: More options of ``run.sh``.

    Raises:
        TableError: If ``run_args`` has an option that the table sets, or one that the
            folder of the experiment depends on.
    """
    options = {
        "--train_set": system.corpus.train_set,
        "--test_sets": " ".join(system.corpus.sets),
        "--asr_config": asr_config(system, variant),
    }
    if changes_frontend(system, variant):
        path = frontend_config(root, system, variant)
        options["--frontend_config"] = str(path.relative_to(recipe_dir(root, system)))
    else:
        options["--upstreams"] = " ".join(system.upstreams)
    if system.max_epoch is not None:
        options["--asr_args"] = f"--max_epoch {system.max_epoch}"
    if system.corpus.lang:
        options["--lang"] = system.corpus.lang
    options["--inference_config"] = system.inference_config
    for option in run_args[::2]:
        if option.removeprefix("--").replace("-", "_") in _TAKEN:
            raise TableError(f"--run_args: {option} is for the table to set")
    run = (recipe_dir(root, system) / "run.sh").relative_to(root)
    return [str(run), *(word for item in options.items() for word in item), *run_args]


def changes_frontend(system: System, variant: Variant) -> bool:
    """Whether the variant's frontend is more than names of upstreams."""
    fuses = len(system.members) > 1 and variant.fusion != "concat"
    return fuses or variant.layer != "last"


def frontend_config(root: Path, system: System, variant: Variant) -> Path:
    """The file for ``--frontend_config``, where :func:`changes_frontend`."""
    tag = frontend_tag(training_config(root, system, variant))
    return recipe_dir(root, system) / "exp" / "conf" / "frontends" / f"{tag}.yaml"


def write_frontend_config(root: Path, system: System, variant: Variant) -> None:
    """Write the file that the command names, where it names one."""
    if not changes_frontend(system, variant):
        return
    config = training_config(root, system, variant)
    path = frontend_config(root, system, variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("frontend", "frontend_conf")
    write_text(
        path, yaml.safe_dump({key: config[key] for key in keys}, sort_keys=False)
    )


def _check_layer(system: System, variant: Variant) -> None:
    published = {checkpoint.huggingface: checkpoint for checkpoint in CHECKPOINTS}
    for name in system.upstreams:
        if name not in published:
            continue
        try:
            layer_indices(variant.layer, published[name].num_layers)
        except ValueError as error:
            raise TableError(f"{name}: {error}") from error
