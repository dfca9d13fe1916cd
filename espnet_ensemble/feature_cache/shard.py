"""One archive, from audio to features.

The way of the data, each a generator over what the one before it gives:
:func:`plan_batches`, :func:`read_batches`, the upstream in :class:`ShardExtractor`,
:func:`write_records`. An utterance whose features cannot be had goes down it as
:class:`NoFeats`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from os.path import abspath
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.tables import Table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import (
    Entry,
    append_feats,
    is_whole,
    read_index,
    read_skipped,
    write_index,
    write_skipped,
)
from espnet_ensemble.feature_cache.identity import (
    AudioIdentity,
    DataSet,
    Wav,
    read_wav,
)
from espnet_ensemble.files import atomic_write
from espnet_ensemble.frontend_conf import FrontendConf

Item = TypeVar("Item")

# What PyTorch's own allocator says on a CPU, and what oneDNN does.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "could not create a primitive",
    "could not execute a primitive",
)


@dataclass(frozen=True)
class Shard:
    """The utterances of an archive, or of one for each layer.

    Attributes:
        ark: Path of the archive.
        paths: utterance's id -> audio file.
        num_samples: utterance's id -> its number of samples.
        fs: Their rate, in Hz.
        more: Where each layer has an archive of its own: those of the layers after the
            first.
    """

    ark: Path
    paths: dict[str, str]
    num_samples: dict[str, int]
    fs: int
    more: tuple[Path, ...] = ()

    @property
    def arks(self) -> tuple[Path, ...]:
        """Paths of all archives."""
        return (self.ark, *self.more)

    @property
    def seconds(self) -> float:
        """Duration of the speech."""
        return sum(self.num_samples.values()) / self.fs

    @property
    def index(self) -> Path:
        """Path of the index."""
        return _index(self.ark)

    @property
    def skipped(self) -> Path:
        """Path of the list of utterances without features."""
        return _skipped(self.ark)

    def is_complete(self, skip: bool) -> bool:
        """Whether the archive is there, whole, and of the audio that is there now.

        Args:
            skip: Whether it may lack utterances that were skipped.
        """
        return all(self._has(ark, skip) for ark in self.arks)

    def _has(self, ark: Path, skip: bool) -> bool:
        index = _index(ark)
        if not index.exists():
            return False
        try:
            entries, skipped = read_index(index), read_skipped(_skipped(ark))
        except ValueError:  # damaged: the member has named it
            return False
        return (
            sorted([*entries, *skipped]) == sorted(self.paths)
            and (skip or not skipped)
            and is_whole(ark, entries)
            and all(e.audio.is_of(self.paths[utt_id]) for utt_id, e in entries.items())
        )

    def absolute(self) -> "Shard":
        """The same, also in another working directory."""
        return replace(
            self,
            ark=self.ark.absolute(),
            paths={utt_id: abspath(path) for utt_id, path in self.paths.items()},
            more=tuple(ark.absolute() for ark in self.more),
        )


def _index(ark: Path) -> Path:
    return ark.with_suffix(".index")


def _skipped(ark: Path) -> Path:
    return ark.with_suffix(".skipped")


def plan_shards(
    folder: Path, data: DataSet, fs: int, shard_utts: int, more: Sequence[Path] = ()
) -> list[Shard]:
    """Divide a data set among archives.

    Args:
        folder: Where they will be.
        data: The data set.
        fs: Sample rate of its audio, in Hz.
        shard_utts: Utterances per archive, at most.
        more: Where each layer has archives of its own: folders of those of the layers
            after the first.
    """
    utt_ids = list(data.paths)
    parts = [utt_ids[i : i + shard_utts] for i in range(0, len(utt_ids), shard_utts)]
    return [
        Shard(
            folder / f"{number:04}.ark",
            {utt_id: data.paths[utt_id] for utt_id in part},
            {utt_id: data.num_samples[utt_id] for utt_id in part},
            fs,
            tuple(other / f"{number:04}.ark" for other in more),
        )
        for number, part in enumerate(parts)
    ]


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


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: sums depend on the number of threads."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


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
class Record:
    """An utterance's features in each archive."""

    utt_id: str
    entries: Sequence[Entry]


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
        """Make an archive and its index; or, of one pass of the upstream, each layer's.

        Yields:
            Seconds of speech that are done now.

        Raises:
            CacheError: If it cannot be written; also if an utterance's features cannot be
                had, unless these are to be skipped. It names the file.
        """
        entries: list[dict[str, Entry]] = [{} for _ in shard.arks]
        skipped: Table = {}
        try:
            with ExitStack() as stack:
                parts = [stack.enter_context(atomic_write(ark)) for ark in shard.arks]
                files = [stack.enter_context(part.open("wb")) for part in parts]
                for result in self._results(shard, files):
                    if isinstance(result, Record):
                        for of_ark, entry in zip(entries, result.entries, strict=True):
                            of_ark[result.utt_id] = entry
                    else:
                        skipped[result.utt_id] = self._skip(result, shard)
                    yield shard.num_samples[result.utt_id] / shard.fs
            # That of the first comes last: who waits for a shard looks for it.
            for ark, of_ark in reversed(list(zip(shard.arks, entries, strict=True))):
                write_skipped(_skipped(ark), skipped)
                write_index(_index(ark), of_ark)
        except OSError as error:
            raise CacheError(f"{shard.ark}: {error.strerror}") from error

    def _results(
        self, shard: Shard, arks: Sequence[BinaryIO]
    ) -> Iterator[Record | NoFeats]:
        max_samples = self._conf.batch_seconds * shard.fs
        batches = plan_batches(shard.num_samples, max_samples)
        speech = read_batches(batches, shard)
        feats = self._run_upstream(speech, apart=bool(shard.more))
        return write_records(feats, arks, self._conf.storage)

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
        hidden_states, num_frames = self._ensemble.extract(
            pad_sequence(wavs, batch_first=True).to(self._device),
            lengths.to(self._device),
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


def write_records(
    items: Iterable[Feats | NoFeats], arks: Sequence[BinaryIO], storage: str
) -> Iterator[Record | NoFeats]:
    """Write features to the archives; what has none passes as it is."""
    for item in items:
        if isinstance(item, NoFeats):
            yield item
            continue
        ends = [ark.tell() for ark in arks]
        try:
            entries = [
                append_feats(ark, item.utt_id, feats.numpy(), item.audio, storage)
                for ark, feats in zip(arks, item.feats, strict=True)
            ]
        except CacheError as error:
            # One layer cannot be stored: it is in the archive of none.
            for ark, end in zip(arks, ends, strict=True):
                ark.seek(end)
                ark.truncate()
            yield NoFeats(item.utt_id, str(error))
        else:
            yield Record(item.utt_id, entries)


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
