"""Counting how often the host waits for the device, without one.

A GPU works while the host goes on, until the host asks for a number that is there: a length,
whether anything is padded, whether all is finite. Each such question lets the GPU run dry.
"""

import linecache
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map_only

#: What tensors on the pretended device say where they are: a device that every build has.
DEVICE = torch.device("meta")

_aten = torch.ops.aten
# Their results have as many items as the values say.
_SIZED_BY_VALUES = {
    _aten.nonzero,
    _aten.masked_select,
    _aten._unique2,
    _aten.unique_dim,
    _aten.unique_consecutive,
    _aten.repeat_interleave,
}
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
_COPIES = {_aten.copy_, _aten.copy, _aten._copy_from}


@dataclass(frozen=True)
class Wait:
    """A place where the host waits.

    Attributes:
        what: torch's operator.
        file: The file that calls it: the innermost one that is not torch's.
        line: What it says there.
    """

    what: str
    file: str
    line: str

    def __str__(self) -> str:
        return f"{self.file}: {self.line} ({self.what})"


class OnDevice(Tensor):
    """A tensor on the pretended device; its values are in the host's memory."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor):
        made = Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=DEVICE,
        )
        made.host = host
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.host!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[override]
        return _run(func, args, kwargs or {}, lambda what: None)


class WaitCounter(TorchFunctionMode):
    """Pretends that :data:`DEVICE` is a GPU, and notes where the host waits for it.

    Modules and tensors are brought there with ``.to(DEVICE)``. What would fail on a GPU
    fails here: tensors of two devices in one operator.

    What counts: reading a value, copies between host and device unless they say
    ``non_blocking=True``, and operators whose result has a size that depends on values.

    Attributes:
        waits: In the order in which they came.

    Example:
        >>> with WaitCounter() as counter:
        ...     total = torch.arange(3).to(DEVICE, non_blocking=True).sum()
        ...     len(counter.waits), bool(total > 2), len(counter.waits)
        (0, True, 1)
    """

    def __init__(self):
        super().__init__()
        self.waits: list[Wait] = []
        self._dispatch = _Dispatch(self._note)

    def __enter__(self):
        super().__enter__()
        self._dispatch.__enter__()
        return self

    def __exit__(self, *exception):
        self._dispatch.__exit__(*exception)
        super().__exit__(*exception)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        made = func in (torch.tensor, torch.as_tensor, torch.asarray)
        if made and kwargs.get("device") is not None:
            # torch itself would leave the values out, for a device without memory.
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is Tensor.tolist:  # torch has none for subclasses
            return args[0].cpu().tolist()
        return func(*args, **kwargs)

    def _note(self, what: str) -> None:
        frame, torch_folder = sys._getframe(1), str(Path(torch.__file__).parent)
        while frame.f_back is not None and (
            frame.f_code.co_filename.startswith((torch_folder, __file__, "<"))
        ):
            frame = frame.f_back
        path = frame.f_code.co_filename
        line = linecache.getline(path, frame.f_lineno).strip()
        self.waits.append(Wait(what, path, line))


class _Dispatch(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # skipping it takes the seconds of importing it

    def __init__(self, note: Callable[[str], None]):
        super().__init__()
        self._note = note

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, self._note)


def _run(func: Any, args: tuple, kwargs: dict, note: Callable[[str], None]) -> Any:
    """Run an operator on the values, and give its results the device that they have."""
    given = _tensors((args, kwargs))
    there = [x for x in given if isinstance(x, OnDevice)]
    asked = kwargs.get("device")
    packet = func.overloadpacket
    if not there and (asked is None or torch.device(asked) != DEVICE):
        return func(*args, **kwargs)
    blocking = not (kwargs.get("non_blocking") or any(x is True for x in args))
    goes_there = bool(there)
    if packet is _aten._to_copy and asked is not None:
        goes_there = torch.device(asked) == DEVICE
        if blocking and goes_there != bool(there):
            note(packet.__name__)
    elif packet in _COPIES:
        if blocking and len(there) == 1 and len(given) == 2 and given[1].dim():
            note(packet.__name__)
        elif blocking and len(there) == 1 and given[1] is there[0]:
            note(packet.__name__)
        goes_there = given[0] is there[0]
    elif packet in _INDEXING:
        _check_index(given, args, note, packet.__name__)
    elif packet in _SIZED_BY_VALUES or packet in (
        _aten._local_scalar_dense,
        _aten.equal,
    ):
        note(packet.__name__)
    elif there:
        apart = [x for x in given if not isinstance(x, OnDevice) and x.dim()]
        if apart:
            raise RuntimeError(
                f"{func}: expected all tensors on one device, found one of shape "
                f"{tuple(apart[0].shape)} in the host's memory"
            )
    else:
        goes_there = True
    hosts, options = tree_map_only(OnDevice, lambda x: x.host, (args, dict(kwargs)))
    if asked is not None:
        options["device"] = torch.device("cpu")
        options.pop("pin_memory", None)
    found = func(*hosts, **options)
    if not goes_there:
        return found
    found = tree_map_only(Tensor, OnDevice, found)
    return return_and_correct_aliasing(func, args, kwargs, found)


def _check_index(given, args, note, name) -> None:
    """Masks of several values have to be counted; indices may come from the host."""
    indices = [x for x in args[1] if x is not None]
    values = args[2] if len(args) > 2 else None
    fills = values is not None and values.numel() == 1
    if any(x.dtype == torch.bool for x in indices) and not fills:
        note(name)
    elif isinstance(given[0], OnDevice) and any(
        not isinstance(x, OnDevice) for x in indices
    ):
        note(name)


def _tensors(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, tree)
    return found
