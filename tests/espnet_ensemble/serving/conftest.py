"""Trained models."""

import pytest


@pytest.fixture(scope="session")
def experiments(tmp_path_factory, tiny_wavlm, tiny_hubert):
    """Folders of two models: one sure of itself, one trained without upstreams, too."""
    from trained_model import build_model

    folder = tmp_path_factory.mktemp("exp")
    found = [folder / "sure", folder / "trained_without"]
    options = [{"sharpness": 20.0}, {"member_dropout": 0.3}]
    for one, own in zip(found, options, strict=True):
        letters = ("<space>", "a", "b", "c")
        build_model(one, [tiny_wavlm, tiny_hubert], letters=letters, **own)
        # As recipes call it.
        (one / "valid.ave_2best.pth").rename(one / "valid.cer_ctc.ave.pth")
    return found


@pytest.fixture(scope="session")
def transcribers(experiments):
    from espnet_ensemble import pretrained

    return [pretrained(folder, device="cpu") for folder in experiments]
