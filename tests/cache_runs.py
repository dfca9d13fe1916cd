"""Runs of the extraction in processes of their own, and what they leave."""

import multiprocessing
import threading

import torch
from tqdm import tqdm
from tqdm.asyncio import tqdm_asyncio


def everything(folder):
    """The bytes of every file, by path in the folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def strip(files, folder):
    """The same without the folder's name, which feats.scp has."""
    return {
        path: content.replace(bytes(folder), b"") for path, content in files.items()
    }


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
