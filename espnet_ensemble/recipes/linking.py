"""Our recipes in a checkout of ESPnet, by links: they run there with its own ``asr.sh``."""

import os
from collections.abc import Iterator
from pathlib import Path

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike

#: What a linked recipe is called, beside ESPnet's own ``asr1`` of the same corpus.
LINKED = "asr1_ensemble"
#: What it takes from ESPnet's template.
_OF_ESPNET = ("cmd.sh", "path.sh", "pyscripts", "scripts", "steps", "utils")
#: What it has from a run; git ignores it, here and in ESPnet.
_OF_RUNS = ("data", "downloads", "dump", "exp")


def link_recipes(espnet_root: PathLike, root: PathLike) -> list[Path]:
    """Place our recipes in a checkout of ESPnet.

    ``egs2/<corpus>/asr1`` of ours becomes ``egs2/<corpus>/asr1_ensemble`` there: links to the
    recipe's files, and to ESPnet's template. Links that are there are renewed; files are left as
    they are, such as a ``cmd.sh`` for the cluster in place of the link.

    Args:
        espnet_root: The checkout of ESPnet.
        root: Ours.

    Returns:
        The recipes' folders.

    Raises:
        EnsembleError: If it is no checkout of ESPnet.
    """
    folders = []
    for recipe, folder in _recipes(Path(espnet_root), Path(root)):
        for name, target in _links(recipe, Path(root)):
            _link(folder / name, target)
        folders.append(folder)
    return folders


def unlink_recipes(espnet_root: PathLike, root: PathLike) -> dict[Path, list[str]]:
    """Take our recipes out of a checkout of ESPnet.

    Args:
        espnet_root: The checkout of ESPnet.
        root: Ours.

    Returns:
        The recipes' folders, with what is left in them as it is no link of ours, such as ``exp``.

    Raises:
        EnsembleError: If it is no checkout of ESPnet.
    """
    left = {}
    for recipe, folder in _recipes(Path(espnet_root), Path(root)):
        if not folder.is_dir():
            continue
        for name, _ in _links(recipe, Path(root)):
            if (folder / name).is_symlink():
                (folder / name).unlink()
        for path in (folder / "local", folder, folder.parent):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        left[folder] = sorted(os.listdir(folder)) if folder.is_dir() else []
    return left


def _recipes(espnet_root: Path, root: Path) -> Iterator[tuple[Path, Path]]:
    """Each recipe of ours, and its folder in ESPnet's checkout."""
    if not (espnet_root / "egs2" / "TEMPLATE" / "asr1" / "asr.sh").is_file():
        raise EnsembleError(
            f"{espnet_root}: expected a checkout of ESPnet, found no "
            "egs2/TEMPLATE/asr1/asr.sh; git clone https://github.com/espnet/espnet makes one"
        )
    if espnet_root.resolve() == root.resolve():
        raise EnsembleError(f"{espnet_root}: expected ESPnet's checkout, found ours")
    for script in sorted(root.glob("egs2/*/asr1/run.sh")):
        corpus = script.parent.parent.name
        yield script.parent.resolve(), espnet_root / "egs2" / corpus / LINKED


def _links(recipe: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Names in a linked recipe, and what they point to."""
    template = os.path.join("..", "..", "TEMPLATE", "asr1")
    for name in _OF_ESPNET:
        yield name, os.path.join(template, name)
    # An empty file, which ESPnet's path.sh looks for.
    yield "local/path.sh", os.path.join("..", template, "local", "path.sh")
    ours = root.resolve() / "egs2" / "TEMPLATE" / "asr1" / "asr_of_espnet.sh"
    yield "asr.sh", str(ours)
    for path in sorted(recipe.iterdir()):
        if path.name == "local":
            for script in sorted(path.iterdir()):
                yield f"local/{script.name}", str(script)
        elif path.name not in (*_OF_ESPNET, *_OF_RUNS, "asr.sh"):
            yield path.name, str(path)


def _link(path: Path, target: str) -> None:
    if path.is_symlink():
        path.unlink()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
