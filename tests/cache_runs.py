"""A small data directory, runs of the extraction in processes, and what they leave."""

import multiprocessing
import threading

import numpy as np
import soundfile
import torch
from tqdm import tqdm
from tqdm.asyncio import tqdm_asyncio

from espnet_ensemble.data.datadir import write
from espnet_ensemble.feature_cache.identity import FeatureIdentity

#: Of barely a frame, and not in the order of the names.
NUM_SAMPLES = {"a": 3217, "b": 8000, "c": 410, "d": 7999, "e": 1100, "f": 16000, "g": 9}


#: What features of a published upstream are.
FEATURES = FeatureIdentity(
    upstream="microsoft/wavlm-base",
    layer="last",
    layers=[12],
    extra_conf=None,
    fingerprint="0123456789abcdef",
    feature_size=768,
    fs=16000,
    hop_length=320,
    speech_fs=16000,
    dtype="float32",
)


def noise(num_samples, seed):
    return np.random.default_rng(seed).normal(0, 0.1, num_samples)


def write_noises(tmp_path, first_seed=0):
    """Write noises at 16 kHz, <tmp_path>/wav/<id>.wav, and their data directory."""
    (tmp_path / "wav").mkdir()
    paths = {key: tmp_path / "wav" / f"{key}.wav" for key in NUM_SAMPLES}
    for seed, (key, path) in enumerate(paths.items(), first_seed):
        soundfile.write(path, noise(NUM_SAMPLES[key], seed), 16000)
    tables = {
        "utt2spk": {key: "alice" for key in paths},
        "utt2num_samples": {key: str(n) for key, n in NUM_SAMPLES.items()},
        "wav.scp": {key: str(path) for key, path in paths.items()},
    }
    write(tmp_path / "train", tables)
    return tmp_path / "train"


def everything(folder):
    """The bytes of every file, by path in the folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def fork(function, *args):
    """Start it in a process that may be killed."""

    def target():
        # The threads that OpenMP has here are not there after a fork: it would wait for
        # them forever. And the lock of tqdm's classes is shared: killed with it, this
        # process would keep it forever.
        torch.set_num_threads(1)
        for bar in (tqdm, tqdm_asyncio):
            bar.set_lock(threading.RLock())
        function(*args)

    process = multiprocessing.get_context("fork").Process(target=target, daemon=True)
    process.start()
    return process


def in_child(function, *args):
    """Run it in a process that may be killed, and return the exit status."""
    process = fork(function, *args)
    process.join(60)
    return process.exitcode
