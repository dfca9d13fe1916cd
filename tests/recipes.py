"""Recipes as a user has them: in a clone, without what runs have made."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
_MADE = ("data", "downloads", "dump", "exp")


def clone_recipe(root: Path, corpus: str) -> Path:
    """Link what is committed of a recipe, and what it needs, into a folder.

    Returns:
        The recipe's folder: ``root/egs2/<corpus>/asr1``.
    """
    (root / "local").symlink_to(REPOSITORY / "local")
    folder = root / "egs2" / corpus / "asr1"
    folder.mkdir(parents=True)
    (root / "egs2" / "TEMPLATE").symlink_to(REPOSITORY / "egs2" / "TEMPLATE")
    for path in (REPOSITORY / "egs2" / corpus / "asr1").iterdir():
        if path.name not in _MADE:
            (folder / path.name).symlink_to(path)
    return folder


def run_script(folder: Path, *command: str) -> subprocess.CompletedProcess:
    """Run a script of a recipe with this Python; its standard error is in its output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
