"""What an upstream is recognised by: a hash of its weights, a probe of its features."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

FINGERPRINT_SIZE = hashlib.sha256().digest_size
#: Numbers in a summary of hidden states.
PROBE_SIZE = 16
#: How much two probes of the same features may differ, relative to their size. Devices and
#: versions of libraries stay below 0.003 (with TF32), a checkpoint that was cast to
#: bfloat16 below 0.0025; other activations, norms or normalisation make 0.012 and more.
PROBE_TOLERANCE = 0.005


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


def probe_signal(fs: int) -> Tensor:
    """Half a second of noise, with neither zero mean nor unit variance, and fading in.

    It is the same for all versions of the libraries, as ``numpy.random.RandomState`` is.

    Args:
        fs: Sample rate, in Hz.

    Returns:
        (1, samples)
    """
    num_samples = fs // 2
    noise = np.random.RandomState(0).standard_normal(num_samples)
    noise *= np.linspace(0.01, 0.09, num_samples)
    return torch.from_numpy(noise + 0.02).float().unsqueeze(0)


def summarize(hidden_states: Sequence[Tensor]) -> Tensor:
    """Summarise hidden states: relative differences between summaries are those of states.

    It is a random projection: each number is the sum of a part of the values, with random
    signs.

    Args:
        hidden_states: Each (frames, features).

    Returns:
        float32, (:data:`PROBE_SIZE`,), of the size of the values.
    """
    values = torch.cat([h.flatten().double().cpu() for h in hidden_states])
    signs = np.random.RandomState(1).randint(0, 2, len(values)) * 2.0 - 1
    signed = values * torch.from_numpy(signs)
    padded = torch.nn.functional.pad(signed, (0, -len(values) % PROBE_SIZE))
    return (padded.view(PROBE_SIZE, -1).sum(dim=1) / len(values) ** 0.5).float()


def probe_difference(probe: Tensor, expected: Tensor) -> str | None:
    """Compare what :func:`summarize` gave for the same signal.

    Returns:
        How much the features differ, such as "12 %"; None if they are the same.

    Example:
        >>> probe_difference(torch.tensor([1.0, 1.1]), torch.tensor([1.0, 1.0]))
        '7.1 %'
        >>> probe_difference(torch.tensor([1.0, 1.001]), torch.tensor([1.0, 1.0]))
    """
    probe, expected = probe.double().cpu(), expected.double().cpu()
    difference = float((probe - expected).norm() / expected.norm())
    return f"{100 * difference:.2g} %" if difference > PROBE_TOLERANCE else None
