#!/usr/bin/env python3
"""Libri-Light's 10 hours for limited supervision, and LibriSpeech's sets to evaluate on.

https://github.com/facebookresearch/libri-light: 24 readers of LibriSpeech's training
parts, in LibriSpeech's layout below each of these folders::

    librispeech_finetuning/1h/{0,1,2,3,4,5}/{clean,other}   6 times 10 minutes
    librispeech_finetuning/9h/{clean,other}                 the rest of the same readers
    librispeech_finetuning/phones                           not used here

``train_10h`` is all of them; the other data directories are LibriSpeech's.
"""

import argparse
from pathlib import Path

from espnet_ensemble.data.tables import DataError
from espnet_ensemble.recipes.corpora.download import DownloadError, download, unpack
from espnet_ensemble.recipes.corpora.librispeech import (
    DOWNLOADS,
    PARTS,
    Source,
    add_options,
    download_librispeech,
    find_corpus,
    librispeech_sources,
    prepare,
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
NUM_UTTERANCES = 2763
EVALUATION = ("dev_clean", "dev_other", "test_clean", "test_other")


def download_librilight(corpus_dir: Path, url: str) -> None:
    """Download the 10 hours, if they are not there yet, and unpack them.

    Args:
        corpus_dir: The folder ``librispeech_finetuning``.
        url: Where the archive is.

    Raises:
        DownloadError: If that fails.
    """
    if not corpus_dir.is_dir():
        archive = corpus_dir.parent / f"{NAME}.tgz"
        download(f"{url}/{archive.name}", archive, CHECKSUM)
        unpack(archive, corpus_dir.parent, corpus_dir.name)
        archive.unlink()


def get_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description="Make the recipe's data directories, after getting the corpora if "
        "asked for. A download that was cut short goes on where it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--librilight",
        default="",
        metavar="DIR",
        help=f"the folder {NAME}, or '{DOWNLOADS}' to get it",
    )
    parser.add_argument("--librilight_url", default=URL, help="where its archive is")
    add_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make them."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    parts = [PARTS[name].name for name in EVALUATION]
    try:
        librilight = find_corpus("--librilight", args.librilight, NAME, FOLDERS)
        librispeech = find_corpus(
            "--librispeech", args.librispeech, "LibriSpeech", parts
        )
        if args.librilight == DOWNLOADS:
            download_librilight(librilight, args.librilight_url)
        if args.librispeech == DOWNLOADS:
            download_librispeech(librispeech, EVALUATION, args.librispeech_url)
        sources = {
            "train_10h": Source(librilight, FOLDERS, NUM_UTTERANCES),
            **librispeech_sources(librispeech, EVALUATION),
        }
        prepare(sources, Path(args.output_dir), args.nj, args.partial)
    except (DataError, DownloadError) as error:
        parser.exit(1, f"prepare_librilight_10h: {error}\n")


if __name__ == "__main__":
    main()
