"""Options of ``asr.sh`` that are several words, for another program."""

import shlex
from collections.abc import Sequence

from espnet_ensemble.errors import EnsembleError


def split_words(option: str, value: str) -> list[str]:
    """Divide the value of an option into words, as a shell does it: quotes hold them.

    Args:
        option: Its name, for the message.
        value: What the user gave.

    Raises:
        EnsembleError: If a quotation mark has no second.

    Example:
        >>> split_words("asr_args", "--max_epoch 3 --optim_conf '{lr: 0.1}'")
        ['--max_epoch', '3', '--optim_conf', '{lr: 0.1}']
    """
    try:
        return shlex.split(value)
    except ValueError as error:
        raise EnsembleError(
            f"--{option} {value}: expected words as a shell takes them, found: {error}"
        ) from error


def frontend_arguments(words: Sequence[str]) -> list[str]:
    """Of options of ``asr_train`` and their values, those about the frontend.

    Example:
        >>> frontend_arguments("--max_epoch 3 --frontend_conf fs=8k".split())
        ['--frontend_conf', 'fs=8k']
    """
    found: list[str] = []
    is_ours = False
    for word in words:
        if word.startswith("--"):
            is_ours = word.partition("=")[0] in ("--frontend", "--frontend_conf")
        found += [word] * is_ours
    return found
