"""Recipes as a user has them: in a clone, without what runs have made."""

import os
import subprocess
import sys
from pathlib import Path

_MADE = ("data", "downloads", "dump", "exp")


def clone_recipe(repository: Path, root: Path, corpus: str) -> Path:
    """Link what is committed of a recipe, and what it needs, into a folder.

    What is there already stays.

    Args:
        repository: A checkout with the recipe.
        root: The folder.
        corpus: The recipe's corpus.

    Returns:
        The recipe's folder, ``root/egs2/<corpus>/asr1``.
    """
    recipe = Path("egs2", corpus, "asr1")
    paths = [Path("local"), Path("egs2/TEMPLATE")]
    for path in (repository / recipe).iterdir():
        if path.name not in _MADE:
            paths.append(recipe / path.name)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if not (root / path).exists():
            (root / path).symlink_to(repository / path)
    return root / recipe


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
