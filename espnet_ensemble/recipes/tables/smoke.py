"""Small stand-ins for what the tables' systems need, so that all of them run in hours.

The recipes are the checkout's. The corpora have the layout of the published ones, with a
few sentences of mini_synth for each set. The checkpoints have the names, the families and
the numbers of layers of the published ones, and random weights; transformers finds them
where it keeps what it has downloaded.
"""

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from espnet_ensemble.data.tables import DataError, read_table
from espnet_ensemble.files import write_text
from espnet_ensemble.recipes.tables.systems import System
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
_SPEECH = "--train_minutes 6 --dev_minutes 0.1 --test_minutes 0.1"
# Options of run.sh, for a computer without GPU.
_RUN_ARGS = "--ngpu 0 --gpu_inference false --nj 1 --inference_nj 1".split()
# Less than a whole corpus is an error without it; of WSJ, it is a warning.
_PARTIAL = ["--local_data_opts", "--partial"]


class Sandbox(NamedTuple):
    """Where the systems run.

    Attributes:
        root: In place of the checkout.
        env: Environment variables.
    """

    root: Path
    env: dict[str, str]


def make_sandbox(repository: Path, root: Path, systems: list[System]) -> Sandbox:
    """Make what the systems need, unless it is there already.

    Args:
        repository: The checkout.
        root: The folder.

    Raises:
        DataError: If mini_synth cannot be made.
    """
    for recipe in sorted({system.corpus.recipe for system in systems}):
        _clone(repository, root, recipe)
    with _new(root / "corpora") as corpora:
        if corpora:
            _make_corpora(repository, root, corpora)
    hub = root / "huggingface" / "hub"
    for system in systems:
        for family, checkpoint in zip(system.members, system.upstreams):
            with _new(hub / f"models--{checkpoint.replace('/', '--')}") as folder:
                if folder:
                    _save_checkpoint(folder, family, checkpoint)
    return Sandbox(root, {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"})


def shorten(system: System) -> System:
    """The same system, trained for one epoch."""
    return replace(system, max_epoch=1)


def run_args(system: System) -> list[str]:
    """Options of ``run.sh`` that the system needs in the sandbox."""
    return _RUN_ARGS + (_PARTIAL if system.corpus.recipe != "wsj" else [])


@contextmanager
def _new(folder: Path) -> Iterator[Path | None]:
    """Yield what becomes the folder at the end, or None where there is one."""
    if folder.exists():
        yield None
        return
    part = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    os.replace(part, folder)


def _clone(repository: Path, root: Path, recipe: str) -> None:
    folder, corpora = clone_recipe(repository, root, recipe), root / "corpora"
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


def _make_corpora(repository: Path, root: Path, folder: Path) -> None:
    utterances = _mini_synth(clone_recipe(repository, root, "mini_synth"))
    turns = cycle(utterances)

    def reader(_rng) -> Speech:
        utterance = next(turns)
        return Speech(utterance.text.upper(), utterance.samples)

    make_librispeech(folder / "LibriSpeech", reader=reader)
    make_librilight(folder / "librispeech_finetuning", reader)
    sentences = {session: [next(turns).text for _ in range(3)] for session in SESSIONS}
    spoken = {u.text: np.int16(32767 * u.samples) for u in utterances}
    make_discs(folder, sentences, spoken.__getitem__)


def _mini_synth(recipe: Path) -> list[Speech]:
    done = run_script(
        recipe, "./run.sh", "--stop_stage", "1", "--local_data_opts", _SPEECH
    )
    if done.returncode != 0:
        raise DataError(f"{recipe}/run.sh failed:\n{done.stdout}")
    wavs, texts = (
        read_table(recipe / "data" / "train" / f) for f in ("wav.scp", "text")
    )
    return [
        Speech(text, soundfile.read(recipe / wavs[utt_id], dtype="float32")[0])
        for utt_id, text in texts.items()
    ]


def _save_checkpoint(folder: Path, family: str, name: str) -> None:
    """Write a checkpoint into a folder as huggingface_hub keeps them."""
    (published,) = [c for c in CHECKPOINTS if c.huggingface == name]
    revision = "0" * 40
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    model = tiny_huggingface(
        _FAMILIES[family],
        "base" if published.feature_size == 768 else "large",
        "ForCTC" if "fine-tuned" in published.data else "Model",
        num_hidden_layers=published.num_layers,
    )
    save_huggingface(folder / "snapshots" / revision, model)
