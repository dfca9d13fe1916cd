import torch

from espnet_ensemble.upstream.fingerprint import (
    FINGERPRINT_SIZE,
    fingerprint,
    to_hex,
    to_tensor,
)

EVERY_BYTE = bytes(range(256))


def test_fingerprint_sees_values_types_and_shapes():
    tensor = torch.arange(6.0)
    others = [tensor + 1e-6, tensor.view(2, 3), tensor.double(), tensor.flip(0)]
    prints = {fingerprint({"a": x}) for x in [tensor, *others]}
    assert len(prints) == 5
    assert all(len(p) == FINGERPRINT_SIZE for p in prints)


def test_fingerprint_counts_equal_tensors():
    one = torch.ones(2)
    assert fingerprint({"a": one}) != fingerprint({"a": one, "b": one})


def test_scalars_empty_and_half_precision_tensors():
    fingerprint(
        {"a": torch.tensor(1), "b": torch.empty(0), "c": torch.ones(2).bfloat16()}
    )


def test_tensor_survives_half_precision():
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        assert to_hex(to_tensor(EVERY_BYTE).to(dtype)) == EVERY_BYTE.hex()


def test_tensor_survives_averaging_as_espnet_does():
    tensor = to_tensor(EVERY_BYTE)
    for n in range(1, 51):
        total = tensor
        for _ in range(n - 1):
            total = total + tensor
        assert to_hex(total / n) == EVERY_BYTE.hex()
