"""Speech for pre-training, and the units that HuBERT and WavLM predict."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchaudio
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModel

from espnet_ensemble.data.audio import open_audio
from espnet_ensemble.data.tables import DataError, read_table
from espnet_ensemble.files import atomic_write

FS = 16000
# Of the convolutional extractors of all three families.
HOP, RECEPTIVE_FIELD = 320, 400
_BLOCK_FRAMES = 1000
_KMEANS_FRAMES = 200_000


@dataclass(frozen=True)
class Windows:
    """Parts of the speech, all of one length.

    Attributes:
        wavs: (batch, samples), in [-1, 1]
        first_frames: The frame of the whole speech that each begins with, (batch,).
    """

    wavs: Tensor
    first_frames: np.ndarray

    def units(self, units: np.ndarray) -> Tensor:
        """Cut the units of the whole speech, (frames,): (batch, frames)."""
        span = np.arange(num_frames(self.wavs.size(1)))
        return torch.from_numpy(units[self.first_frames[:, None] + span])


def read_speech(data_dir: Path) -> np.ndarray:
    """Join the recordings of a data directory, in the order of its wav.scp.

    Pre-training cuts windows from anywhere in it: all of one length, so that nothing is
    padded. Five hours are 0.6 GB.

    Returns:
        (samples,), int16

    Raises:
        DataError: If there is no recording, or one is not mono at 16 kHz.
    """
    entries = read_table(data_dir / "wav.scp").values()
    if not entries:
        raise DataError(f"{data_dir}/wav.scp: expected recordings, found none")
    recordings = []
    for entry in tqdm(entries, desc="read", unit="rec", mininterval=1):
        with open_audio(entry) as sound:
            if (sound.samplerate, sound.channels) != (FS, 1):
                raise DataError(
                    f"{entry}: expected mono at {FS} Hz, found {sound.channels} "
                    f"channel(s) at {sound.samplerate} Hz"
                )
            recordings.append(sound.read(dtype="int16"))
    return np.concatenate(recordings)


def num_frames(num_samples: int) -> int:
    """Count the frames that a model gives for so many samples."""
    return (num_samples - RECEPTIVE_FIELD) // HOP + 1


def draw_windows(
    speech: np.ndarray, batch_size: int, seconds: float, rng: np.random.Generator
) -> Windows:
    """Cut windows from anywhere in the speech.

    Args:
        speech: (samples,), int16
        batch_size: Number of windows.
        seconds: Length of a window.
        rng: Decides where they are.

    Raises:
        DataError: If there is less speech than one window.
    """
    length = int(seconds * FS)
    if length > len(speech):
        raise DataError(
            f"expected at least {seconds} s of speech, found {len(speech) / FS:.1f} s"
        )
    starts = rng.integers((len(speech) - length) // HOP + 1, size=batch_size)
    windows = np.stack([speech[HOP * s : HOP * s + length] for s in starts])
    return Windows(torch.from_numpy(windows.astype(np.float32) / 32768), starts)


def normalize(wavs: Tensor) -> Tensor:
    """Give each waveform zero mean and unit variance, as inference does.

    Args:
        wavs: (batch, samples)

    Returns:
        (batch, samples)
    """
    mean, var = wavs.mean(dim=1, keepdim=True), wavs.var(dim=1, keepdim=True)
    return (wavs - mean) / (var + 1e-7).sqrt()


def make_units(
    speech: np.ndarray, features: Callable[[Tensor], Tensor], num_units: int, seed: int
) -> np.ndarray:
    """Cluster the frames of speech: each gets a unit.

    Args:
        speech: (samples,), int16
        features: Gives (frames, feature) for (samples,).
        num_units: Number of clusters.
        seed: Decides which frames k-means sees, and where it starts.

    Returns:
        (frames,), integers below ``num_units``
    """
    # Half precision: five hours of hidden features are 0.4 GB.
    num_blocks = math.ceil(num_frames(len(speech)) / _BLOCK_FRAMES)
    progress = tqdm(_cut(speech), total=num_blocks, desc="features", mininterval=1)
    blocks = [features(block).numpy().astype(np.float16) for block in progress]
    share = _KMEANS_FRAMES / sum(map(len, blocks))
    rng = np.random.default_rng(seed)
    seen = [block[rng.random(len(block)) < share] for block in blocks]
    seen = np.concatenate(seen).astype(np.float32)
    mean, std = seen.mean(axis=0), seen.std(axis=0) + 1e-5
    kmeans = MiniBatchKMeans(num_units, batch_size=10_000, n_init=5, random_state=seed)
    kmeans.fit((seen - mean) / std)
    units = [
        kmeans.predict((block.astype(np.float32) - mean) / std) for block in blocks
    ]
    return np.concatenate(units).astype(np.int64)


def _cut(speech: np.ndarray) -> Iterator[Tensor]:
    """Cut (samples,) into blocks whose frames are those of the whole, in order."""
    total = num_frames(len(speech))
    for first in range(0, total, _BLOCK_FRAMES):
        frames = min(_BLOCK_FRAMES, total - first)
        end = (first + frames - 1) * HOP + RECEPTIVE_FIELD
        yield torch.from_numpy(speech[first * HOP : end].astype(np.float32) / 32768)


def mfcc(wav: Tensor) -> Tensor:
    """Compute 13 MFCCs with their first and second derivatives, in the models' frames.

    Args:
        wav: (samples,), 16 kHz

    Returns:
        (frames, 39)
    """
    static = torchaudio.compliance.kaldi.mfcc(
        wav[None] * 32768,
        sample_frequency=FS,
        frame_length=1000 * RECEPTIVE_FIELD / FS,
        frame_shift=1000 * HOP / FS,
        dither=0,
    ).T
    first = torchaudio.functional.compute_deltas(static)
    second = torchaudio.functional.compute_deltas(first)
    return torch.cat([static, first, second]).T


class HiddenFeatures:
    """Features of a pre-trained model's layer, whose clusters are better units than MFCCs'.

    Args:
        folder: The model, in transformers format.
        layer: Counted as in S3PRL: 0 is the input to the first transformer layer.
        device: Where it runs.
    """

    def __init__(self, folder: str, layer: int, device: str):
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32)
        self.model.eval().to(device)
        self.layer = layer

    @torch.no_grad()
    def __call__(self, wav: Tensor) -> Tensor:
        """Run the model on one waveform.

        Args:
            wav: (samples,), 16 kHz

        Returns:
            (frames, feature)
        """
        wav = normalize(wav[None]).to(self.model.device)
        return (
            self.model(wav, output_hidden_states=True)
            .hidden_states[self.layer][0]
            .cpu()
        )


def load_or_make_units(
    path: Path,
    speech: np.ndarray,
    features: Callable[[], Callable[[Tensor], Tensor]],
    num_units: int,
    seed: int,
) -> np.ndarray:
    """Read the units of speech from a file; make and keep them if it does not exist.

    Args:
        path: The file.
        speech: (samples,), int16
        features: Gives what :func:`make_units` takes; not called if there is the file.
        num_units: Number of clusters.
        seed: Of the clustering.

    Returns:
        (frames,), integers below ``num_units``

    Raises:
        DataError: If the file's units are not those of this speech.
    """
    if not path.exists():
        units = make_units(speech, features(), num_units, seed)
        with atomic_write(path) as part, part.open("wb") as file:
            np.save(file, units)
    units = np.load(path)
    if len(units) != num_frames(len(speech)):
        raise DataError(
            f"{path}: expected {num_frames(len(speech))} units, one per frame of the "
            f"speech, found {len(units)}; remove it if the speech has changed"
        )
    return units
