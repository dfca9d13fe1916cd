"""What cached features are: of which upstream, and of which audio."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise, starmap
from operator import le
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_ensemble.data.audio import AudioError, open_audio, read_audio
from espnet_ensemble.data.datadir import check, read_streams
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.files import FileState, PathLike
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.layers import Layer
from espnet_ensemble.upstream.base import Upstream
from espnet_ensemble.upstream.fingerprint import probe_difference
from espnet_ensemble.upstream.origin import find_snapshot

#: State of a file as an array has it: size, and time in ns since 1970.
STATE = np.dtype([("num_bytes", "<i8"), ("mtime_ns", "<i8")])


def check_frozen(conf: FrontendConf) -> None:
    """Refuse a frontend whose upstreams train.

    Raises:
        CacheError: If they do.
    """
    if not conf.frozen:
        raise CacheError(
            "frontend_conf: frozen: expected true, found false: features of upstreams "
            "that train change with every step"
        )


@dataclass(frozen=True)
class FeatureIdentity:
    """What an upstream's features are, however they are stored.

    Two are equal if the features are: the names of the upstream and the layer may differ,
    as the weights and the resolved layers say what they are.

    Attributes:
        upstream: Name of the upstream.
        layer: Its ``layer``, as in ``frontend_conf``.
        layers: The hidden states that this means; they are concatenated.
        extra_conf: As in ``frontend_conf``.
        fingerprint: Hash of the upstream's weights, hexadecimal.
        feature_size: Features per frame, of all layers together.
        fs: Sample rate that the upstream expects, in Hz.
        hop_length: Samples at that rate from one frame to the next.
        speech_fs: Sample rate of the audio, in Hz.
        dtype: Type that the upstream computed in.
        probe: What :meth:`~espnet_ensemble.upstream.base.Upstream.probe` gave; None: it is
            not known, in a cache of version 0.1.
        revision: Commit of the hub id that was loaded; None: it is none, or not known. It is
            for the reader: what the weights are is in ``fingerprint``.
    """

    upstream: str = field(compare=False)
    layer: Layer = field(compare=False)
    layers: list[int]
    extra_conf: dict[str, Any] | None
    fingerprint: str
    feature_size: int
    fs: int
    hop_length: int
    speech_fs: int
    dtype: str
    probe: list[float] | None = field(default=None, compare=False)
    revision: str | None = field(default=None, compare=False)

    @classmethod
    def load(
        cls, conf: FrontendConf
    ) -> "tuple[FeatureIdentity, list[FeatureIdentity]]":
        """Load an upstream to see what its features are, and those of each layer alone.

        Args:
            conf: A frontend with this upstream alone.

        Raises:
            CacheError: If the upstream is not frozen.
            EnsembleError: If it cannot be loaded.
        """
        check_frozen(conf)
        (upstream,) = conf.load_parts()["upstreams"]
        return cls.of(upstream, conf), cls.of_layers(upstream, conf)

    @classmethod
    def of(cls, upstream: Upstream, conf: FrontendConf) -> "FeatureIdentity":
        """Say what the features of an upstream are.

        Args:
            upstream: The upstream, as ``conf`` loads it.
            conf: A frontend with this upstream alone.
        """
        (upstream_conf,) = conf.upstreams
        snapshot = find_snapshot(upstream_conf, conf.download_dir)
        return cls(
            upstream=upstream.name,
            layer=upstream_conf.layer,
            layers=list(upstream.layers),
            extra_conf=upstream_conf.extra_conf,
            fingerprint=upstream.fingerprint.hex(),
            feature_size=upstream.feature_size * len(upstream.layers),
            fs=upstream.fs,
            hop_length=upstream.hop_length,
            speech_fs=conf.fs,
            dtype=conf.dtype,
            probe=_round(upstream.probe()),
            revision=snapshot.name if snapshot else upstream_conf.revision,
        )

    @classmethod
    def of_layers(
        cls, upstream: Upstream, conf: FrontendConf
    ) -> "list[FeatureIdentity]":
        """Say what the features of each of an upstream's layers are.

        Args:
            upstream: The upstream, as ``conf`` loads it.
            conf: A frontend with this upstream alone.

        Returns:
            For each hidden state what :meth:`of` says where it is the only one.
        """
        (upstream_conf,) = conf.upstreams
        whole = cls.of(upstream, conf)
        all_layers = upstream_conf.layer == "weighted_sum"
        return [
            replace(
                whole,
                layer="last" if all_layers and layer == max(whole.layers) else layer,
                layers=[layer],
                feature_size=upstream.feature_size,
                probe=_round(probe),
            )
            for layer, probe in zip(whole.layers, upstream.layer_probes(), strict=True)
        ]

    @property
    def tag(self) -> str:
        """A readable name that tells upstream, layer and weights apart."""
        # Through abspath: a folder may be given as "." or with a slash at the end.
        name = os.path.basename(os.path.abspath(self.upstream))
        layer = self.layer if isinstance(self.layer, (str, int)) else self.layers
        if isinstance(layer, list):
            layer = "_".join(map(str, layer))
        return re.sub(r"[^\w.-]", "_", f"{name}-{layer}-{self.fingerprint[:8]}")

    def difference(self, found: "FeatureIdentity") -> str | None:
        """The first difference to others, for a message; None if there is none."""
        for key in (f.name for f in fields(self) if f.compare):
            if getattr(self, key) != getattr(found, key):
                return (
                    f"{key}: expected {getattr(self, key)!r}, found "
                    f"{getattr(found, key)!r}"
                )
        if self.probe is None or found.probe is None:
            return None
        percent = probe_difference(torch.tensor(found.probe), torch.tensor(self.probe))
        return percent and (
            f"the weights are the same, but the features differ by {percent}: the "
            "configuration (config.json, extra_conf) or preprocessing (do_normalize) of "
            f"{self.upstream} has changed since"
        )


def _round(probe: torch.Tensor) -> list[float]:
    return [float(f"{x:.6g}") for x in probe.tolist()]


@dataclass(frozen=True)
class DataSet:
    """A data directory as training reads it: one audio file per utterance.

    Attributes:
        data_dir: The directory.
        paths: utterance's id -> audio file.
        num_samples: utterance's id -> its number of samples.
    """

    data_dir: Path
    paths: dict[str, str]
    num_samples: dict[str, int]

    @cached_property
    def audio(self) -> "AudioStates":
        """What its audio files are now, for all who compare features with them."""
        return AudioStates(self.paths)

    @property
    def name(self) -> str:
        """What the data set is called: the last part of its path."""
        path = self.data_dir.absolute()
        return path.resolve().name if path.name == ".." else path.name

    @classmethod
    def read(cls, data_dir: PathLike) -> "DataSet":
        """Read a data directory such as ``dump/raw/train``.

        Raises:
            DataError: If it is not valid, or not made by
                :func:`espnet_ensemble.data.formatting.format_audio` or like that.
        """
        data_dir = Path(data_dir)
        if not data_dir.resolve().name:
            raise DataError(f"{data_dir}: expected a folder with a name")
        check(data_dir, need_text=False, required=("wav.scp", "utt2num_samples"))
        # The rest of it, transcripts above all, need not be in memory.
        tables = read_streams(data_dir)
        paths = dict(tables["wav.scp"])
        commands = [key for key, path in paths.items() if path[-1] == "|"]
        if "segments" in tables or commands:
            found = f"a command: {commands[0]!r}" if commands else "segments"
            raise DataError(
                f"{data_dir}: expected a file per utterance, found {found}; "
                "format_wav_scp makes the files"
            )
        num_samples = {key: int(value) for key, value in tables["utt2num_samples"]}
        return cls(data_dir, paths, num_samples)


@dataclass(frozen=True)
class AudioIdentity:
    """What an utterance's audio is recognised by.

    Attributes:
        digest: Hash of the samples and their rate.
        file: State of the file that they were read from. A file that is still in this
            state is not read again to see that its audio is the same.
    """

    digest: str
    file: FileState

    @classmethod
    def parse(cls, value: str) -> "AudioIdentity":
        """Read what ``str`` gives.

        Raises:
            ValueError: If it is something else.

        Example:
            >>> audio = AudioIdentity("5b1d", FileState(32044, 1700000000000000000))
            >>> str(audio)
            '5b1d 32044 1700000000000000000'
            >>> AudioIdentity.parse(str(audio)) == audio
            True
        """
        digest, num_bytes, mtime_ns = value.split()
        return cls(digest, FileState(int(num_bytes), int(mtime_ns)))

    def __str__(self) -> str:
        return f"{self.digest} {self.file.num_bytes} {self.file.mtime_ns}"


class AudioStates:
    """Of audio files, their state and hash: each is looked at, or read, once for all.

    Args:
        paths: utterance's id -> audio file.

    Attributes:
        paths: They, sorted by the id.
    """

    def __init__(self, paths: Mapping[str, str]):
        is_sorted = all(starmap(le, pairwise(paths)))
        self.paths = paths if is_sorted else dict(sorted(paths.items()))
        self._digests: dict[str, str] = {}

    @cached_property
    def ids(self) -> np.ndarray:
        """Ids of the utterances, sorted, in UTF-8."""
        return encode_ids(self.paths)

    @cached_property
    def states(self) -> np.ndarray:
        """Of each utterance, in this order, the file's state: :data:`STATE`.

        A file that is not there has no byte, and the time -1.
        """
        states = map(_state_or_none, self.paths.values())
        return np.fromiter(states, STATE, len(self.paths))

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {utt_id: row for row, utt_id in enumerate(self.paths)}

    def has(self, utt_id: str, audio: AudioIdentity) -> bool:
        """Whether an utterance's file has this audio.

        Raises:
            AudioError: If it cannot be read.
        """
        state = FileState(*self.states[self._rows[utt_id]].item())
        return audio.file == state or self.digest(utt_id) == audio.digest

    def digest(self, utt_id: str) -> str:
        """Read an utterance's file, once, for the hash of its samples.

        Raises:
            AudioError: If it cannot be read.
        """
        if utt_id not in self._digests:
            self._digests[utt_id] = read_wav(self.paths[utt_id]).identity.digest
        return self._digests[utt_id]


def encode_ids(utt_ids: Iterable[str]) -> np.ndarray:
    """Ids as an array of UTF-8, which sorts as their strings do."""
    return np.array([utt_id.encode() for utt_id in utt_ids], dtype=bytes)


@dataclass(frozen=True)
class Wav:
    """The audio of a mono file.

    Attributes:
        samples: In [-1, 1], (samples,), float32.
        fs: Their rate, in Hz.
        identity: What to know them by.
    """

    samples: np.ndarray
    fs: int
    identity: AudioIdentity


def read_wav(path: PathLike) -> Wav:
    """Read a mono file.

    Raises:
        AudioError: If it cannot be read, has several channels, or a sample is not finite.
    """
    try:
        with open_audio(str(path)) as sound:
            samples, fs = read_audio(sound), sound.samplerate
    except OSError as error:
        raise AudioError(f"expected a file, found {error.strerror}") from error
    digest = hashlib.sha256(f"{fs} ".encode())
    digest.update(np.ascontiguousarray(samples, "<f4").data)
    return Wav(samples, fs, AudioIdentity(digest.hexdigest()[:32], _state(path)))


def _state_or_none(path: str) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except OSError:
        return 0, -1
    return stat.st_size, stat.st_mtime_ns


def _state(path: PathLike) -> FileState:
    try:
        return FileState.of(path)
    except OSError as error:
        raise AudioError(f"expected a file, found {error.strerror}") from error
