"""The training loop that pre-training and fine-tuning share."""

import doctest

import numpy as np
import pytest
import torch

from espnet_ensemble.errors import EnsembleError

DEFAULTS = dict(
    num_steps=7,
    lr=0.1,
    warmup_steps=2,
    max_grad_norm=1.0,
    device="cpu",
    bfloat16=False,
    seed=0,
    log_interval=3,
    save_interval=2,
)


@pytest.fixture
def options(local):
    """Make training options: options(num_steps=3)."""
    return lambda **changed: local("training").TrainingOptions(**DEFAULTS | changed)


def make_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))


def loss_of(model):
    """A loss with randomness from torch's and from the step's own generator."""

    def compute(step, rng):
        batch = torch.from_numpy(rng.standard_normal((8, 4), dtype=np.float32))
        return (model(batch) - 1).square().mean(), {"number": float(step)}

    return compute


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_interrupted_training_ends_as_undisturbed(
    local, options, interrupt, tmp_path, stop
):
    train, runs = local("training").train, {}
    for name in ("whole", "cut"):
        folder, model = tmp_path / name, make_model()
        folder.mkdir()
        if name == "cut":
            args = (model, loss_of(model), options(), folder)
            interrupt(stop, lambda args=args: train(*args))
            model = make_model()
        steps = train(model, loss_of(model), options(), folder)
        runs[name] = [{**step, "seconds": 0} for step in steps], model.state_dict()
    assert runs["whole"][0] == runs["cut"][0]
    assert [step["number"] for step in runs["cut"][0]] == list(range(7))
    for key, weights in runs["whole"][1].items():
        assert torch.equal(weights, runs["cut"][1][key])
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == [
        "checkpoint.pt",
        "train_log.csv",
    ]


def test_loss_that_is_not_finite_ends_the_run(local, options, tmp_path):
    model = make_model()

    def compute(step, rng):
        return model(torch.full((1, 4), torch.inf)).sum(), {}

    with pytest.raises(EnsembleError, match="step 0: expected a finite loss, found"):
        local("training").train(model, compute, options(), tmp_path)


def test_gradients_are_clipped(local, options, tmp_path):
    moved = []
    for norm in (1e-9, 1.0):
        model = make_model()
        before = model[0].weight.detach().clone()
        chosen = options(num_steps=1, max_grad_norm=norm, save_interval=9)
        local("training").train(model, loss_of(model), chosen, tmp_path)
        moved.append((model[0].weight - before).abs().max().item())
    assert moved[0] < moved[1]


def test_examples_in_docstrings(local):
    results = doctest.testmod(local("training"))
    assert results.attempted and not results.failed
