"""Runs the examples in the docstrings."""

import doctest
import importlib
import pkgutil

import espnet2.tasks.asr  # noqa: F401, it prints while it is imported
import pytest
import torch

import espnet_ensemble

MODULES = ["espnet_ensemble"] + [
    module.name
    for module in pkgutil.walk_packages(espnet_ensemble.__path__, "espnet_ensemble.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, request):
    result = doctest.testmod(
        _import(name),
        extraglobs={"getfixture": request.getfixturevalue, "torch": torch},
        optionflags=doctest.NORMALIZE_WHITESPACE,
    )
    assert result.failed == 0


def _import(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in ("starlette", "uvicorn"):
            pytest.skip(f"{error.name} is not installed: it comes with the extra serve")
        if error.name.split(".")[0] in ("espnet3", "lightning", "hydra"):
            pytest.skip(f"{error.name} is not installed: ESPnet 202611 has ESPnet3")
        raise
