import argparse
from types import ModuleType

import pytest

from espnet_ensemble.integrations.espnet2.help_texts import print_percent_signs

HELP = {
    "--wer": "3.19% CER as recorded, 50 % less",
    "--beam": "width, %(default)s of %(type)s",
    "--share": "100%% of %(default)s",
    "--quiet": argparse.SUPPRESS,
    "--none": None,
}


@pytest.fixture
def command():
    """A command as those of ESPnet are, one of whose texts argparse cannot print."""

    def get_parser():
        parser = argparse.ArgumentParser("command")
        for option, text in HELP.items():
            parser.add_argument(option, default=7, type=int, help=text)
        return parser

    module = ModuleType("command")
    module.get_parser = get_parser
    return module


def test_texts_that_cannot_be_printed_are_mended(command):
    print_percent_signs(command)
    shown = command.get_parser().format_help()
    assert "3.19% CER as recorded, 50 % less" in shown
    assert "--quiet" not in shown


def test_other_texts_stay(command):
    print_percent_signs(command)
    shown = command.get_parser().format_help()
    assert "width, 7 of int" in shown and "100% of 7" in shown
