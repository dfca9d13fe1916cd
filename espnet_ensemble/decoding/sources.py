"""Where decoding gets its speech: audio files, or the feature cache."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from espnet_ensemble.data.audio import AudioError, open_audio, read_audio
from espnet_ensemble.data.tables import DataError, read_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.files import PathLike

#: What :meth:`Source.read` raises where one utterance is to blame.
UNREADABLE = (AudioError, CacheError, OSError)


class Source(Protocol):
    """The utterances of a data set.

    Attributes:
        items_per_second: Samples, or frames of features.
        lengths: utterance's id -> how many of them, to plan batches; 0: unknown.
    """

    items_per_second: float
    lengths: dict[str, int]

    def read(self, utt_id: str) -> Tensor:
        """Read an utterance: (samples,), or (frames, features); float32.

        Raises:
            AudioError: If it cannot be read, or is empty; one of :data:`UNREADABLE`.
            EnsembleError: If it is of no use, and so are probably all others.
        """


class AudioFiles:
    """Audio, as a ``wav.scp`` names it.

    Args:
        wav_scp: The table. Numbers of samples are taken from ``utt2num_samples`` beside
            it, or else from the files.
        fs: Sample rate that the audio must have, in Hz.
        utt_ids: The utterances; None: all of the table.

    Raises:
        DataError: If the table cannot be read, or has not all of these utterances.
    """

    def __init__(
        self, wav_scp: PathLike, fs: int, utt_ids: Iterable[str] | None = None
    ):
        self.items_per_second = float(fs)
        self._fs = fs
        self._paths = _chosen(wav_scp, read_table(wav_scp), utt_ids)
        known = Path(wav_scp).with_name("utt2num_samples")
        counts = _read_counts(known) if known.exists() else {}
        self.lengths = {
            utt_id: counts[utt_id] if utt_id in counts else _num_samples(path)
            for utt_id, path in self._paths.items()
        }

    def read(self, utt_id: str) -> Tensor:
        """Read an utterance's samples, (samples,), as :meth:`Source.read` says."""
        path = self._paths[utt_id]
        try:
            with open_audio(path) as sound:
                self._check_rate(utt_id, path, sound.samplerate)
                if not sound.frames:
                    raise AudioError("expected audio, found no sample")
                return torch.from_numpy(read_audio(sound))
        except AudioError as error:
            raise AudioError(f"{path}: {error}") from error

    def _check_rate(self, utt_id: str, path: str, found: int) -> None:
        if found != self._fs:
            raise EnsembleError(
                f"{utt_id}: {path}: expected audio at {self._fs} Hz, as the model takes "
                f"it, found {found} Hz; asr.sh --fs, or format_wav_scp --fs, resamples"
            )


class CachedFeatures:
    """Features that ``extract`` has computed.

    Args:
        cache: They.
        items_per_second: Frames.
        utt_ids: The utterances; None: all of the cache. Those that the cache lacks are
            unreadable.
    """

    def __init__(
        self,
        cache: FeatureCache,
        items_per_second: float,
        utt_ids: Iterable[str] | None = None,
    ):
        self.items_per_second = items_per_second
        self._cache = cache
        chosen = cache if utt_ids is None else utt_ids
        self.lengths = {
            utt_id: cache.num_frames(utt_id) if utt_id in cache else 0
            for utt_id in chosen
        }

    def read(self, utt_id: str) -> Tensor:
        """Read an utterance's features, (frames, features), as :meth:`Source.read` says."""
        if utt_id not in self._cache:
            skipped = self._cache.members[0].skipped()
            reason = skipped.get(utt_id, "no features in the cache")
            raise CacheError(reason)
        return torch.from_numpy(self._cache[utt_id])


def read_keys(path: PathLike) -> list[str]:
    """Read the utterances of a key file: the first word of each line.

    Raises:
        DataError: If it cannot be read, or names one twice.
    """
    return list(read_table(path))


def _chosen(
    path: PathLike, table: dict[str, str], utt_ids: Iterable[str] | None
) -> dict[str, str]:
    if utt_ids is None:
        return table
    utt_ids = list(utt_ids)
    missing = [utt_id for utt_id in utt_ids if utt_id not in table]
    if missing:
        raise DataError(
            f"{path}: expected the utterances of the key file, found no {missing[0]!r}"
        )
    return {utt_id: table[utt_id] for utt_id in utt_ids}


def _read_counts(path: Path) -> dict[str, int]:
    try:
        return {utt_id: int(value) for utt_id, value in read_table(path).items()}
    except ValueError as error:
        raise DataError(
            f"{path}: expected numbers of samples, found {error}"
        ) from error


def _num_samples(path: str) -> int:
    """0 if it cannot be opened: reading it will say why."""
    try:
        with open_audio(path) as sound:
            return sound.frames
    except UNREADABLE:
        return 0
