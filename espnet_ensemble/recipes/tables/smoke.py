"""Small stand-ins for what the tables' systems need, so that all of them run in hours.

The recipes are the checkout's. The corpora have the layout of the published ones, with a
few sentences of mini_synth for each set. The checkpoints have the names, the families, the
numbers of layers, the style and the normalization of the published ones, another width for
each family, and random weights; transformers finds them where it keeps what it has
downloaded.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import soundfile

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import atomic_write, write_text
from espnet_ensemble.recipes.tables.experiments import Experiment
from espnet_ensemble.recipes.tables.runs import SystemRun
from espnet_ensemble.testing.librispeech import (
    Speech,
    make_librilight,
    make_librispeech,
)
from espnet_ensemble.testing.recipes import clone_recipe, run_script
from espnet_ensemble.testing.upstreams import save_huggingface, tiny_huggingface
from espnet_ensemble.testing.wsj import SESSIONS, make_discs
from espnet_ensemble.upstream.checkpoints import CHECKPOINTS

_FAMILIES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
# What is concatenated is of unequal width, as 1024 and 1280 of Table 1 are.
_WIDTHS = {"wav2vec2": 24, "hubert": 32, "wavlm": 40}
_XLARGE_WIDTH = 48
# The others take speech of mean 0 and variance 1: do_normalize in preprocessor_config.json.
_TAKE_SPEECH_AS_IT_IS = ("microsoft/wavlm-base",)
_SPEECH = "--train_minutes 6 --dev_minutes 0.1 --test_minutes 0.1"
# Options of run.sh, for a computer without GPU.
_RUN_ARGS = "--ngpu 0 --gpu_inference false --nj 1 --inference_nj 1".split()
# Less than a whole corpus is an error without it; of WSJ, it is a warning.
_PARTIAL = ["--local_data_opts", "--partial"]
# Recipes that there are stand-ins for, and options that they need.
_RECIPES = {"librispeech_100": _PARTIAL, "librilight_10h": _PARTIAL, "wsj": []}


def prepare_smoke_runs(
    experiments: Sequence[Experiment], sandbox: Path, run_args: list[str]
) -> list[SystemRun]:
    """Make what stand-ins of the experiments need, unless it is there already.

    Args:
        experiments: What they stand for.
        sandbox: The folder where they run, in place of the checkout.
        run_args: More options of ``run.sh``.

    Returns:
        Runs of one epoch of the same systems.

    Raises:
        EnsembleError: If there is no stand-in for a recipe's corpus or for S3PRL's
            checkpoints, or mini_synth cannot be made.
    """
    if any(experiment.setup.loader != "transformers" for experiment in experiments):
        raise EnsembleError(
            "--smoke: expected --loader transformers: S3PRL would download"
        )
    for recipe, root in sorted({(e.system.corpus.recipe, e.root) for e in experiments}):
        _clone(root, sandbox, recipe)
    with _new(sandbox / "corpora") as corpora:
        if corpora:
            _make_corpora(experiments[0].root, sandbox, corpora)
    hub = sandbox / "huggingface" / "hub"
    for experiment in experiments:
        _save_checkpoints(hub, experiment)
    return [_smoke_run(experiment, sandbox, run_args) for experiment in experiments]


def _smoke_run(experiment: Experiment, sandbox: Path, run_args: list[str]) -> SystemRun:
    options = [*_RUN_ARGS, *_RECIPES[experiment.system.corpus.recipe], *run_args]
    system = replace(experiment.system, max_epoch=1)
    hub = sandbox / "huggingface" / "hub"
    env = {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"}
    return SystemRun(Experiment(sandbox, system, experiment.setup), options, env)


@contextmanager
def _new(folder: Path) -> Iterator[Path | None]:
    """Yield what becomes the folder at the end, or None where there is one."""
    if folder.exists():
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as part:
        part.mkdir()
        yield part


def _clone(repository: Path, sandbox: Path, recipe: str) -> None:
    if recipe not in _RECIPES:
        raise EnsembleError(
            f"--smoke: expected systems of {', '.join(_RECIPES)}, found {recipe}; what "
            "needs no corpus and no GPU is tried with --run"
        )
    folder, corpora = clone_recipe(repository, sandbox, recipe), sandbox / "corpora"
    places = {
        "LIBRISPEECH": corpora / "LibriSpeech",
        "LIBRILIGHT": corpora / "librispeech_finetuning",
        "WSJ0": corpora / "WSJ0",
        "WSJ1": corpora / "WSJ1",
    }
    # write_text replaces the link.
    write_text(
        folder / "db.sh",
        "".join(f"{k}={shlex.quote(str(v))}\n" for k, v in places.items()),
    )


def _make_corpora(repository: Path, sandbox: Path, folder: Path) -> None:
    spoken = _mini_synth(clone_recipe(repository, sandbox, "mini_synth"))
    turns = cycle(spoken)

    def reader(_rng) -> Speech:
        speech = next(turns)
        return Speech(speech.text.upper(), speech.samples)

    make_librispeech(folder / "LibriSpeech", reader=reader)
    make_librilight(folder / "librispeech_finetuning", reader)
    texts = {session: [next(turns).text for _ in range(3)] for session in SESSIONS}
    samples = {s.text: (32767 * s.samples).astype(np.int16) for s in spoken}
    make_discs(folder, texts, samples.__getitem__)


def _mini_synth(recipe: Path) -> list[Speech]:
    done = run_script(
        recipe, "./run.sh", "--stop_stage", "1", "--local_data_opts", _SPEECH
    )
    if done.returncode != 0:
        raise EnsembleError(f"{recipe}/run.sh failed:\n{done.stdout}")
    wavs, texts = (
        read_table(recipe / "data" / "train" / name) for name in ("wav.scp", "text")
    )
    return [
        Speech(text, soundfile.read(recipe / wavs[utt_id], dtype="float32")[0])
        for utt_id, text in texts.items()
    ]


def _save_checkpoints(hub: Path, experiment: Experiment) -> None:
    """Write the upstreams' stand-ins where huggingface_hub looks for them."""
    system = experiment.system
    for name in system.upstreams:
        checkpoint = system.random.get(name, name)
        with _new(hub / f"models--{checkpoint.replace('/', '--')}") as folder:
            if folder:
                _save_checkpoint(folder, checkpoint)


def _save_checkpoint(folder: Path, name: str) -> None:
    """Write a checkpoint into a folder as huggingface_hub keeps them."""
    (published,) = [c for c in CHECKPOINTS if c.huggingface == name]
    family = name.partition("/")[2].partition("-")[0]
    is_base = published.feature_size == 768
    revision = "0" * 40
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    model = tiny_huggingface(
        _FAMILIES[family],
        "base" if is_base else "large",
        "ForCTC" if published.fine_tuned else "Model",
        num_hidden_layers=published.num_layers,
        hidden_size=_XLARGE_WIDTH
        if published.feature_size == 1280
        else _WIDTHS[family],
        conv_bias=not is_base and family != "wavlm",
    )
    normalizes = name not in _TAKE_SPEECH_AS_IT_IS
    save_huggingface(folder / "snapshots" / revision, model, do_normalize=normalizes)
