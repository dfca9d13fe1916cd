import copy

import pytest
import torch
from torch.nn import GELU, Conv1d, GroupNorm, Sequential
from torch.utils._python_dispatch import TorchDispatchMode

from espnet_ensemble.upstream.padding import (
    ConvStack,
    LengthAwareGroupNorm,
    PaddingGuard,
)

CONVS = Sequential(Conv1d(1, 2, 10, 5), GELU(), Conv1d(2, 2, 3, 2), Conv1d(2, 2, 2, 2))


@pytest.mark.parametrize("samples", [*range(30, 80), 400, 401])
def test_num_frames_is_what_the_convolutions_give(samples):
    stack = ConvStack(CONVS)
    if samples < stack.receptive_field:
        expected = 0
    else:
        expected = CONVS(torch.zeros(1, 1, samples)).size(-1)
    assert stack.num_frames(torch.tensor([samples])).tolist() == [expected]


def test_hop_length_and_receptive_field_of_wav2vec2():
    stack = ConvStack(
        Sequential(
            Conv1d(1, 1, 10, 5),
            *(Conv1d(1, 1, 3, 2) for _ in range(4)),
            *(Conv1d(1, 1, 2, 2) for _ in range(2)),
        )
    )
    assert (stack.hop_length, stack.receptive_field) == (320, 400)


@pytest.fixture
def norm():
    torch.manual_seed(0)
    norm = GroupNorm(6, 6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


LENGTHS = torch.tensor([50, 49, 7, 12])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad", [False, True])
def test_group_norm_equals_loop_over_utterances(dtype, grad, norm):
    aware = LengthAwareGroupNorm(copy.deepcopy(norm), lambda: LENGTHS).to(dtype)
    norm = norm.to(dtype)
    x = (5 + 3 * torch.randn(4, 6, 50)).to(dtype)

    with torch.set_grad_enabled(grad):
        out = aware(x.clone())

    assert out.dtype == dtype
    for item, frames in enumerate(LENGTHS.tolist()):
        alone = norm(x[item : item + 1, :, :frames])
        tolerance = 1e-5 if dtype is torch.float32 else 2e-2
        torch.testing.assert_close(
            out[item, :, :frames], alone[0], rtol=tolerance, atol=tolerance
        )


def test_gradients_of_group_norm_equal_loop_over_utterances(norm):
    aware = LengthAwareGroupNorm(copy.deepcopy(norm), lambda: LENGTHS)
    x = torch.randn(4, 6, 50)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    for item, frames in enumerate(LENGTHS.tolist()):
        norm(theirs[item : item + 1, :, :frames]).pow(3).sum().backward()
    padding = torch.arange(50) >= LENGTHS[:, None, None]
    aware(ours).masked_fill(padding, 0).pow(3).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        aware.weight.grad, norm.weight.grad, rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(aware.bias.grad, norm.bias.grad, rtol=1e-3, atol=1e-3)


def test_group_norm_without_padding_is_torch_s(norm):
    x = torch.randn(2, 6, 9)
    assert torch.equal(LengthAwareGroupNorm(norm, lambda: None)(x), norm(x))


def test_groups_of_several_channels_are_refused():
    with pytest.raises(ValueError, match="got 2 groups of 6 channels"):
        LengthAwareGroupNorm(GroupNorm(2, 6), lambda: None)


def test_guard_keeps_names_and_works_on_a_copy():
    torch.manual_seed(0)
    model = Sequential(
        Sequential(Conv1d(1, 4, 3), GroupNorm(4, 4)), Conv1d(4, 4, 3, padding=1)
    )
    names = list(model.state_dict())
    model.guard = PaddingGuard(model[0], model[1])
    assert list(model.state_dict()) == names

    clone = copy.deepcopy(model)
    wavs = torch.randn(1, 1, 12)
    padded = torch.cat([wavs[..., :7], torch.zeros(1, 1, 5)], dim=-1)
    with clone.guard.batch(padded.flatten(0, 1), torch.tensor([7])):
        out = clone(padded)
    torch.testing.assert_close(out[..., :5], model(wavs[..., :7]))
    # Outside of the context, nothing is padding.
    torch.testing.assert_close(clone(wavs), model(wavs))


class Operators(TorchDispatchMode):
    """Which operators run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("num_frames", [LENGTHS, None])
def test_group_norm_is_exact_under_autocast_and_tf32(num_frames, grad, norm):
    aware = LengthAwareGroupNorm(norm, lambda: num_frames)
    x = 5 + 3 * torch.randn(4, 6, 50)
    with torch.set_grad_enabled(grad):
        expected = aware(x.clone())
        with torch.autocast("cpu", torch.bfloat16), Operators() as operators:
            found = aware(x.clone())
    assert torch.equal(found, expected)
    # TF32 shortens the digits of what matrix products take.
    assert not operators.names & {"mm", "bmm", "addmm", "baddbmm", "matmul"}
