"""LibriSpeech: English audiobooks, read by volunteers, in 16 kHz FLAC.

https://www.openslr.org/12, licence CC BY 4.0. Layout::

    LibriSpeech/dev-clean/84/121123/84-121123-0000.flac   reader, chapter, number
    LibriSpeech/dev-clean/84/121123/84-121123.trans.txt   texts of the chapter, upper case

As in Kaldi's and ESPnet's recipes, an utterance is called ``84-121123-0000``, and its
speaker ``84-121123``: each chapter of a reader counts as one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import soundfile

from espnet_ensemble.data import datadir
from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike
from espnet_ensemble.recipes.corpora.data_dir import DataDir, Utterance, write_data_dir
from espnet_ensemble.recipes.corpora.download import download, download_folder
from espnet_ensemble.recipes.corpora.parallel import map_threads

URL = "https://www.openslr.org/resources/12"

#: OpenSLR 11: language models of 14,500 books of Project Gutenberg, in upper case.
NGRAM_URL = "https://www.openslr.org/resources/11"
NGRAM = "3-gram.pruned.1e-7.arpa.gz"  # 34 MB
_NGRAM_CHECKSUM = (
    "sha256:71dd880667cb6ea3942bb1982988c91fb1208839a21911eeec7e31c857c4bdfb"
)


@dataclass(frozen=True)
class PublishedPart:
    """One of the archives that LibriSpeech consists of.

    Attributes:
        name: Its name, which is that of its folder, too.
        checksum: As OpenSLR's ``md5sum.txt`` has it.
        num_utts: The number of utterances in it.
    """

    name: str
    checksum: str
    num_utts: int


#: The parts that recipes use, by the names of their data directories.
PARTS = {
    "train_clean_100": PublishedPart(
        "train-clean-100", "md5:2a93770f6d5c6c964bc36631d331a522", 28539
    ),
    "dev_clean": PublishedPart(
        "dev-clean", "md5:42e2234ba48799c1f50f24a7926300a1", 2703
    ),
    "dev_other": PublishedPart(
        "dev-other", "md5:c8d0bcc9cca99d4f8b62fcc847357931", 2864
    ),
    "test_clean": PublishedPart(
        "test-clean", "md5:32fa31d27d2e1cad72775fee3f4849a9", 2620
    ),
    "test_other": PublishedPart(
        "test-other", "md5:fb5a50374b501bb3bac4815ee91d3135", 2939
    ),
}


@dataclass(frozen=True)
class Selection:
    """Folders of a corpus in LibriSpeech's layout that make one data directory.

    Attributes:
        corpus_dir: The corpus.
        folders: Its folders that hold the readers' folders.
        num_utts: The number of utterances in them when they are complete.
    """

    corpus_dir: Path
    folders: tuple[str, ...]
    num_utts: int


@dataclass(frozen=True)
class Reading:
    """An utterance of the corpus: its audio file and its text."""

    flac: Path
    text: str

    @property
    def utt_id(self) -> str:
        """Reader, chapter and number: ``84-121123-0000``."""
        return self.flac.stem

    @property
    def spk(self) -> str:
        """Reader and chapter: ``84-121123``."""
        return self.utt_id.rpartition("-")[0]


@dataclass(frozen=True)
class _Transcript:
    """A text, and the file that has it."""

    text: str
    path: Path


def prepare_librispeech(
    corpus_dir: PathLike,
    output_dir: PathLike,
    sets: Collection[str] = tuple(PARTS),
    nj: int = 1,
    partial: bool = False,
) -> dict[str, DataDir]:
    """Make data directories of LibriSpeech, after having checked all that they need.

    Args:
        corpus_dir: The folder ``LibriSpeech``. ``wav.scp`` names files by it as given.
        output_dir: The data directories' parent.
        sets: Those to make, of :data:`PARTS`. Where both dev sets are among them, ``dev``
            joins the two.
        nj: Number of files read at a time.
        partial: Whether to take less than the whole corpus.

    Returns:
        What was made of each set.

    Raises:
        EnsembleError: If an utterance lacks text or audio, a file is damaged, or utterances
            are missing. It names the path.
    """
    selections = select_parts(corpus_dir, sets)
    return prepare_selections(selections, output_dir, nj, partial)


def select_parts(corpus_dir: PathLike, sets: Collection[str]) -> dict[str, Selection]:
    """Select the folders of LibriSpeech that make data directories.

    Example:
        >>> select_parts("LibriSpeech", ["dev_clean"])["dev_clean"].folders
        ('dev-clean',)
    """
    return {
        name: Selection(Path(corpus_dir), (PARTS[name].name,), PARTS[name].num_utts)
        for name in sets
    }


def prepare_selections(
    selections: Mapping[str, Selection],
    output_dir: PathLike,
    nj: int = 1,
    partial: bool = False,
) -> dict[str, DataDir]:
    """Make data directories of any corpora in LibriSpeech's layout.

    Args:
        selections: What they are made of, by the name of the data directory.
        output_dir: As of :func:`prepare_librispeech`, and so are the others.
    """
    output_dir = Path(output_dir)
    readings = {name: find_readings(s, partial) for name, s in selections.items()}
    flacs = [reading.flac for found in readings.values() for reading in found]
    lengths = map_threads(measure, flacs, nj, "check audio")
    seconds = dict(zip(flacs, lengths, strict=True))
    made = {
        name: write_data_dir(
            output_dir / name,
            [
                Utterance(r.utt_id, r.spk, r.flac, seconds[r.flac], r.text)
                for r in found
            ],
        )
        for name, found in readings.items()
    }
    if {"dev_clean", "dev_other"} <= made.keys():
        halves = (made["dev_clean"].path, made["dev_other"].path)
        datadir.combine(output_dir / "dev", *halves)
    return made


def download_librispeech(
    corpus_dir: PathLike, sets: Collection[str], url: str = URL
) -> None:
    """Download the parts that are not there yet, and unpack them.

    Args:
        corpus_dir: The folder ``LibriSpeech``. Archives are kept beside it until they are
            unpacked.
        sets: Of :data:`PARTS`.
        url: The folder of the archives.

    Raises:
        EnsembleError: If that fails.
    """
    corpus_dir = Path(corpus_dir)
    for part in (PARTS[name] for name in sets):
        archive, folder = f"{part.name}.tar.gz", f"{corpus_dir.name}/{part.name}"
        download_folder(f"{url}/{archive}", part.checksum, corpus_dir.parent, folder)


def download_ngram(output_dir: PathLike, url: str = NGRAM_URL) -> Path:
    """Get the pruned trigram language model of OpenSLR 11, where it is not there yet.

    Args:
        output_dir: It is written to ``<output_dir>/local/lm``, as by Kaldi's recipe.
        url: OpenSLR, or a mirror.

    Returns:
        The file.

    Raises:
        EnsembleError: If it cannot be downloaded, or is another than was published.
    """
    path = Path(output_dir, "local", "lm", NGRAM)
    download(f"{url}/{NGRAM}", path, _NGRAM_CHECKSUM)
    return path


def find_readings(selection: Selection, partial: bool = False) -> list[Reading]:
    """Find the utterances, each of which must have text and audio.

    Args:
        selection: The folders to look in.
        partial: Whether fewer than in the complete corpus are enough.

    Raises:
        EnsembleError: At the first thing that is wrong.
    """
    readings: dict[str, Reading] = {}
    transcripts: dict[str, _Transcript] = {}
    for folder in (selection.corpus_dir / name for name in selection.folders):
        here = _read_transcripts(folder)
        for flac in _find_flacs(folder):
            _add(readings, flac, here)
        transcripts.update(here)
    # Only now: Libri-Light has moved utterances of a chapter from one folder to another.
    for utt_id in transcripts.keys() - readings.keys():
        raise EnsembleError(
            f"{transcripts[utt_id].path}: {utt_id}: expected {utt_id}.flac beside it, found "
            "none"
        )
    if len(readings) != selection.num_utts and not partial:
        raise EnsembleError(
            f"{selection.corpus_dir} ({', '.join(selection.folders)}): expected "
            f"{selection.num_utts} utterances, found {len(readings)}; with --partial, they "
            "are taken as they are"
        )
    return list(readings.values())


def measure(flac: Path) -> float:
    """The length of an audio file in seconds, which must be readable to its end.

    Raises:
        AudioError: If it is not.
    """
    # A file that was cut short has all of its header, but not its last sample.
    try:
        with soundfile.SoundFile(flac) as audio:
            audio.seek(audio.frames - 1)
            audio.read(1)
            return audio.frames / audio.samplerate
    except soundfile.LibsndfileError as error:
        reason = error.error_string
        raise AudioError(f"{flac}: {reason} (a truncated file?)") from error


def _add(
    readings: dict[str, Reading], flac: Path, transcripts: Mapping[str, _Transcript]
) -> None:
    utt_id = flac.stem
    if utt_id not in transcripts:
        raise EnsembleError(
            f"{flac}: expected its text in a .trans.txt beside it, found none"
        )
    if utt_id in readings:
        raise EnsembleError(
            f"{flac}: expected every utterance once, found {readings[utt_id].flac}, too"
        )
    readings[utt_id] = Reading(flac, transcripts[utt_id].text)


def _read_transcripts(folder: Path) -> dict[str, _Transcript]:
    """Read the texts below a folder, by their utterances' ids."""
    transcripts: dict[str, _Transcript] = {}
    for path in sorted(folder.rglob("*.trans.txt")):
        for utt_id, text in read_table(path).items():
            if not text:
                raise EnsembleError(f"{path}: {utt_id}: expected its text, found none")
            if utt_id in transcripts:
                raise EnsembleError(
                    f"{path}: {utt_id}: expected one text, found one in "
                    f"{transcripts[utt_id].path}, too"
                )
            transcripts[utt_id] = _Transcript(text, path)
    if not transcripts:
        raise EnsembleError(f"{folder}: expected .trans.txt files, found none")
    return transcripts


def _find_flacs(folder: Path) -> list[Path]:
    flacs = sorted(folder.rglob("*.flac"))
    for path in flacs:
        place = folder.joinpath(*path.stem.split("-")[:-1], path.name)
        if path != place:
            raise EnsembleError(f"{path}: expected it to be {place}")
    return flacs
