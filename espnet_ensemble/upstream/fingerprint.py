"""A fingerprint of a model's weights."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

FINGERPRINT_SIZE = hashlib.sha256().digest_size


def fingerprint(state_dict: Mapping[str, Tensor]) -> bytes:
    """Hash weights: equal for equal tensors, whatever their names and order.

    Names are left out because libraries change them (the weight norm of the positional
    convolution has been called ``weight_g`` and ``parametrizations.weight.original0``)
    while the weights stay what they were.

    Args:
        state_dict: The weights, in the type that they are stored in.

    Returns:
        32 bytes (SHA-256).

    Example:
        >>> one, two = torch.ones(2), torch.zeros(3)
        >>> fingerprint({"a": one, "b": two}) == fingerprint({"c": two, "d": one})
        True
        >>> fingerprint({"a": one}) == fingerprint({"a": two})
        False
    """
    digests = sorted(_digest(tensor) for tensor in state_dict.values())
    return hashlib.sha256(b"".join(digests)).digest()


def _digest(tensor: Tensor) -> bytes:
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    values = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(values.view(torch.uint8).numpy().data)
    return digest.digest()


def to_tensor(value: bytes) -> Tensor:
    """Represent a fingerprint as a tensor that survives what is done to checkpoints.

    Its bytes become floating-point numbers from 0 to 255: exact in float16 and bfloat16,
    and so is the average of several equal ones, which is what ESPnet's
    ``average_nbest_models`` computes (an integer tensor it would add up).

    Returns:
        float32, (32,)
    """
    return torch.tensor(list(value), dtype=torch.float32)


def to_hex(tensor: Tensor) -> str:
    """The hexadecimal form of what :func:`to_tensor` gave, for messages.

    Example:
        >>> to_hex(to_tensor(bytes([0, 255])))
        '00ff'
    """
    return bytes(round(x) for x in tensor.float().tolist()).hex()
