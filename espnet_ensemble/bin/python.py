#!/usr/bin/env python3
"""``espnet-ensemble-python``: ``python`` with the plugin loaded."""

import os
import sys
from pathlib import Path

import espnet_ensemble

AUTOLOAD = Path(espnet_ensemble.__file__).parent / "integrations" / "autoload"
# Python's options that take the next argument as their value, and those that end its own.
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
_WITHOUT_PYTHONPATH = set("EIS")


def _check(options: list[str]) -> None:
    """Refuse the options of ``python`` under which the plugin would not be loaded.

    Raises:
        SystemExit: If there is one.
    """
    words = iter(options)
    for option in words:
        if (
            not option.startswith("-")
            or option.startswith(("-c", "-m"))
            or option == "-"
        ):
            return
        if option in _WITH_VALUE:
            next(words, None)
        elif not option.startswith(("--", "-W", "-X")):
            ignored = _WITHOUT_PYTHONPATH.intersection(option)
            if ignored:
                sys.exit(
                    f"espnet-ensemble-python: -{ignored.pop()} keeps Python from loading "
                    "the plugin; use plain python, and `import espnet_ensemble`"
                )


def main(cmd: list[str] | None = None) -> None:
    """Become ``python`` with the same arguments, with the plugin loaded.

    Any process that is started from there has it too, since it inherits PYTHONPATH.

    Args:
        cmd: Arguments of ``python``; None: this process's.
    """
    cmd = sys.argv[1:] if cmd is None else cmd
    _check(cmd)
    inherited = os.environ.get("PYTHONPATH")
    paths = [str(AUTOLOAD)] + ([inherited] if inherited else [])
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.execv(sys.executable, [sys.executable, *cmd])


if __name__ == "__main__":
    main()
