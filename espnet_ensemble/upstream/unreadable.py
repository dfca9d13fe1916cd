"""Files of weights that are no weights, or not whole: one message for all loaders."""

import pickle

from safetensors import SafetensorError

from espnet_ensemble.upstream.errors import UpstreamError

#: What reading such a file raises.
UNREADABLE = (EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError)


def unreadable(name: str, error: Exception) -> UpstreamError:
    """Say which upstream's weights cannot be read, and why.

    Args:
        name: Name of the upstream.
        error: One of :data:`UNREADABLE`.
    """
    # What torch goes on with is advice to load the file unsafely.
    reason = str(error).partition("\n")[0].partition(". In PyTorch")[0]
    return UpstreamError(
        f"upstream {name!r}: its weights cannot be read: {reason}\nExpected weights alone, "
        "whole: not a file that was cut off, a pointer of git-lfs, or one that holds code, "
        "which is never run."
    )
