"""ESPnet3's datasets: of data directories, and of the feature cache.

Utterances are known by their ids, as everywhere else in ESPnet: in shape files, in
transcripts, in messages. In training, ESPnet3 asks a dataset for them; in inference, it
counts items and looks for ``utt_id`` in them.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from espnet3.components.data.base_dataset import BaseDataset
from espnet3.components.data.dataset_builder import DatasetBuilder
from espnet3.contract import KINDS, Field, Kind, register_kind
from espnet3.contract.kinds import AudioKind

from espnet_ensemble.data.audio import AudioConf, AudioError, open_audio, read_audio
from espnet_ensemble.data.formatting import format_audio
from espnet_ensemble.data.length import filter_lengths
from espnet_ensemble.data.tables import DataError, read_table
from espnet_ensemble.errors import EnsembleError, name_keys
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.files import PathLike
from espnet_ensemble.integrations.espnet2.checks import check_utterances


class FeaturesKind(Kind):
    """ESPnet3's kind ``features``: of all upstreams, (frames, features).

    Options of ``audio``, which ESPnet3's template gives to ``speech``, mean nothing here.
    """

    option_names = AudioKind.option_names

    def check(self, value: Any, field: Field, model: Any, *, output: bool) -> Any:
        """Return the value.

        Raises:
            TypeError: If it has another shape.
        """
        shape = getattr(value, "shape", None)
        if shape is None or len(shape) != 2:
            found = type(value).__name__ if shape is None else shape
            raise TypeError(f"{field.name}: expected (frames, features), found {found}")
        return value


if "features" not in KINDS:
    register_kind("features", FeaturesKind())


class TranscribedDataset(BaseDataset):
    """Utterances of a data directory with their transcripts.

    Args:
        data_dir: The data directory, with ``text``.
        numbered: Whether items are found by their number and hold their ``utt_id``, which
            inference needs; otherwise by their ids, and hold what the model takes alone.

    Attributes:
        data_dir: The data directory.
        utt_ids: The utterances.

    Raises:
        EnsembleError: If the table is missing, or not what it should be.
    """

    def __init__(self, data_dir: PathLike, numbered: bool = False):
        self.data_dir = Path(data_dir)
        self._texts = read_table(self.data_dir / "text")
        self.utt_ids = list(self._texts)
        self._numbered = numbered

    def __len__(self) -> int:
        return len(self.utt_ids)

    def keys(self) -> Iterable[str]:
        """The ids, which ESPnet3 asks for where numbers find nothing."""
        return self.utt_ids

    def __getitem__(self, key: Any) -> dict[str, Any]:
        """Read an utterance.

        Args:
            key: Its number, from 0; or its id.

        Returns:
            ``speech`` and ``text``; of a dataset that is ``numbered``, also ``utt_id``.

        Raises:
            KeyError: If there is no such utterance.
            EnsembleError: If it cannot be read.
        """
        utt_id = self.utt_ids[key] if self._numbered else key
        item = {"speech": self._read(utt_id), "text": self._texts[utt_id]}
        return {"utt_id": utt_id, **item} if self._numbered else item

    @abstractmethod
    def _read(self, utt_id: str) -> Any:
        """Read the speech of an utterance, in the form that its kind has."""


class DataDirDataset(TranscribedDataset):
    """A data directory with one audio file per utterance, as ``data_src``.

    Args:
        data_dir: As of :class:`TranscribedDataset`; also with ``wav.scp``, and without
            ``segments``.
        numbered: As of :class:`TranscribedDataset`. Then ``speech`` has its sample rate
            beside it, and ESPnet3 resamples it where the model takes another.

    Raises:
        EnsembleError: If a table is missing, or not what it should be.
    """

    fields: ClassVar = (Field("speech", "audio"), Field("text", "text"))

    def __init__(self, data_dir: PathLike, numbered: bool = False):
        super().__init__(data_dir, numbered)
        segments = self.data_dir / "segments"
        if segments.exists():
            raise DataError(
                f"{segments}: expected one audio file per utterance; write them with "
                "espnet-ensemble format_wav_scp"
            )
        wav_scp = self.data_dir / "wav.scp"
        self._paths = read_table(wav_scp)
        missing = [utt_id for utt_id in self.utt_ids if utt_id not in self._paths]
        if missing:
            raise DataError(
                f"{wav_scp}: expected the utterances of text, found no "
                f"{name_keys(missing)}"
            )

    def _read(self, utt_id: str) -> np.ndarray | tuple[int, np.ndarray]:
        path = self._paths[utt_id]
        try:
            with open_audio(path) as sound:
                samples = read_audio(sound)
        except AudioError as error:
            raise AudioError(f"{utt_id}: {path}: {error}") from error
        return (sound.samplerate, samples) if self._numbered else samples


class FeatureCacheDataset(TranscribedDataset):
    """Features of frozen upstreams, for the frontend ``ensemble``, as ``data_src``.

    Args:
        path: The ``members.yaml`` that extraction wrote.
        data_dir: The data directory with the transcripts; None: the one that the features
            were extracted from.
        numbered: As of :class:`TranscribedDataset`.

    Attributes:
        path: The ``members.yaml``.
        cache: The features.

    Raises:
        EnsembleError: If utterances have no features, or something is missing or not what
            it should be.
    """

    fields: ClassVar = (Field("speech", "features"), Field("text", "text"))

    def __init__(
        self,
        path: PathLike,
        data_dir: PathLike | None = None,
        numbered: bool = False,
    ):
        self.path = Path(path)
        self.cache = FeatureCache(path)
        data_dir = data_dir or self.cache.data_dir
        if data_dir is None:
            raise EnsembleError(
                f"{path}: it does not say which data directory it is of; give data_dir"
            )
        super().__init__(data_dir, numbered)
        check_utterances(self.cache, path, self.data_dir / "text", self.utt_ids)

    def _read(self, utt_id: str) -> np.ndarray:
        return self.cache[utt_id]


def format_sets(
    source: PathLike,
    dest: PathLike,
    sets: Collection[str],
    training: Collection[str],
    fs: int,
    audio_format: str = "flac",
    nj: int = 1,
    max_wav_duration: float = 20.0,
) -> None:
    """Make data directories as training reads them: stages 3 and 4 of ESPnet2's recipes.

    Args:
        source: The parent of those that a corpus's preparation has made.
        dest: The parent of those to make; of training sets, also in its folder ``org``, with
            all utterances.
        sets: Their names.
        training: Those of which long and short utterances are left out.
        fs: Sample rate of the audio, in Hz.
        audio_format: flac or wav. Files that are so already are named where they are.
        nj: Files worked on at a time.
        max_wav_duration: Seconds that utterances for training must be shorter than.

    Raises:
        EnsembleError: If a data directory is not valid, or audio cannot be read.
    """
    source, dest = Path(source), Path(dest)
    for name in sets:
        formatted = dest / "org" / name if name in training else dest / name
        format_audio(source / name, formatted, AudioConf(fs, audio_format), nj)
        if name in training:
            filter_lengths(
                formatted, dest / name, fs, max_wav_duration=max_wav_duration
            )


class NothingToBuild(DatasetBuilder):
    """For ESPnet3's stage ``create_dataset``: what is there already."""

    def is_source_prepared(self, **kwargs: Any) -> bool:
        """Whether the source is there: the dataset's constructor says what is not."""
        return True

    def prepare_source(self, **kwargs: Any) -> None:
        """Do nothing."""

    def is_built(self, **kwargs: Any) -> bool:
        """Whether it is built: likewise."""
        return True

    def build(self, **kwargs: Any) -> None:
        """Do nothing."""
