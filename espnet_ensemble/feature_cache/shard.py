"""One archive, from audio to features.

The way of the data, each a generator over what the one before it gives:
:func:`plan_batches`, :func:`read_batches`, the upstream in :class:`ShardExtractor`,
:func:`encode_feats`. An utterance whose features cannot be had goes down it as
:class:`NoFeats`. The archive is written when all are there, as a file of safetensors begins with
what is in it.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from os.path import abspath
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.tables import Table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import (
    SUFFIX,
    Archive,
    ArchiveWriter,
    encode,
)
from espnet_ensemble.feature_cache.identity import (
    AudioIdentity,
    AudioStates,
    DataSet,
    Wav,
    read_wav,
)
from espnet_ensemble.frames import batch_to_device
from espnet_ensemble.frontend_conf import FrontendConf

Item = TypeVar("Item")

# A folder of more files is slow to list.
_ARCHIVES_OF_A_FOLDER = 1000
# What PyTorch's own allocator says on a CPU, and what oneDNN does.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "could not create a primitive",
    "could not execute a primitive",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """The utterances of an archive, or of one for each layer.

    Attributes:
        archives: Paths: one, or one for each layer.
        paths: utterance's id -> audio file.
        num_samples: utterance's id -> its number of samples.
        fs: Their rate, in Hz.
    """

    archives: tuple[Path, ...]
    paths: dict[str, str]
    num_samples: dict[str, int]
    fs: int

    @property
    def seconds(self) -> float:
        """Duration of the speech."""
        return sum(self.num_samples.values()) / self.fs

    def is_complete(self, skip: bool, audio: AudioStates | None = None) -> bool:
        """Whether all is there, whole, and of the audio that is there now.

        Args:
            skip: Whether it may lack utterances that were skipped.
            audio: What is known of the audio files; None: nothing.
        """
        audio = audio or AudioStates(self.paths)
        return all(self._has(path, skip, audio) for path in self.archives)

    def absolute(self) -> "Shard":
        """The same, also in another working directory."""
        paths = {utt_id: abspath(path) for utt_id, path in self.paths.items()}
        archives = tuple(path.absolute() for path in self.archives)
        return replace(self, archives=archives, paths=paths)

    def _has(self, path: Path, skip: bool, audio: AudioStates) -> bool:
        if not path.exists():
            return False
        try:
            archive = Archive.read(path)
        except CacheError as error:
            _log.warning("%s; this is mended now", error)
            return False
        return (
            sorted([*archive.entries, *archive.skipped]) == sorted(self.paths)
            and (skip or not archive.skipped)
            and all(audio.has(key, e.audio) for key, e in archive.entries.items())
        )


def plan_shards(
    folders: Sequence[Path], data: DataSet, fs: int, shard_seconds: float
) -> list[Shard]:
    """Divide a data set among archives of about the same duration, in the order of ids.

    Args:
        folders: Where they will be, in numbered folders: one, or one for each layer.
        data: The data set.
        fs: Sample rate of its audio, in Hz.
        shard_seconds: Seconds of speech per archive, about.

    Example:
        >>> samples = {"a": 3, "b": 3, "c": 9, "d": 1, "e": 2}
        >>> data = DataSet(Path("train"), dict.fromkeys(samples, ""), samples)
        >>> for shard in plan_shards([Path("shards")], data, fs=1, shard_seconds=6):
        ...     print(*shard.archives, *shard.paths)
        shards/000/000000.safetensors a b
        shards/000/000001.safetensors c
        shards/000/000002.safetensors d e
    """
    total = sum(data.num_samples[utt_id] for utt_id in data.paths)
    num_shards = max(1, math.ceil(total / (shard_seconds * fs)))
    before, places = 0, {}
    for utt_id in sorted(data.paths):
        places[utt_id] = before * num_shards // max(total, 1)
        before += data.num_samples[utt_id]
    # An utterance that is longer than an archive leaves a gap between the numbers.
    parts = [list(part) for _, part in groupby(places, key=lambda key: places[key])]
    return [
        Shard(
            tuple(folder / archive_name(number) for folder in folders),
            {utt_id: data.paths[utt_id] for utt_id in part},
            {utt_id: data.num_samples[utt_id] for utt_id in part},
            fs,
        )
        for number, part in enumerate(parts)
    ]


def archive_name(number: int) -> str:
    """Name an archive, in a numbered folder.

    Example:
        >>> archive_name(12345)
        '012/012345.safetensors'
    """
    return f"{number // _ARCHIVES_OF_A_FOLDER:03}/{number:06}{SUFFIX}"


@dataclass(frozen=True)
class ShardConf:
    """How archives of a member are made.

    Attributes:
        frontend: A frontend with one upstream.
        storage: Type to store features in.
        batch_seconds: Seconds of speech, with padding, that the upstream gets at once,
            unless an utterance is longer.
        skip: Whether to leave out an utterance whose features cannot be had.
    """

    frontend: FrontendConf
    storage: str
    batch_seconds: float
    skip: bool

    @classmethod
    def parse(cls, conf: dict[str, Any]) -> "ShardConf":
        """Read what :meth:`to_dict` gives."""
        return cls(**{**conf, "frontend": FrontendConf.parse(conf["frontend"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "frontend": self.frontend.to_dict()}


@dataclass(frozen=True)
class Work:
    """Archives of a member that are to be made.

    Attributes:
        conf: How.
        shards: What they are of.
    """

    conf: ShardConf
    shards: list[Shard]


@dataclass(frozen=True)
class Speech:
    """An utterance that was read."""

    utt_id: str
    wav: Wav


@dataclass(frozen=True)
class Feats:
    """An utterance's features for each archive, (frames, features), on the CPU."""

    utt_id: str
    feats: Sequence[Tensor]
    audio: AudioIdentity


@dataclass(frozen=True)
class Encoded:
    """An utterance's features as each archive stores them."""

    utt_id: str
    tensors: Sequence[list[Tensor]]
    audio: AudioIdentity


@dataclass(frozen=True)
class NoFeats:
    """Why an utterance's features cannot be had."""

    utt_id: str
    reason: str


class ShardExtractor:
    """Makes archives of a member.

    Args:
        conf: How they are made.
        device: Where the upstream runs.
    """

    def __init__(self, conf: ShardConf, device: str):
        self._conf = conf
        self._ensemble = conf.frontend.build().to(device)
        self._device = device

    def make(self, shard: Shard) -> Iterator[float]:
        """Make an archive; or, of one pass of the upstream, each layer's.

        Yields:
            Seconds of speech that are done now.

        Raises:
            CacheError: If it cannot be written; also if an utterance's features cannot be
                had, unless these are to be skipped. It names the file.
        """
        writers, skipped = [ArchiveWriter() for _ in shard.archives], Table()
        for result in self._results(shard):
            if isinstance(result, Encoded):
                for writer, tensors in zip(writers, result.tensors, strict=True):
                    writer.add(result.utt_id, tensors, result.audio)
            else:
                skipped[result.utt_id] = self._skip(result, shard)
            yield shard.num_samples[result.utt_id] / shard.fs
        # The first comes last: who waits for a shard looks for it.
        for path, writer in reversed(list(zip(shard.archives, writers, strict=True))):
            writer.write(path, skipped)

    def _results(self, shard: Shard) -> Iterator[Encoded | NoFeats]:
        max_samples = self._conf.batch_seconds * shard.fs
        batches = plan_batches(shard.num_samples, max_samples)
        speech = read_batches(batches, shard)
        feats = self._run_upstream(speech, apart=len(shard.archives) > 1)
        return encode_feats(feats, self._conf.storage)

    def _skip(self, failure: NoFeats, shard: Shard) -> str:
        reason = f"{shard.paths[failure.utt_id]}: {failure.reason}"
        if not self._conf.skip:
            raise CacheError(f"{failure.utt_id}: {reason}")
        return reason

    def _run_upstream(
        self, batches: Iterable[list[Speech | NoFeats]], apart: bool
    ) -> Iterator[Feats | NoFeats]:
        for batch in batches:
            yield from (x for x in batch if isinstance(x, NoFeats))
            speech = [x for x in batch if isinstance(x, Speech)]
            yield from self._run_batch(speech, apart)

    def _run_batch(self, batch: list[Speech], apart: bool) -> Iterator[Feats | NoFeats]:
        """Run the upstream; on half of the batch at a time if the memory is too small."""
        if not batch:
            return
        try:
            feats = self._run(batch, apart)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            found = str(error)
        else:
            yield from feats
            return
        # Here, the error is gone, and with it the tensors that it held.
        if len(batch) > 1:
            half = len(batch) // 2
            yield from self._run_batch(batch[:half], apart)
            yield from self._run_batch(batch[half:], apart)
            return
        (speech,) = batch
        yield NoFeats(
            speech.utt_id,
            f"no memory for the features of "
            f"{len(speech.wav.samples) / speech.wav.fs:.0f} s of speech; divide it into "
            f"segments, or extract with fewer processes (--nj): {found}",
        )

    def _run(self, batch: list[Speech], apart: bool) -> list[Feats]:
        wavs = [torch.from_numpy(speech.wav.samples) for speech in batch]
        lengths = torch.tensor(list(map(len, wavs)))
        padded = pad_sequence(wavs, batch_first=True)
        hidden_states, num_frames = self._ensemble.extract(
            batch_to_device(padded, torch.device(self._device)), lengths
        )
        (layers,) = hidden_states
        if not apart:
            layers = [torch.cat(layers, dim=2)]
        layers = [layer.cpu() for layer in layers]
        return [
            Feats(speech.utt_id, [x[item, :n] for x in layers], speech.wav.identity)
            for item, (speech, n) in enumerate(
                zip(batch, num_frames.tolist(), strict=True)
            )
        ]


def plan_batches(num_samples: dict[str, int], max_samples: float) -> list[list[str]]:
    """Group utterances of similar length, the longest first.

    Args:
        num_samples: utterance's id -> its number of samples.
        max_samples: Samples of a batch, with padding, unless an utterance has more.

    Example:
        >>> plan_batches({"a": 5, "b": 9, "c": 4, "d": 5}, max_samples=10)
        [['b'], ['a', 'd'], ['c']]
    """
    batches: list[list[str]] = []
    for utt_id in sorted(num_samples, key=lambda key: (-num_samples[key], key)):
        longest = num_samples[batches[-1][0]] if batches else 0
        if batches and longest * (len(batches[-1]) + 1) <= max_samples:
            batches[-1].append(utt_id)
        else:
            batches.append([utt_id])
    return batches


def read_batches(
    batches: Iterable[list[str]], shard: Shard
) -> Iterator[list[Speech | NoFeats]]:
    """Read batches of a shard's audio, one ahead of the one that is worked on."""
    return read_ahead(lambda utt_id: _read(utt_id, shard), batches)


def read_ahead(
    read: Callable[[str], Item], batches: Iterable[list[str]]
) -> Iterator[list[Item]]:
    """Read batches of utterances, one ahead of the one that is worked on.

    Args:
        read: Reads an utterance, in another thread.
        batches: Ids of the utterances of each.

    Yields:
        What was read of each batch.
    """
    with ThreadPoolExecutor(1) as reader:
        pending: deque = deque()
        for batch in batches:
            pending.append(reader.submit(lambda ids: list(map(read, ids)), batch))
            if len(pending) > 1:
                yield pending.popleft().result()
        yield from (future.result() for future in pending)


def encode_feats(
    items: Iterable[Feats | NoFeats], storage: str
) -> Iterator[Encoded | NoFeats]:
    """Make of features what archives store; what has none passes as it is."""
    for item in items:
        if isinstance(item, NoFeats):
            yield item
            continue
        try:
            tensors = [encode(feats, storage) for feats in item.feats]
        except CacheError as error:
            # One layer cannot be stored: the utterance is in the archive of none.
            yield NoFeats(item.utt_id, str(error))
        else:
            yield Encoded(item.utt_id, tensors, item.audio)


def _read(utt_id: str, shard: Shard) -> Speech | NoFeats:
    try:
        wav = read_wav(shard.paths[utt_id])
    except AudioError as error:
        return NoFeats(utt_id, str(error))
    num_samples = shard.num_samples[utt_id]
    if (wav.fs, len(wav.samples)) != (shard.fs, num_samples):
        return NoFeats(
            utt_id,
            f"expected {num_samples} samples (utt2num_samples) at {shard.fs} Hz (fs of "
            f"frontend_conf), found {len(wav.samples)} at {wav.fs} Hz",
        )
    return Speech(utt_id, wav)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        message in str(error) for message in _OUT_OF_MEMORY
    )
