"""A small encoder of shorten, version 2: what no package offers.

T. Robinson, "SHORTEN: simple lossless and near-lossless waveform compression", 1994. A
block is predicted by a polynomial of order 0 to 3; what remains is written in a Rice code.
"""

import numpy as np

BLOCK, MEANS = 256, 4
_LITTLE_ENDIAN_16_BIT = 5
_QUIT, _BLOCKSIZE = 4, 5


def encode(samples: np.ndarray) -> bytes:
    """Compress int16 samples (samples,)."""
    bits = [_uint(_LITTLE_ENDIAN_16_BIT), _uint(1), _uint(BLOCK)]
    bits += [_uint(0), _uint(MEANS), _uint(0)]
    values = np.concatenate([np.zeros(3, np.int64), samples.astype(np.int64)])
    means = [0] * MEANS
    for start in range(3, len(values), BLOCK):
        size = min(BLOCK, len(values) - start)
        if size < BLOCK:
            bits += [_rice(_BLOCKSIZE, 2), _uint(size)]
        order, residuals = _predict(values[start - 3 : start + size], means)
        k = max(0, int(np.log2(np.abs(residuals).mean() + 1)))
        bits += [_rice(order, 2), _rice(k, 3)]
        # The sign is the last bit.
        folded = np.where(residuals < 0, -2 * residuals - 1, 2 * residuals)
        bits += [_rice(int(value), k + 1) for value in folded]
        means = [*means[1:], _mean(values[start : start + size])]
    text = "".join([*bits, _rice(_QUIT, 2)])
    text += "0" * (-len(text) % 32)
    return b"ajkg\x02" + int(text, 2).to_bytes(len(text) // 8, "big")


def _predict(values: np.ndarray, means: list[int]) -> tuple[int, np.ndarray]:
    """The best order and its residuals; the first three values are the history."""
    residuals = [values[3:] - _mean(np.array(means))]
    residuals += [np.diff(values, order)[3 - order :] for order in (1, 2, 3)]
    return min(enumerate(residuals), key=lambda pair: np.abs(pair[1]).sum())


def _mean(values: np.ndarray) -> int:
    """Rounded, and cut as C's integer division does it."""
    return int((len(values) // 2 + int(values.sum())) / len(values))


def _rice(value: int, k: int) -> str:
    return "0" * (value >> k) + "1" + (format(value % (1 << k), f"0{k}b") if k else "")


def _uint(value: int) -> str:
    k = value.bit_length()
    return _rice(k, 2) + _rice(value, k)
