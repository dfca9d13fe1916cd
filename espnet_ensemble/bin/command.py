"""What all commands share: how they are called, and how an error becomes a message."""

import argparse
import io
import logging
import os
import select
import sys
from collections.abc import Callable
from typing import Any

from espnet_ensemble.errors import EnsembleError


def make_parser(
    verb: str,
    description: str,
    cls: type[argparse.ArgumentParser] = argparse.ArgumentParser,
    **options: Any,
) -> argparse.ArgumentParser:
    """Make the parser of ``espnet-ensemble <verb>``.

    Args:
        verb: What it is called.
        description: The docstring of its module; line breaks stay.
        cls: Class of the parser: another one reads options from a file, too.
        options: Of :class:`argparse.ArgumentParser`.
    """
    options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
    return cls(prog=f"espnet-ensemble {verb}", description=description, **options)


def run(
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace], None],
    cmd: list[str] | None = None,
) -> None:
    """Parse options and do the work of a command.

    What the user can mend ends in a message on standard error and exit status 1, and so
    does Ctrl-C, with status 130. A reader of standard output may leave early, as
    ``head`` does.

    Args:
        parser: The command's.
        work: Gets the options.
        cmd: The words of the command; None: this process's.
    """
    name = parser.prog.removeprefix("espnet-ensemble ")
    try:
        work(parser.parse_args(cmd))
    except (EnsembleError, OSError) as error:
        if not isinstance(error, BrokenPipeError) or _has_reader():
            parser.exit(1, f"{name}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{name}: interrupted\n")
    finally:
        _flush()


def show_log(layout: str = "%(message)s") -> None:
    """Print what the library logs, where that is for the user, too.

    Args:
        layout: Of a line, as Python's ``logging`` takes it.
    """
    logging.basicConfig(format=layout)
    logging.getLogger("espnet_ensemble").setLevel(logging.INFO)


def _has_reader() -> bool:
    """Whether somebody still reads what is printed, where that goes into a pipe."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), select.POLLOUT)
    except io.UnsupportedOperation:  # it is no file
        return True
    return not any(events & select.POLLERR for _, events in poll.poll(0))


def _flush() -> None:
    """Hand on what was printed; without a reader, drop it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes again at its end, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
