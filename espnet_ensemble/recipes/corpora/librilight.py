"""Libri-Light's 10 hours for limited supervision: a selection of LibriSpeech.

https://github.com/facebookresearch/libri-light; LibriSpeech's licence is CC BY 4.0, the
selection states none of its own. 24 readers of LibriSpeech's training parts, in
LibriSpeech's layout below each of these folders::

    librispeech_finetuning/1h/{0,1,2,3,4,5}/{clean,other}   6 times 10 minutes
    librispeech_finetuning/9h/{clean,other}                 the rest of the same readers
    librispeech_finetuning/phones                           not used here

It has no sets to evaluate on: those are LibriSpeech's.
"""

from pathlib import Path

from espnet_ensemble.data import datadir
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.files import PathLike
from espnet_ensemble.recipes.corpora.data_dir import DataDir
from espnet_ensemble.recipes.corpora.download import download_folder
from espnet_ensemble.recipes.corpora.librispeech import (
    Selection,
    prepare_selections,
    select_parts,
)

URL = "https://dl.fbaipublicfiles.com/librilight/data"
NAME = "librispeech_finetuning"
#: Its publisher gives none; this is what torchaudio's LibriLightLimited expects.
CHECKSUM = "sha256:5d1efdc777b548194d7e09ba89126e2188026df9fd57aa57eb14408d2b2342af"
FOLDERS = tuple(
    f"{part}/{kind}"
    for part in (*(f"1h/{fold}" for fold in range(6)), "9h")
    for kind in ("clean", "other")
)
NUM_UTTS = 2763
#: LibriSpeech's sets to evaluate on.
EVALUATION = ("dev_clean", "dev_other", "test_clean", "test_other")


def prepare_librilight(
    corpus_dir: PathLike,
    output_dir: PathLike,
    librispeech_dir: PathLike,
    nj: int = 1,
    partial: bool = False,
) -> dict[str, DataDir]:
    """Make ``train_10h``, its hour ``train_1h``, and LibriSpeech's sets to evaluate on.

    Args:
        corpus_dir: The folder ``librispeech_finetuning``.
        output_dir: The data directories' parent.
        librispeech_dir: The folder ``LibriSpeech``.
        nj: Number of files read at a time.
        partial: Whether to take less than the whole corpora.

    Returns:
        What was made of each set. ``dev``, not among them, joins the two dev sets;
        ``train_1h``, neither, is a part of ``train_10h``.

    Raises:
        EnsembleError: If an utterance lacks text or audio, a file is damaged, or utterances
            are missing. It names the path.
    """
    selections = {
        "train_10h": Selection(Path(corpus_dir), FOLDERS, NUM_UTTS),
        **select_parts(librispeech_dir, EVALUATION),
    }
    made = prepare_selections(selections, output_dir, nj, partial)
    train = made["train_10h"].path
    hour = [
        utt_id
        for utt_id, flac in read_table(train / "wav.scp").items()
        if Path(flac).relative_to(corpus_dir).parts[0] == "1h"
    ]
    datadir.subset(train, Path(output_dir, "train_1h"), hour)
    return made


def download_librilight(corpus_dir: PathLike, url: str = URL) -> None:
    """Download the 10 hours, if they are not there yet, and unpack them.

    Args:
        corpus_dir: The folder ``librispeech_finetuning``. The archive is kept beside it
            until it is unpacked.
        url: The folder of the archive.

    Raises:
        EnsembleError: If that fails.
    """
    corpus_dir = Path(corpus_dir)
    archive = f"{url}/{NAME}.tgz"
    download_folder(archive, CHECKSUM, corpus_dir.parent, corpus_dir.name)
