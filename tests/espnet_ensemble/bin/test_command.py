import os
import signal
import subprocess
import sys

import pytest

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.errors import EnsembleError


@pytest.fixture
def parser():
    parser = make_parser("greet", "Greet people.\n\n  one\n  two")
    parser.add_argument("name")
    return parser


def raising(error):
    def work(args):
        raise error

    return work


def test_work_gets_the_options(parser, capsys):
    run(parser, lambda args: print("hello", args.name), ["you"])
    assert capsys.readouterr().out == "hello you\n"


def test_without_words_those_of_the_process_count(parser, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["greet.py", "me"])
    run(parser, lambda args: print("hello", args.name))
    assert capsys.readouterr().out == "hello me\n"


@pytest.mark.parametrize(
    "error,status,message",
    [
        (EnsembleError("x: expected 1, found 2"), 1, "greet: x: expected 1, found 2\n"),
        (OSError(28, "No space", "x"), 1, "greet: [Errno 28] No space: 'x'\n"),
        (BrokenPipeError(32, "Broken"), 1, "greet: [Errno 32] Broken\n"),
        (KeyboardInterrupt(), 130, "greet: interrupted\n"),
    ],
)
def test_what_the_user_can_mend_is_a_message(error, status, message, parser, capsys):
    with pytest.raises(SystemExit) as exit:
        run(parser, raising(error), ["you"])
    assert exit.value.code == status
    assert capsys.readouterr().err == message


def test_any_other_error_is_ours(parser):
    with pytest.raises(ZeroDivisionError):
        run(parser, raising(ZeroDivisionError()), ["you"])


def test_help_says_how_people_call_it(parser, capsys):
    with pytest.raises(SystemExit, match="0"):
        run(parser, print, ["--help"])
    out = capsys.readouterr().out
    assert out.startswith("usage: espnet-ensemble greet [-h] name\n\nGreet people.\n\n")
    assert "\n  one\n  two\n" in out


def test_wrong_options_end_with_2(parser, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(parser, print, [])
    assert "espnet-ensemble greet: error: the following" in capsys.readouterr().err


COMMAND = """
import time
from espnet_ensemble.bin.command import make_parser, run

def work(args):
    print("hello", flush=args.flush)
    time.sleep(args.wait)

parser = make_parser("greet", "Greet people.")
parser.add_argument("--wait", type=int, default=0)
parser.add_argument("--flush", action="store_true")
run(parser, work)
"""


@pytest.mark.parametrize("option", [[], ["--help"], ["--flush"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nobody_needs_to_read_the_output(option, unbuffered):
    """As in ``espnet-ensemble greet --help | head -1``."""
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    read_end, write_end = os.pipe()
    os.close(read_end)
    result = subprocess.run(
        [sys.executable, "-c", COMMAND, *option],
        stdout=write_end,
        stderr=subprocess.PIPE,
        env=env,
        check=False,
    )
    os.close(write_end)
    assert (result.returncode, result.stderr) == (0, b"")


def test_interrupt_ends_without_a_traceback():
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--flush", "--wait", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"greet: interrupted\n")
