"""A recipe to start with, for a corpus of one's own: a folder with all that it needs."""

import os
import re
import shlex
from pathlib import Path

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, atomic_write
from espnet_ensemble.recipes.checkout import find_checkout, is_checkout

TEMPLATE = Path(__file__).parent / "template"
#: What nobody edits: one file for all recipes.
LINKS = ("asr.sh", "path.sh", "utils")
#: The configurations of run.sh, by the names that ESPnet's recipes have for them.
DEFAULTS = {
    "conf/train_asr.yaml": "train_asr_transformer2_ctc.yaml",
    "conf/decode_asr.yaml": "decode_asr_ctc.yaml",
}


def recipe_folder(name: str) -> Path:
    """Where a corpus's recipe belongs: in the checkout around the working directory.

    Args:
        name: The corpus's.

    Returns:
        ``egs2/<name>/asr1`` of the checkout or, outside of one, of the working directory.

    Raises:
        EnsembleError: If it is no name for a folder.
    """
    if not re.fullmatch(r"\w[\w.-]*", name) or name == "TEMPLATE":
        raise EnsembleError(
            f"expected a name of letters, digits, '_', '-' and '.', such as my_corpus; "
            f"found {name!r}"
        )
    try:
        root = find_checkout()
    except EnsembleError:
        root = Path.cwd()
    return root / "egs2" / name / "asr1"


def make_recipe(
    name: str,
    folder: PathLike,
    audio_dir: PathLike | None = None,
    transcripts: PathLike | None = None,
) -> None:
    """Make a recipe from the template.

    ``asr.sh``, ``path.sh`` and ``utils`` become links, as other recipes have them: to
    ``egs2/TEMPLATE`` where the folder is ``egs2/<corpus>/asr1`` of a checkout, to the
    installed package elsewhere. All else becomes the recipe's own.

    Args:
        name: The corpus's, for its README.
        folder: The recipe's. Its parents are made where they are missing.
        audio_dir: For ``db.sh``: the folder of the audio files; None: left open.
        transcripts: For ``db.sh``: the table; None: left empty.

    Raises:
        EnsembleError: If the folder is there already.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise EnsembleError(
            f"{folder}: is there already; give another name, or another --folder"
        )
    given = {
        "@NAME@": name,
        "@AUDIO_DIR@": _quote(audio_dir),
        "@TRANSCRIPTS@": _quote(transcripts),
    }
    links = _links_of(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as part:
        for path in sorted(TEMPLATE.rglob("*")):
            inside = path.relative_to(TEMPLATE)
            if path.is_file() and inside.parts[0] not in LINKS:
                _write(path, part / inside, given)
        for link in LINKS:
            (part / link).symlink_to(links / link)
        for name, target in DEFAULTS.items():
            (part / name).symlink_to(target)


def _links_of(folder: Path) -> Path:
    """The folder that a recipe's links point into, as seen from the recipe."""
    above = folder.absolute().parents
    if len(above) > 2 and above[1].name == "egs2" and is_checkout(above[2]):
        return Path("..", "..", "TEMPLATE", "asr1")
    return TEMPLATE.resolve()


def _quote(path: PathLike | None) -> str:
    return "" if path is None else shlex.quote(os.path.abspath(path))


def _write(source: Path, dest: Path, given: dict[str, str]) -> None:
    """Write a file of the template with what was given; a script can be executed."""
    text = source.read_text(encoding="utf-8")
    for mark, value in given.items():
        text = text.replace(mark, value)
    dest.parent.mkdir(parents=True, exist_ok=True)
    dest.write_text(text, encoding="utf-8")
    if text.startswith("#!"):
        dest.chmod(dest.stat().st_mode | 0o111)
