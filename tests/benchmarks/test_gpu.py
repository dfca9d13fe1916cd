import subprocess
import sys

import pytest
from repository import REPOSITORY


@pytest.mark.slow
def test_measures_everything_in_small():
    # In a process of its own: it changes what torch and transformers do in all of it.
    script = REPOSITORY / "benchmarks" / "gpu.py"
    command = [sys.executable, str(script), "--device", "cpu", "--size", "tiny"]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    printed = done.stdout
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
