"""The recipe's modules, which are no package, and speech and models for them."""

import importlib
import sys

import numpy as np
import pytest
import soundfile
import torch
from repository import REPOSITORY

from espnet_ensemble.data.datadir import write

LOCAL = REPOSITORY / "egs2" / "mini_synth" / "ssl1" / "local"
PITCHES = {"a": 300, "ä": 800, " ": 0}
TEXTS = {"u1": "aä", "u2": "ä a", "u3": "a äa", "u4": "äaä aä", "u5": "ä", "u6": "a a"}


@pytest.fixture(scope="module")
def local():
    """Import a module of the recipe as its scripts do: local("training")."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(LOCAL))
        yield importlib.import_module
    for path in LOCAL.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture(scope="session")
def noises(tmp_path_factory):
    """A data directory of three noises, whose colour changes four times a second."""
    folder, rng = tmp_path_factory.mktemp("noises"), np.random.default_rng(0)
    lines = []
    for name in ("a", "b", "c"):
        noise = rng.standard_normal((16, 4000))
        for i, piece in enumerate(noise):
            piece[:] = np.convolve(piece, np.ones(1 + i % 8) / (1 + i % 8), "same")
        soundfile.write(folder / f"{name}.wav", 0.1 * noise.ravel(), 16000)
        lines.append(f"{name} {folder / name}.wav\n")
    (folder / "wav.scp").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def sing():
    """Make a note of a quarter of a second of each character: sing(text) -> samples."""

    def notes(text):
        time = np.arange(4000) / 16000
        tones = [np.sin(2 * np.pi * PITCHES[character] * time) for character in text]
        noise = np.random.default_rng(len(text)).standard_normal(4000 * len(text))
        # Untrained layer norms would amplify what rounding makes of silence.
        return 0.5 * np.concatenate(tones) + 0.01 * noise

    return notes


@pytest.fixture(scope="session")
def texts():
    """What is said in the songs, by utterance."""
    return TEXTS


@pytest.fixture(scope="session")
def songs(sing, tmp_path_factory):
    """A data directory: of one recording and of one more, cut into the others."""
    folder = tmp_path_factory.mktemp("songs")
    soundfile.write(folder / "u1.wav", sing(TEXTS["u1"]), 16000)
    whole, segments = [np.zeros(0)], {"u1": "u1 0 -1"}
    for utt_id, text in list(TEXTS.items())[1:]:
        start = len(np.concatenate(whole)) / 16000
        whole.append(sing(text))
        segments[utt_id] = f"rest {start} {start + len(text) / 4}"
    soundfile.write(folder / "rest.wav", np.concatenate(whole), 16000)
    tables = {
        "wav.scp": {name: f"{folder / name}.wav" for name in ("u1", "rest")},
        "segments": segments,
        "text": TEXTS,
        "utt2spk": {utt_id: utt_id for utt_id in TEXTS},
    }
    write(folder, tables)
    return folder


@pytest.fixture(scope="module")
def upstreams(local, tmp_path_factory):
    """A family's model as pre-training leaves it: upstreams(family) -> folder."""
    folder = tmp_path_factory.mktemp("upstreams")

    def get(family):
        if not (folder / family).exists():
            torch.manual_seed(0)
            model = local("pretrain_objectives").make_objective(family, 8).model
            local("pretrain").save_model(model, folder / family)
        return folder / family

    return get


@pytest.fixture(scope="module")
def assert_same_run(local):
    """Compare two finished models: their weights, and their loss curves but for time."""

    def compare(folder, other):
        ours, theirs = (path / "model.safetensors" for path in (folder, other))
        assert ours.read_bytes() == theirs.read_bytes()
        ours, theirs = (curve(path) for path in (folder, other))
        np.testing.assert_array_equal(ours[:, :-1], theirs[:, :-1])

    return compare


def curve(folder):
    """The loss curve of a finished model: (rows, columns)."""
    return np.loadtxt(folder / "train_log.csv", delimiter=",", skiprows=1)


@pytest.fixture
def interrupt(local, monkeypatch):
    """Press Ctrl-C when so many steps are saved: interrupt(steps, run)."""

    def call(num_steps, run):
        module = local("training")
        save = module.save_checkpoint

        def save_and_stop(path, model, optimizer, steps):
            save(path, model, optimizer, steps)
            if len(steps) == num_steps:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, "save_checkpoint", save_and_stop)
            with pytest.raises((KeyboardInterrupt, SystemExit)):
                run()

    return call
