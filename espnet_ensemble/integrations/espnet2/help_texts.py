"""ESPnet's texts of help that its own ``--help`` cannot print, mended from outside."""

import argparse
from types import ModuleType

import wrapt


def print_percent_signs(command: ModuleType) -> None:
    """Let the parser of a command of ESPnet's print its help.

    In ESPnet 202611, that of ``asr_inference`` has percentages in it, which argparse takes
    for the beginning of a placeholder and fails.

    Args:
        command: The module with ``get_parser``.
    """
    wrapt.wrap_function_wrapper(command, "get_parser", _get_parser)


def _get_parser(get_parser, instance, args, kwargs) -> argparse.ArgumentParser:
    parser = get_parser(*args, **kwargs)
    for action in parser._actions:
        if action.help and not _can_be_filled(action):
            action.help = action.help.replace("%", "%%")
    return parser


def _can_be_filled(action: argparse.Action) -> bool:
    try:
        action.help % {**vars(action), "prog": ""}  # type: ignore[operator]
    except (TypeError, ValueError):
        return False
    return True
