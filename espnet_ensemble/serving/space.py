"""A Hugging Face Space around a model: app.py, a card and requirements.txt."""

import json
import shutil
from pathlib import Path

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, atomic_write, write_text
from espnet_ensemble.version import __version__

_APP = '''\
"""A page that transcribes speech. A Space runs this; `python app.py` runs it here."""

import os
from pathlib import Path

from espnet_ensemble.bin.serve import main

MODEL = {model}

if __name__ == "__main__":
    # A Space has one port, which its machine hands on.
    host = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"
    main([MODEL, "--host", host, "--port", os.environ.get("PORT", "7860")])
'''
_CARD = """\
---
title: {title}
emoji: 🎙️
colorFrom: blue
colorTo: indigo
sdk: gradio
python_version: "3.13"
app_file: app.py
pinned: false
{models}---

# {name}

Speech to text with {link}, an ensemble of self-supervised speech encoders that was trained
with ESPnet and ESPnet-Ensemble. Words are coloured by confidence; a click plays them. Uploads
are deleted as soon as they are transcribed.

`python app.py` runs the same page at http://127.0.0.1:7860, after `pip install -r
requirements.txt`. Programs can use it, too: `POST /v1/audio/transcriptions`, as OpenAI's API
has it.
"""


def write_space(
    model: PathLike, folder: PathLike, title: str | None = None
) -> list[Path]:
    """Write the files of a Space; what is there of the same names is replaced.

    Args:
        model: An archive, which is copied; or a model's name on the Hugging Face hub.
        folder: Where they go.
        title: The Space's; None: the model's name.

    Returns:
        The files.

    Raises:
        EnsembleError: If the model is a folder, or there is no such archive.

    Example:
        >>> for path in write_space("lab/wavlm_hubert", getfixture("tmp_path") / "space"):
        ...     print(path.name)
        app.py
        README.md
        requirements.txt
    """
    archive, folder = Path(model), Path(folder)
    is_archive = archive.is_file()
    if not is_archive and (archive.exists() or str(model).count("/") != 1):
        raise EnsembleError(
            f"{model}: expected an archive, as stage 14 makes it, or a model's name on the "
            "Hugging Face hub, such as lab/model"
        )
    name = archive.stem if is_archive else archive.name
    texts = {
        "app.py": _app(archive.name if is_archive else str(model), is_archive),
        "README.md": _card(str(model), name, title or name, is_archive),
        "requirements.txt": f"espnet-ensemble[serve]=={__version__}\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        write_text(folder / file, text)
    written = [folder / file for file in texts]
    if is_archive:
        written.append(folder / archive.name)
        if not (written[-1].exists() and archive.samefile(written[-1])):
            with atomic_write(written[-1]) as part:
                shutil.copyfile(archive, part)
    return written


def _app(model: str, is_archive: bool) -> str:
    if is_archive:
        return _APP.format(model=f"str(Path(__file__).parent / {json.dumps(model)})")
    return _APP.format(model=json.dumps(model)).replace(
        "from pathlib import Path\n", ""
    )


def _card(model: str, name: str, title: str, is_archive: bool) -> str:
    return _CARD.format(
        title=json.dumps(title, ensure_ascii=False),
        name=name,
        models="" if is_archive else f"models:\n- {model}\n",
        link=name if is_archive else f"[{name}](https://huggingface.co/{model})",
    )
