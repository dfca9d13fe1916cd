import re
import subprocess
import sys

import pytest
from repository import REPOSITORY

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.extras import import_extra
from espnet_ensemble.feature_cache.dask_cluster import _client

PYPROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
CALL = r'import_extra\("([\w.]+)", "(\w+)"(?:, package="([\w-]+)")?\)'
CALLS = {
    call
    for path in (REPOSITORY / "espnet_ensemble").rglob("*.py")
    for call in re.findall(CALL, path.read_text(encoding="utf-8"))
} - {("nothing", "dask", "")}


def test_installed_package():
    assert import_extra("os.path", "dask").join("a", "b") == "a/b"


@pytest.mark.parametrize("name,extra,package", sorted(CALLS))
def test_what_is_advised_installs_the_package(name, extra, package):
    (packages,) = re.findall(rf"^{extra} = \[([^]]+)\]", PYPROJECT, re.MULTILINE)
    package = package or name.partition(".")[0].replace("_", "-")
    assert re.search(rf'"{package}\b', packages)


def test_advice_needs_no_entry_in_an_index():
    """Nobody finds the plugin itself in one."""
    with pytest.raises(
        EnsembleError, match=r"no_such is not .*'\.\[dask\]'` in .* install no-such`"
    ):
        import_extra("no_such.module", "dask")
    files = subprocess.run(
        ["git", "grep", "-l", "-F", "espnet-ensemble["],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    here = "tests/espnet_ensemble/test_extras.py"
    # A Space has nothing but an index to install from.
    space = {
        "espnet_ensemble/serving/space.py",
        "tests/espnet_ensemble/serving/test_space.py",
    }
    assert set(files) <= {"pyproject.toml", here, *space}


@pytest.mark.parametrize("module", ["distributed", "dask_jobqueue"])
def test_dask_is_missed_by_its_name(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    package = module.replace("_", "-")
    with pytest.raises(EnsembleError, match=f"{module} is not .* install {package}`"):
        with _client("slurm", 1, ["sbatch"]):
            raise AssertionError
