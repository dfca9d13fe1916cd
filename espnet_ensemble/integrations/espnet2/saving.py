"""Checkpoints that are whole: ESPnet writes one over the last, and a kill leaves half of it."""

from types import ModuleType
from typing import Any

import wrapt

from espnet_ensemble.files import PathLike, atomic_write


class _WholeFiles(wrapt.ObjectProxy):
    """:mod:`torch`, with a ``save`` that replaces a file when all of it is there."""

    def save(self, obj: Any, f: PathLike, *args: Any, **kwargs: Any) -> None:
        with atomic_write(f) as part:
            self.__wrapped__.save(obj, part, *args, **kwargs)


def save_whole_files(module: ModuleType) -> None:
    """Let a module of ESPnet write checkpoints under temporary names first.

    Training that is killed while it writes then goes on from the checkpoint before, where
    ESPnet would not load what is left of the new one.

    Args:
        module: One that calls ``torch.save`` with a path.
    """
    module.torch = _WholeFiles(module.torch)  # type: ignore[attr-defined]
