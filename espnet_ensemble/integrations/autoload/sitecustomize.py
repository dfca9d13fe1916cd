"""Loads the plugin while Python starts.

``espnet-ensemble-python`` puts this folder first in PYTHONPATH, and every process that
is started from there inherits it: ESPnet's launcher's, spawned training workers, data
loader workers. This is Python's own hook for the purpose (see the module ``site``).
"""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path


def _run_next_sitecustomize():
    """Run the one that this file hides, if the environment has its own."""
    here = Path(__file__).resolve().parent
    elsewhere = [path for path in sys.path if Path(path).resolve() != here]
    spec = PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_run_next_sitecustomize()

# Another interpreter can be started with the same environment, and be without it.
if importlib.util.find_spec("espnet_ensemble") is not None:
    import espnet_ensemble  # noqa: F401
