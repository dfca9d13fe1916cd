"""Making one archive: audio in, features of one upstream out."""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.tables import Table, write_table
from espnet_ensemble.feature_cache.identity import Audio, read_utterance
from espnet_ensemble.feature_cache.store import (
    CacheError,
    Entry,
    Shard,
    append_feats,
    write_skipped,
)
from espnet_ensemble.frontend_conf import FrontendConf

# What PyTorch's own allocator says on a CPU, and what oneDNN does.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "could not create a primitive",
    "could not execute a primitive",
)


class Wav(NamedTuple):
    """An utterance's samples, (samples,), and what to know them by."""

    utterance: str
    samples: torch.Tensor
    audio: Audio


@dataclass(frozen=True)
class ShardOptions:
    """How an archive is made.

    Attributes:
        member_conf: Arguments of a frontend with one upstream.
        storage: Type to store features in.
        batch_seconds: Seconds of speech, with padding, that the upstream gets at once,
            unless an utterance is longer.
        skip: Whether to leave out an utterance whose features cannot be had.
    """

    member_conf: dict[str, Any]
    storage: str
    batch_seconds: float
    skip: bool


class ShardExtractor:
    """Makes archives.

    Args:
        options: How.
        device: Where the upstream runs.
        report: Told the seconds of speech of each batch that is done.
    """

    def __init__(
        self, options: ShardOptions, device: str, report: Callable[[float], Any]
    ):
        self._options = options
        self._frontend = FrontendConf.parse(options.member_conf).build().to(device)
        self._device = device
        self._batch_samples = options.batch_seconds * self._frontend.fs
        self._report = report

    def __call__(self, shard: Shard) -> None:
        """Make an archive and its index.

        Raises:
            CacheError: If it cannot be written; also if an utterance's features cannot be
                had, unless these are to be skipped. It names the file.
        """
        # A worker that was taken for lost may still be writing the same archive.
        part = Path(f"{shard.ark}.{socket.gethostname()}.{os.getpid()}.tmp")
        entries: dict[str, Entry] = {}
        skipped: Table = {}
        try:
            with part.open("wb") as ark:
                for wavs in self._read_ahead(shard, skipped):
                    for wav, feats in self._extract(wavs, shard, skipped):
                        try:
                            place = self._append(ark, wav.utterance, feats)
                        except CacheError as error:
                            self._fail(wav.utterance, shard, error, skipped)
                        else:
                            entries[wav.utterance] = Entry(
                                *place, len(feats), wav.audio
                            )
            os.replace(part, shard.ark)
            write_skipped(shard.skipped, skipped)
            write_table(shard.index, {key: str(e) for key, e in entries.items()})
        except OSError as error:
            raise CacheError(f"{shard.ark}: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    def _append(self, ark, utterance: str, feats: torch.Tensor) -> tuple[int, int, int]:
        if not feats.isfinite().all():
            raise CacheError("expected finite features, found NaN or infinity")
        return append_feats(ark, utterance, feats.numpy(), self._options.storage)

    def _fail(
        self, utterance: str, shard: Shard, error: Exception, skipped: Table
    ) -> None:
        if not self._options.skip:
            raise CacheError(
                f"{utterance}: {shard.paths[utterance]}: {error}"
            ) from error
        skipped[utterance] = f"{shard.paths[utterance]}: {error}"

    def _read_ahead(self, shard: Shard, skipped: Table) -> Iterator[list[Wav]]:
        """Read the batches, one ahead of the one that the upstream works on."""
        with ThreadPoolExecutor(1) as reader:
            batches: deque = deque()
            for batch in self._batches(shard.num_samples):
                batches.append(reader.submit(self._read, batch, shard, skipped))
                if len(batches) > 1:
                    yield batches.popleft().result()
            yield from (batch.result() for batch in batches)

    def _batches(self, num_samples: dict[str, int]) -> list[list[str]]:
        """Group utterances of similar length, the longest first."""
        batches: list[list[str]] = []
        for utterance in sorted(num_samples, key=lambda key: (-num_samples[key], key)):
            longest = num_samples[batches[-1][0]] if batches else 0
            if batches and longest * (len(batches[-1]) + 1) <= self._batch_samples:
                batches[-1].append(utterance)
            else:
                batches.append([utterance])
        return batches

    def _read(self, batch: list[str], shard: Shard, skipped: Table) -> list[Wav]:
        wavs = []
        for utterance in batch:
            try:
                wavs.append(self._read_wav(utterance, shard))
            except AudioError as error:
                self._fail(utterance, shard, error, skipped)
        return wavs

    def _read_wav(self, utterance: str, shard: Shard) -> Wav:
        num_samples = shard.num_samples[utterance]
        samples, rate, audio = read_utterance(shard.paths[utterance])
        if (rate, len(samples)) != (self._frontend.fs, num_samples):
            raise AudioError(
                f"expected {num_samples} samples (utt2num_samples) at "
                f"{self._frontend.fs} Hz (fs of frontend_conf), found {len(samples)} at "
                f"{rate} Hz"
            )
        return Wav(utterance, torch.from_numpy(samples), audio)

    def _extract(
        self, wavs: list[Wav], shard: Shard, skipped: Table
    ) -> Iterator[tuple[Wav, torch.Tensor]]:
        """Run the upstream; on half of the batch at a time if the memory is too small.

        Yields:
            Each utterance, and its features, (frames, features), on the CPU.
        """
        if not wavs:
            return
        try:
            feats, num_frames = self._run(wavs)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            found = str(error)
        else:
            for wav, x, n in zip(wavs, feats, num_frames.tolist()):
                yield wav, x[:n]
            self._report(sum(len(wav.samples) for wav in wavs) / self._frontend.fs)
            return
        # Here, the error is gone, and with it the tensors that it held.
        if len(wavs) > 1:
            half = len(wavs) // 2
            yield from self._extract(wavs[:half], shard, skipped)
            yield from self._extract(wavs[half:], shard, skipped)
            return
        seconds = len(wavs[0].samples) / self._frontend.fs
        message = (
            f"no memory for the features of {seconds:.0f} s of speech; divide it into "
            f"segments, or extract with fewer processes (--nj): {found}"
        )
        self._fail(wavs[0].utterance, shard, CacheError(message), skipped)

    def _run(self, wavs: list[Wav]) -> tuple[torch.Tensor, torch.Tensor]:
        speech = pad_sequence([wav.samples for wav in wavs], batch_first=True)
        lengths = torch.tensor([len(wav.samples) for wav in wavs])
        hidden_states, num_frames = self._frontend.extract(
            speech.to(self._device), lengths.to(self._device)
        )
        return torch.cat(hidden_states[0], dim=2).cpu(), num_frames


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        message in str(error) for message in _OUT_OF_MEMORY
    )
