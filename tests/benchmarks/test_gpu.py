import logging
import sys

import pytest
from repository import REPOSITORY
from transformers.utils import logging as transformers_logging


@pytest.mark.slow
def test_measures_everything_in_small(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import gpu

    try:
        gpu.main(["--device", "cpu", "--size", "tiny"])
    finally:
        del sys.modules["gpu"], sys.modules["frontend"]
        logging.disable(logging.NOTSET)
        transformers_logging.enable_progress_bar()
    printed = capsys.readouterr().out
    for title in (
        "Matrix rate",
        "Features",
        "Training",
        "Extraction",
        "Greedy decoding",
    ):
        assert title in printed
    for way in (
        "ensemble, transformers",
        "bare transformers",
        "ensemble, S3PRL",
        "fused",
    ):
        for precision in ("float32", "TF32", "bfloat16"):
            row = f"| {precision:<11} | {way:<22} | 2 x 0.5 s |"
            assert row in printed, printed
    error = float(printed.partition("same weights: ")[2].split()[0])
    assert error < 1e-4
    assert printed.rstrip().endswith("Skipped: nothing")
