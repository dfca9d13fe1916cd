"""``train.log``: what ESPnet's trainer says of each epoch of a CTC model."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from espnet_ensemble.files import PathLike

_EPOCH = re.compile(
    r" (?P<number>[0-9]+)epoch results: \[train\].*? loss=(?P<train_loss>[^,]+),"
    r".*\[valid\].*? cer_ctc=(?P<valid_cer>[^,]+),.*? loss=(?P<valid_loss>[^,]+),"
)


@dataclass(frozen=True)
class Epoch:
    """Means over an epoch.

    Attributes:
        number: Counted from 1.
        train_loss: Of the training set, while it was learnt.
        valid_loss: Of the validation set.
        valid_cer: Character error rate of the validation set, greedy decoding, 0 to 1.
    """

    number: int
    train_loss: float
    valid_loss: float
    valid_cer: float


def read_epochs(exp_dir: PathLike) -> list[Epoch]:
    """Read the learning curve from the logs of training, also of its earlier parts.

    Returns:
        The epochs by number; of one that was trained twice, the later.
    """
    epochs = {}
    for log in sorted(Path(exp_dir).glob("train*.log"), key=_age, reverse=True):
        for match in _EPOCH.finditer(log.read_text(encoding="utf-8")):
            epoch = Epoch(
                int(match["number"]),
                float(match["train_loss"]),
                float(match["valid_loss"]),
                float(match["valid_cer"]),
            )
            epochs[epoch.number] = epoch
    return [epochs[number] for number in sorted(epochs)]


def epoch_lines(log: Iterable[str]) -> Iterator[str]:
    """Say of each epoch, as soon as its line comes, what people want to see.

    Args:
        log: Lines of a ``train.log``.

    Yields:
        A line for each epoch: losses as they are written in the log, and the character
        error rate in percent.
    """
    for line in log:
        match = _EPOCH.search(line)
        if match:
            number, train_loss, cer, valid_loss = match.groups()
            yield (
                f"  epoch {number}: train loss {train_loss}, valid loss {valid_loss}, "
                f"valid CER {100 * float(cer):.1f} %"
            )


def _age(log: Path) -> int:
    """How many parts of a training came later: ESPnet moves train.log to train.1.log."""
    number = log.suffixes[0].removeprefix(".")
    return int(number) if number.isdecimal() else 0
