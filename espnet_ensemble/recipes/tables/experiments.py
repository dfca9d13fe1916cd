"""What follows from a system: its configuration, its command and its folders."""

import re
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import write_yaml
from espnet_ensemble.layers import layer_indices
from espnet_ensemble.recipes.names import AsrNames, NamingOptions
from espnet_ensemble.recipes.tables.systems import System
from espnet_ensemble.recipes.training_config import TrainingConfig
from espnet_ensemble.upstream.checkpoints import CHECKPOINTS

ENCODERS = ("transformer", "conformer")
# Options that the table sets, and others that asr.sh names an experiment by.
_TAKEN = set(
    "asr_args asr_config asr_exp asr_tag cleaner expdir feats_normalize frontend_config fs "
    "g2p inference_args inference_asr_model inference_config inference_tag lang nbpe "
    "pretrained_model speed_perturb_factors test_sets token_type train_set "
    "upstreams".split()
)
_NAMING = {field.name for field in fields(NamingOptions)}


@dataclass(frozen=True)
class Variant:
    """How systems differ from the paper's.

    Attributes:
        layer: Of every upstream: "last", "weighted_sum" or an index.
        fusion: How several upstreams are combined; one alone has nothing to combine.
        encoder: In place of the transformer, where the downstream model has one.
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

    @property
    def options(self) -> str:
        """The options of ``espnet-ensemble table`` that make the variant.

        Example:
            >>> Variant(layer=8, encoder="conformer").options
            '--layer 8 --encoder conformer'
        """
        given, paper = vars(self), vars(Variant())
        return " ".join(f"--{k} {v}" for k, v in given.items() if v != paper[k])


@dataclass(frozen=True)
class Experiment:
    """A system as an experiment of its recipe.

    Attributes:
        root: The checkout with the recipe.
        system: What is trained, on which features.
        variant: How it differs from the paper's.
    """

    root: Path
    system: System
    variant: Variant

    @property
    def recipe_dir(self) -> Path:
        """The folder of the recipe."""
        return self.root / "egs2" / self.system.corpus.recipe / "asr1"

    @property
    def asr_config(self) -> str:
        """The training configuration of the downstream model, in the recipe's folder.

        A variant's encoder has as many layers as its own file says.
        """
        head, encoder = self.system.head, self.variant.encoder
        if encoder != "transformer":
            head = re.sub(r"^transformer\d+", encoder, head)
        return f"conf/train_asr_{head}.yaml"

    @property
    def changes_frontend(self) -> bool:
        """Whether the variant's frontend is more than names of upstreams."""
        fuses = len(self.system.families) > 1 and self.variant.fusion != "concat"
        return fuses or self.variant.layer != "last"

    @cached_property
    def training_config(self) -> TrainingConfig:
        """The configuration with the system's frontend, as ``asr.sh`` makes it.

        Raises:
            EnsembleError: If the recipe has no such configuration, or an upstream no such
                layer.
        """
        system, variant = self.system, self.variant
        entries: list = list(system.upstreams)
        if variant.layer != "last":
            _check_layer(system, variant)
            entries = [{"name": name, "layer": variant.layer} for name in entries]
        config = TrainingConfig.read(self.recipe_dir / self.asr_config)
        config = config.with_upstreams(entries).with_fs(NamingOptions.fs)
        if len(entries) == 1:
            return config
        conf = {**config.content["frontend_conf"], "fusion": variant.fusion}
        return replace(config, content={**config.content, "frontend_conf": conf})

    @property
    def max_epoch(self) -> int:
        """Epochs that training has."""
        return self.system.max_epoch or self.training_config.content["max_epoch"]

    @property
    def options(self) -> dict[str, str]:
        """The options of ``run.sh`` that make the experiment, without their hyphens."""
        system = self.system
        options = {
            "train_set": system.corpus.train_set,
            "test_sets": " ".join(system.corpus.sets),
            "asr_config": self.asr_config,
        }
        if self.changes_frontend:
            path = self.frontend_config.relative_to(self.recipe_dir)
            options["frontend_config"] = str(path)
        else:
            options["upstreams"] = " ".join(system.upstreams)
        if system.max_epoch is not None:
            options["asr_args"] = f"--max_epoch {system.max_epoch}"
        if system.corpus.lang:
            options["lang"] = system.corpus.lang
        options["inference_config"] = system.inference_config
        return options

    @cached_property
    def names(self) -> AsrNames:
        """What ``asr.sh`` calls its folders."""
        given = {k: v for k, v in self.options.items() if k in _NAMING}
        return AsrNames.of(NamingOptions(**given), self.training_config)

    @property
    def exp_dir(self) -> Path:
        """Where ``asr.sh`` puts the experiment."""
        return self.recipe_dir / self.names.asr_exp

    @property
    def frontend_config(self) -> Path:
        """The file for ``--frontend_config``, where :attr:`changes_frontend`."""
        folder = self.recipe_dir / NamingOptions.expdir / "conf" / "frontends"
        return folder / f"{self.training_config.frontend_tag}.yaml"

    def write_frontend_config(self) -> None:
        """Write the file that the command names, where it names one."""
        if not self.changes_frontend:
            return
        content = self.training_config.content
        self.frontend_config.parent.mkdir(parents=True, exist_ok=True)
        keys = ("frontend", "frontend_conf")
        write_yaml(self.frontend_config, {key: content[key] for key in keys})

    def command(self, run_args: list[str]) -> list[str]:
        """What trains, decodes and scores the system, to be run in the checkout.

        Args:
            run_args: More options of ``run.sh``.

        Raises:
            EnsembleError: If ``run_args`` has an option that the table sets, or one that
                the folder of the experiment depends on.
        """
        for option in run_args[::2]:
            if option.removeprefix("--").replace("-", "_") in _TAKEN:
                raise EnsembleError(f"--run_args: {option} is for the table to set")
        run = (self.recipe_dir / "run.sh").relative_to(self.root)
        words = [
            w for name, value in self.options.items() for w in (f"--{name}", value)
        ]
        return [str(run), *words, *run_args]


def _check_layer(system: System, variant: Variant) -> None:
    published = {checkpoint.huggingface: checkpoint for checkpoint in CHECKPOINTS}
    for name in system.upstreams:
        if name not in published:
            continue
        try:
            layer_indices(variant.layer, published[name].num_layers)
        except ValueError as error:
            raise EnsembleError(f"{name}: {error}") from error
