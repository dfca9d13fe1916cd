#!/usr/bin/env python3
"""LibriSpeech: English audiobooks, read by volunteers, in 16 kHz FLAC.

https://www.openslr.org/12, licence CC BY 4.0. Layout::

    LibriSpeech/dev-clean/84/121123/84-121123-0000.flac   reader, chapter, number
    LibriSpeech/dev-clean/84/121123/84-121123.trans.txt   texts of the chapter, upper case

Makes Kaldi-style data directories of some of its parts. As in Kaldi's and ESPnet's
recipes, an utterance is called ``84-121123-0000``, and its speaker ``84-121123``: each
chapter of a reader counts as one. Where both dev parts are asked for, ``dev`` joins them.
"""

import argparse
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import (
    NamedTuple,
)

import soundfile
from lhotse import recipes
from tqdm import tqdm

from espnet_ensemble.data.datadir import combine, write
from espnet_ensemble.data.tables import DataError, Tables, read_table
from espnet_ensemble.recipes.corpora.download import DownloadError, download, unpack

URL = "https://www.openslr.org/resources/12"
#: As a corpus's folder: get it.
DOWNLOADS = "downloads"


class Part(NamedTuple):
    """A part of LibriSpeech.

    Attributes:
        name: Its name, which is that of its folder and of its archive.
        checksum: Of its archive, as OpenSLR's ``md5sum.txt`` has it.
        num_utterances: What it has when it is complete.
    """

    name: str
    checksum: str
    num_utterances: int


#: By the name of the data directory.
PARTS = {
    "train_clean_100": Part(
        "train-clean-100", "md5:2a93770f6d5c6c964bc36631d331a522", 28539
    ),
    "dev_clean": Part("dev-clean", "md5:42e2234ba48799c1f50f24a7926300a1", 2703),
    "dev_other": Part("dev-other", "md5:c8d0bcc9cca99d4f8b62fcc847357931", 2864),
    "test_clean": Part("test-clean", "md5:32fa31d27d2e1cad72775fee3f4849a9", 2620),
    "test_other": Part("test-other", "md5:fb5a50374b501bb3bac4815ee91d3135", 2939),
}


class Source(NamedTuple):
    """What a data directory is made of.

    Attributes:
        corpus_dir: A corpus in LibriSpeech's layout.
        folders: Its folders that hold the readers' folders.
        num_utterances: What they have when they are complete.
    """

    corpus_dir: Path
    folders: tuple[str, ...]
    num_utterances: int


def librispeech_sources(corpus_dir: Path, names: Collection[str]) -> dict[str, Source]:
    """What data directories of LibriSpeech are made of.

    Example:
        >>> librispeech_sources(Path("LibriSpeech"), ["dev_clean"])["dev_clean"].folders
        ('dev-clean',)
    """
    parts = {name: PARTS[name] for name in names}
    return {
        name: Source(corpus_dir, (part.name,), part.num_utterances)
        for name, part in parts.items()
    }


def find_corpus(option: str, value: str, name: str, folders: Sequence[str]) -> Path:
    """Where a corpus is, or will be after its download.

    Args:
        option: The option that was used, for messages.
        value: Its value: the corpus's folder, or "downloads".
        name: The name of the corpus's folder.
        folders: What must be in a folder that is given.

    Raises:
        DataError: If it is not.
    """
    if not value:
        raise DataError(
            f"{option}: expected the folder {name}, or '{DOWNLOADS}' to get it, found "
            "nothing: set it in db.sh"
        )
    if value == DOWNLOADS:
        return Path(DOWNLOADS, name)
    corpus_dir = Path(value)
    missing = [folder for folder in folders if not (corpus_dir / folder).is_dir()]
    if missing:
        raise DataError(
            f"{corpus_dir / missing[0]}: expected this folder, found none"
            f"{_nearby(corpus_dir, missing[0])}"
        )
    return corpus_dir


def download_librispeech(corpus_dir: Path, names: Collection[str], url: str) -> None:
    """Download the parts that are not there yet, and unpack them.

    Args:
        corpus_dir: The folder ``LibriSpeech``. Archives are kept beside it until they are
            unpacked.
        names: Of :data:`PARTS`.
        url: Where the archives are.

    Raises:
        DownloadError: If that fails.
    """
    for part in (PARTS[name] for name in names):
        if not (corpus_dir / part.name).is_dir():
            archive = corpus_dir.parent / f"{part.name}.tar.gz"
            download(f"{url}/{archive.name}", archive, part.checksum)
            unpack(archive, corpus_dir.parent, f"{corpus_dir.name}/{part.name}")
            archive.unlink()


def prepare(
    sources: Mapping[str, Source], output_dir: Path, nj: int = 1, partial: bool = False
) -> None:
    """Make data directories, after having checked all that they are made of.

    Args:
        sources: By the name of the data directory.
        output_dir: Where the data directories go.
        nj: Files read at a time.
        partial: Whether to take less than the whole.

    Raises:
        DataError: If an utterance lacks text or audio, a file is damaged, or utterances
            are missing. It names the path.
    """
    audio = [path for source in sources.values() for path in check(source, partial)]
    check_audio(audio, nj)
    for name, source in sources.items():
        tables = read(source, nj)
        write(output_dir / name, tables)
        hours = sum(map(float, tables["utt2dur"].values())) / 3600
        print(f"{output_dir / name}: {len(tables['text'])} utterances, {hours:.2f} h")
    if {"dev_clean", "dev_other"} <= sources.keys():
        combine(output_dir / "dev", output_dir / "dev_clean", output_dir / "dev_other")


def check(source: Source, partial: bool = False) -> list[Path]:
    """Check that each utterance has text and audio, and that all are there.

    Returns:
        The audio files.

    Raises:
        DataError: At the first thing that is wrong.
    """
    audio: dict[str, Path] = {}
    texts: dict[str, Path] = {}
    for folder in (source.corpus_dir / name for name in source.folders):
        here = _read_texts(folder)
        for utterance, path in _find_audio(folder).items():
            if utterance not in here:
                raise DataError(
                    f"{path}: expected its text in a .trans.txt beside it, found none"
                )
            if utterance in audio:
                raise DataError(
                    f"{path}: expected every utterance once, found {audio[utterance]}, too"
                )
            audio[utterance] = path
        texts.update(here)
    # Only now: Libri-Light has moved utterances of a chapter from one folder to another.
    for utterance in texts.keys() - audio.keys():
        raise DataError(
            f"{texts[utterance]}: {utterance}: expected {utterance}.flac beside it, found "
            "none"
        )
    if len(audio) != source.num_utterances and not partial:
        raise DataError(
            f"{source.corpus_dir} ({', '.join(source.folders)}): expected "
            f"{source.num_utterances} utterances, found {len(audio)}; with --partial, they "
            "are taken as they are"
        )
    return list(audio.values())


def check_audio(paths: Sequence[Path], nj: int = 1) -> None:
    """Check that audio files can be read to their end.

    Raises:
        DataError: If some cannot.
    """
    with ThreadPoolExecutor(nj) as pool:
        found = tqdm(
            pool.map(_problem, paths),
            desc="check audio",
            total=len(paths),
            unit="file",
            mininterval=1,
        )
        problems = [problem for problem in found if problem]
    if problems:
        first = "\n  ".join(problems[:10])
        raise DataError(
            f"{len(problems)} of {len(paths)} audio files are damaged:\n  {first}"
        )


def read(source: Source, nj: int = 1) -> Tables:
    """Read a data directory's ``text``, ``utt2dur``, ``utt2spk`` and ``wav.scp``."""
    manifests = recipes.prepare_librispeech(
        source.corpus_dir, dataset_parts=source.folders, num_jobs=nj
    )
    tables: Tables = {"text": {}, "utt2dur": {}, "utt2spk": {}, "wav.scp": {}}
    for manifest in manifests.values():
        for supervision in manifest["supervisions"]:
            tables["text"][supervision.id] = supervision.text
            tables["utt2dur"][supervision.id] = f"{supervision.duration:.3f}"
            tables["utt2spk"][supervision.id] = supervision.id.rpartition("-")[0]
        for recording in manifest["recordings"]:
            tables["wav.scp"][recording.id] = str(recording.sources[0].source)
    return tables


def _nearby(corpus_dir: Path, folder: str) -> str:
    """A hint, where what was given is the corpus's parent or one of its parts."""
    if not corpus_dir.is_dir():
        return ""
    places = [corpus_dir.resolve().parent, *sorted(corpus_dir.iterdir())]
    found = [place for place in places if (place / folder).is_dir()]
    return f"; it is in {found[0]}: give that folder" if found else ""


def _read_texts(folder: Path) -> dict[str, Path]:
    """The file that has the text of each utterance."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.trans.txt")):
        for utterance, text in read_table(path).items():
            if not text:
                raise DataError(f"{path}: {utterance}: expected its text, found none")
            if utterance in files:
                raise DataError(
                    f"{path}: {utterance}: expected one text, found one in "
                    f"{files[utterance]}, too"
                )
            files[utterance] = path
    if not files:
        raise DataError(f"{folder}: expected .trans.txt files, found none")
    return files


def _find_audio(folder: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(folder.rglob("*.flac")):
        place = folder.joinpath(*path.stem.split("-")[:-1], path.name)
        if path != place:
            raise DataError(f"{path}: expected it to be {place}")
        found[path.stem] = path
    return found


def _problem(path: Path) -> str | None:
    # A file that was cut short has all of its header, but not its last sample.
    try:
        with soundfile.SoundFile(path) as audio:
            audio.seek(audio.frames - 1)
            audio.read(1)
    except soundfile.LibsndfileError as error:
        return f"{path}: {error.error_string} (a truncated file?)"
    return None


def get_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description="Make data directories of LibriSpeech, after getting it if asked for. "
        "A download that was cut short goes on where it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_options(parser)
    parser.add_argument("sets", nargs="+", choices=PARTS, help="what to make")
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the recipes share."""
    parser.add_argument(
        "--librispeech",
        default="",
        metavar="DIR",
        help=f"the folder LibriSpeech, or '{DOWNLOADS}' to get it",
    )
    parser.add_argument("--librispeech_url", default=URL, help="OpenSLR, or a mirror")
    parser.add_argument("--output_dir", default="data", help="for data directories")
    parser.add_argument(
        "--partial", action="store_true", help="take less than the whole corpus"
    )
    parser.add_argument(
        "--nj", type=int, default=len(os.sched_getaffinity(0)), help="files at a time"
    )


def main(cmd: list[str] | None = None) -> None:
    """Make them."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    folders = [PARTS[name].name for name in args.sets]
    try:
        corpus_dir = find_corpus(
            "--librispeech", args.librispeech, "LibriSpeech", folders
        )
        if args.librispeech == DOWNLOADS:
            download_librispeech(corpus_dir, args.sets, args.librispeech_url)
        sources = librispeech_sources(corpus_dir, args.sets)
        prepare(sources, Path(args.output_dir), args.nj, args.partial)
    except (DataError, DownloadError) as error:
        parser.exit(1, f"prepare_librispeech: {error}\n")


if __name__ == "__main__":
    main()
