"""What layers know of the text: a linear layer, trained with CTC for characters.

A probe in the sense of G. Alain and Y. Bengio, "Understanding intermediate layers using linear
classifier probes", 2016: all that it can do beyond the features is to weigh them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from torch.nn.functional import ctc_loss
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.analysis.bootstrap import Interval, draw_rates, interval
from espnet_ensemble.analysis.features import Frames, LayerFeatures, map_frames
from espnet_ensemble.analysis.sample import Sample, vocabulary
from espnet_ensemble.decoding.greedy import best_paths


@dataclass(frozen=True)
class ProbeConf:
    """How probes are trained.

    Attributes:
        epochs: How often the speech is seen.
        lr: Largest learning rate, of 192 features; of more, it falls with their square root.
        batch_size: Utterances at a time.
        seed: Of their order.
        device: Where it is done.
    """

    epochs: int = 8
    lr: float = 0.05
    batch_size: int = 16
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class ProbeResult:
    """How well a probe recognises the utterances that it has not seen.

    Attributes:
        labels: The layers that it has got, side by side.
        errors: Wrong characters of each utterance.
        lengths: Characters of each.
        loss: Mean CTC loss, in nats for each character.
    """

    labels: list[str]
    errors: list[int]
    lengths: list[int]
    loss: float

    @property
    def cer(self) -> float:
        """Character error rate, in percent."""
        return 100 * sum(self.errors) / sum(self.lengths)

    @property
    def interval(self) -> Interval:
        """Where that lies with 95 %, by the bootstrap over utterances."""
        return interval(_rates([self])[:, 0])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Gain:
    """How many fewer errors a probe makes than another, in percent of the other's.

    Attributes:
        percent: Above 0, it is better.
        interval: Where that lies with 95 %, of the same draws of utterances for both.
    """

    percent: float
    interval: Interval


def gain(probe: ProbeResult, baseline: ProbeResult) -> Gain:
    """Compare two probes on the same utterances."""
    rates = _rates([probe, baseline])
    # A draw without errors of the baseline is of no use.
    rates = rates[rates[:, 1] > 0]
    if not len(rates):
        return Gain(0.0, Interval(0.0, 0.0))
    percent = 100 * (1 - probe.cer / baseline.cer)
    return Gain(percent, interval(100 * (1 - rates[:, 0] / rates[:, 1])))


def _rates(probes: Sequence[ProbeResult]) -> np.ndarray:
    errors = np.array([probe.errors for probe in probes]).T
    return draw_rates(errors, np.array(probes[0].lengths), draws=2000)


def run_probe(
    layers: Sequence[LayerFeatures], sample: Sample, conf: ProbeConf = ProbeConf()
) -> ProbeResult:
    """Train a probe on layers side by side, and see what it makes of what was held out.

    Args:
        layers: The layers.
        sample: The speech.
        conf: How.
    """
    tokens = vocabulary(sample.texts.values())
    targets = {
        key: torch.tensor([tokens[character] for character in text])
        for key, text in sample.texts.items()
    }
    # Nothing can be aligned to fewer frames than characters.
    train, test = (
        [key for key in keys if _fits(key, layers[0], targets)]
        for keys in (sample.train, sample.test)
    )
    with map_frames(layers, [*train, *test], train) as frames:
        probe = _train(frames, train, targets, len(tokens) + 1, conf)
        return _judge(probe, frames, test, targets, [x.label for x in layers], conf)


def _fits(key: str, layer: LayerFeatures, targets: Mapping[str, torch.Tensor]) -> bool:
    try:
        return layer.num_frames(key) >= len(targets[key])
    except KeyError:  # skipped by the extraction
        return False


def _train(
    frames: Frames,
    train: Sequence[str],
    targets: Mapping[str, torch.Tensor],
    num_tokens: int,
    conf: ProbeConf,
) -> torch.nn.Linear:
    size = frames.values.shape[1]
    probe = torch.nn.Linear(size, num_tokens).to(conf.device)
    torch.nn.init.zeros_(probe.weight)
    torch.nn.init.zeros_(probe.bias)
    batches = _batches(frames, train, conf.batch_size)
    lr = conf.lr * (192 / size) ** 0.5
    optimizer = torch.optim.Adam(probe.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=conf.epochs * len(batches) + 1, pct_start=0.2
    )
    order = np.random.default_rng(conf.seed)
    for _ in range(conf.epochs):
        for number in order.permutation(len(batches)):
            loss = _loss(probe, frames, batches[number], targets, conf.device)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return probe


def _batches(frames: Frames, keys: Sequence[str], size: int) -> list[list[str]]:
    """Utterances of about the same length."""

    def length(key: str) -> int:
        first, last = frames.places[key]
        return last - first

    ordered = sorted(keys, key=length)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def _log_probs(
    probe: torch.nn.Linear, frames: Frames, keys: Sequence[str], device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    feats = [frames.of(key) for key in keys]
    lengths = torch.tensor([len(x) for x in feats])
    padded = pad_sequence(feats, batch_first=True).to(device)
    return probe(padded).log_softmax(dim=-1), lengths


def _loss(
    probe: torch.nn.Linear,
    frames: Frames,
    keys: Sequence[str],
    targets: Mapping[str, torch.Tensor],
    device: str,
) -> torch.Tensor:
    """For each character."""
    log_probs, lengths = _log_probs(probe, frames, keys, device)
    texts = [targets[key] for key in keys]
    text_lengths = torch.tensor([len(text) for text in texts])
    loss = ctc_loss(
        log_probs.transpose(0, 1),
        torch.cat(texts).to(device),
        lengths,
        text_lengths,
        reduction="sum",
        zero_infinity=True,
    )
    return loss / int(text_lengths.sum())


@torch.no_grad()
def _judge(
    probe: torch.nn.Linear,
    frames: Frames,
    test: Sequence[str],
    targets: Mapping[str, torch.Tensor],
    labels: list[str],
    conf: ProbeConf,
) -> ProbeResult:
    errors, lengths, loss = {}, {}, 0.0
    for batch in _batches(frames, test, conf.batch_size):
        log_probs, num_frames = _log_probs(probe, frames, batch, conf.device)
        paths = best_paths(log_probs, num_frames.to(conf.device))
        for key, path in zip(batch, paths, strict=True):
            text = targets[key].tolist()
            errors[key] = Levenshtein.distance(list(path.token_ids), text)
            lengths[key] = len(text)
        of_batch = sum(lengths[key] for key in batch)
        loss += of_batch * float(_loss(probe, frames, batch, targets, conf.device))
    return ProbeResult(
        labels,
        [errors[key] for key in test],
        [lengths[key] for key in test],
        loss / sum(lengths.values()),
    )
