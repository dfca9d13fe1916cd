"""Labelled speech for fine-tuning: read, cut into batches, played at several speeds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torchaudio.functional import speed
from tqdm import tqdm
from transformers import BatchFeature, Wav2Vec2FeatureExtractor

from espnet_ensemble.data.audio import open_audio, read_audio
from espnet_ensemble.data.datadir import segments_of, validate
from espnet_ensemble.data.tables import DataError


@dataclass(frozen=True)
class LabelledSpeech:
    """The speech of an utterance, and what is said in it.

    Attributes:
        utt_id: The utterance's id.
        samples: (samples,), in [-1, 1]
        text: Words, separated by spaces.
    """

    utt_id: str
    samples: np.ndarray
    text: str


def read_labelled(data_dir: Path, fs: int) -> list[LabelledSpeech]:
    """Read the labelled speech of a Kaldi-style data directory.

    Returns:
        All utterances, sorted by length; half an hour is 0.1 GB.

    Raises:
        DataError: If the directory is not valid or has no wav.scp, or an utterance's
            audio is not readable or not at ``fs`` Hz.
    """
    tables = validate(data_dir, required=["wav.scp"])
    segments = segments_of(tables, tables["text"])
    utterances = []
    for utt_id, segment in tqdm(
        segments.items(), desc="read", unit="utt", mininterval=1
    ):
        entry = tables["wav.scp"][segment.recording]
        try:
            with open_audio(entry) as sound:
                if sound.samplerate != fs:
                    raise DataError(f"expected {fs} Hz, found {sound.samplerate} Hz")
                samples = read_audio(sound, segment)
        except DataError as error:
            raise DataError(f"{data_dir}: {utt_id}: {entry}: {error}") from error
        utterances.append(LabelledSpeech(utt_id, samples, tables["text"][utt_id]))
    return sorted(utterances, key=lambda utterance: len(utterance.samples))


def make_batches(
    utterances: list[LabelledSpeech], max_samples: float
) -> list[list[LabelledSpeech]]:
    """Cut utterances, sorted by length, into batches.

    Returns:
        Batches of at most ``max_samples``, padding included, or of one utterance.
    """
    batches: list[list[LabelledSpeech]] = [[]]
    for utterance in utterances:
        longest = len(utterance.samples)
        if batches[-1] and (len(batches[-1]) + 1) * longest > max_samples:
            batches.append([])
        batches[-1].append(utterance)
    return batches


def pick_batch(step: int, num_batches: int, seed: int) -> int:
    """Choose a step's batch: in each epoch all of them, in another order.

    Example:
        >>> sorted(pick_batch(step, 4, seed=0) for step in range(4, 8))
        [0, 1, 2, 3]
    """
    epoch, index = divmod(step, num_batches)
    return int(np.random.default_rng([seed, epoch]).permutation(num_batches)[index])


def perturb_speed(
    utterance: LabelledSpeech,
    factors: Sequence[float],
    fs: int,
    rng: np.random.Generator,
) -> LabelledSpeech:
    """Play an utterance faster or slower, and so higher or lower: in another voice.

    Args:
        utterance: Left as it is.
        factors: One of them is drawn.
        fs: The utterance's sample rate, in Hz.
        rng: Draws the factor.
    """
    factor = rng.choice(factors)
    if factor == 1:
        return utterance
    samples, _ = speed(torch.from_numpy(utterance.samples), fs, factor)
    return replace(utterance, samples=samples.numpy())


def make_inputs(
    extractor: Wav2Vec2FeatureExtractor, batch: list[LabelledSpeech]
) -> BatchFeature:
    """Make what the model takes: waveforms and their padding mask, (batch, samples)."""
    return extractor(
        [utterance.samples for utterance in batch],
        sampling_rate=extractor.sampling_rate,
        padding=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
