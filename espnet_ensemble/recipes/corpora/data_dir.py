"""What a recipe's first stage ends in: a data directory of a corpus's utterances."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from espnet_ensemble.data import datadir
from espnet_ensemble.data.tables import DataError, Tables
from espnet_ensemble.files import PathLike


@dataclass(frozen=True)
class Utterance:
    """An utterance as a data directory lists it.

    Attributes:
        utt_id: Its id, unique in the directory.
        spk: Its speaker's id.
        audio: Its file, as ``wav.scp`` is to name it.
        seconds: Its length.
        text: What is said; None: unknown, and the directory has no ``text``.
    """

    utt_id: str
    spk: str
    audio: PathLike
    seconds: float
    text: str | None


@dataclass(frozen=True)
class DataDir:
    """A data directory that is complete, and what it has."""

    path: Path
    num_utts: int
    num_spks: int
    hours: float


def write_data_dir(path: PathLike, utterances: Iterable[Utterance]) -> DataDir:
    """Write a data directory: wav.scp, utt2spk, spk2utt, utt2dur and, if known, text.

    One that is there and has the same content is left untouched.

    Raises:
        DataError: If the result is not valid: without utterances, for example.
    """
    utterances = list(utterances)
    tables: Tables = {
        "wav.scp": {u.utt_id: str(u.audio) for u in utterances},
        "utt2spk": {u.utt_id: u.spk for u in utterances},
        "utt2dur": {u.utt_id: f"{u.seconds:.3f}" for u in utterances},
        "text": {u.utt_id: u.text for u in utterances if u.text is not None},
    }
    if not tables["text"]:
        del tables["text"]
    if not _is_written(path, tables):
        datadir.write(path, tables)
        datadir.validate(path, need_text=False)
    return DataDir(
        Path(path),
        num_utts=len(tables["utt2spk"]),
        num_spks=len(set(tables["utt2spk"].values())),
        hours=sum(u.seconds for u in utterances) / 3600,
    )


def _is_written(path: PathLike, tables: Tables) -> bool:
    try:
        return datadir.validate(path, need_text=False) == tables
    except DataError:
        return False
