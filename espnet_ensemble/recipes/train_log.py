"""``train.log``: what ESPnet's trainer says of each epoch of a CTC model."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_ensemble.files import PathLike, read_yaml

_EPOCH = re.compile(
    r" (?P<number>[0-9]+)epoch results: \[train\].*? loss=(?P<train_loss>[^,]+),"
    r".*\[valid\].*? cer_ctc=(?P<valid_cer>[^,]+),.*? loss=(?P<valid_loss>[^,]+),"
)
# What ESPnet says before the first epoch.
_START = {
    "warmup_steps": re.compile(r" Scheduler: \w+\(.*?warmup_steps=(\d+)"),
    "batches": re.compile(r" \[train\] mini-batch sizes summary: N-batch=(\d+)"),
    "max_epoch": re.compile(r" \d+/(\d+)epoch started"),
}
# In seconds, minutes, ..., as humanfriendly has it.
_SPAN = re.compile(r", time=(.+?), total_count=")
_UNITS = {
    "week": 604800,
    "day": 86400,
    "hour": 3600,
    "minute": 60,
    "second": 1,
}


@dataclass(frozen=True)
class Epoch:
    """Means over an epoch.

    Attributes:
        number: Counted from 1.
        train_loss: Of the training set, while it was learnt.
        valid_loss: Of the validation set.
        valid_cer: Character error rate of the validation set, greedy decoding, 0 to 1.
        seconds: How long training and validation took; None where the log does not say.
    """

    number: int
    train_loss: float
    valid_loss: float
    valid_cer: float
    seconds: float | None = None


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
                _seconds(match.string[match.start() :].partition("\n")[0]),
            )
            epochs[epoch.number] = epoch
    return [epochs[number] for number in sorted(epochs)]


def epoch_lines(
    log: Iterable[str], train_config: PathLike | None = None
) -> Iterator[str]:
    """Say of each epoch, as soon as its line comes, what people want to see.

    Args:
        log: Lines of a ``train.log``.
        train_config: The experiment's ``config.yaml``; it needs to be there when the
            first epoch begins. None: warm-up is not looked at.

    Yields:
        A line for each epoch: losses as they are written in the log, and the character
        error rate in percent. Before them, a warning if warm-up outlasts training.
    """
    start: dict[str, int] = {}
    for line in log:
        if train_config is not None and "max_epoch" not in start:
            found = {name: pattern.search(line) for name, pattern in _START.items()}
            start.update({name: int(m[1]) for name, m in found.items() if m})
            if start.keys() == _START.keys():
                yield from _warm_up(**start, config=read_yaml(train_config))
        match = _EPOCH.search(line)
        if match:
            number, train_loss, cer, valid_loss = match.groups()
            yield (
                f"  epoch {number}: train loss {train_loss}, valid loss {valid_loss}, "
                f"valid CER {100 * float(cer):.1f} %"
            )


def _warm_up(
    warmup_steps: int, batches: int, max_epoch: int, config: Mapping[str, Any]
) -> Iterator[str]:
    """Warn if the learning rate rises for longer than training takes."""
    batches = config.get("num_iters_per_epoch") or batches
    steps = max_epoch * batches // (config.get("accum_grad") or 1)
    if warmup_steps > steps:
        yield (
            f"  warning: the learning rate rises for {warmup_steps} steps (warmup_steps), "
            f"but training ends after {steps} ({max_epoch} epochs of {batches} batches), at "
            f'{100 * steps / warmup_steps:.0f} % of it. Set --asr_args "--scheduler_conf '
            f'warmup_steps={max(1, steps // 10)}", more epochs (max_epoch), or smaller '
            "batches (batch_bins)"
        )


def _seconds(line: str) -> float | None:
    spans = [_parse_span(span) for span in _SPAN.findall(line)]
    return sum(spans) if spans else None


def _parse_span(span: str) -> float:
    """Read a time such as "1 hour, 2 minutes and 3.5 seconds", in seconds."""
    parts = re.findall(r"([\d.]+) (week|day|hour|minute|second)s?", span)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _age(log: Path) -> int:
    """How many parts of a training came later: ESPnet moves train.log to train.1.log."""
    number = log.suffixes[0].removeprefix(".")
    return int(number) if number.isdecimal() else 0
