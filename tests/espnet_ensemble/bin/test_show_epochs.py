import signal
import subprocess
import sys

COMMAND = [sys.executable, "-m", "espnet_ensemble.bin.show_epochs"]
LINE = (
    b"[vm] INFO: 1epoch results: [train] loss_ctc=9.5, loss=9.5, time=1 second, "
    b"[valid] loss_ctc=8, cer_ctc=0.5, loss=8.000, time=1 second\n"
)


def test_epochs_are_shown_while_the_log_is_written():
    """Also after something that is not UTF-8."""
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdin.write(b"other \xff\n" + LINE)
        process.stdin.flush()
        expected = b"  epoch 1: train loss 9.5, valid loss 8.000, valid CER 50.0 %\n"
        assert process.stdout.readline() == expected
        assert process.communicate(b"the end")[0] == b""
    assert process.returncode == 0


def test_ctrl_c_ends_it_without_a_word():
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(LINE)
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT
        assert process.stderr.read() == b""


def test_it_is_light():
    code = (
        "import sys, espnet_ensemble.bin.show_epochs; "
        "print(*{'torch', 'numpy', 'espnet2', 'matplotlib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True) == "\n"
