import pytest
import torch

from espnet_ensemble.upstream.fingerprint import (
    FINGERPRINT_SIZE,
    PROBE_SIZE,
    fingerprint,
    probe_difference,
    probe_signal,
    summarize,
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


def test_signal_of_the_probe_is_not_normalised_and_always_the_same():
    signal = probe_signal(16000)
    assert signal.shape == (1, 8000) and signal.dtype == torch.float32
    assert signal.mean() > 0.01 and signal.std() < 0.1
    expected = [0.0376405, 0.0240056, 0.0298070]
    assert signal[0, :3].tolist() == pytest.approx(expected, abs=1e-6)


def test_summaries_differ_as_what_they_are_of():
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(24, 32, generator=generator) for _ in range(3)]
    summary = summarize(states)
    assert summary.shape == (PROBE_SIZE,) and 0.5 < summary.square().sum() < 2
    for size in (0.02, 0.3):
        others = [h + size * torch.randn(24, 32, generator=generator) for h in states]
        difference = probe_difference(summarize(others), summary)
        assert float(difference.split()[0]) == pytest.approx(100 * size, rel=0.5)
    assert probe_difference(summarize([h + 1e-4 for h in states]), summary) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_summaries_survive_half_precision(dtype):
    summary = summarize([torch.randn(24, 32, generator=torch.Generator())])
    assert probe_difference(summary.to(dtype), summary) is None
