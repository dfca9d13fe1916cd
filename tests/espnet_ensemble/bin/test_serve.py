import json
import socket
import subprocess
import sys
import urllib.request

import pytest

from espnet_ensemble.bin import serve

pytest.importorskip("starlette", reason="the extra serve is not installed")


@pytest.fixture
def experiment(build_model, tmp_path, tiny_wavlm, tiny_hubert):
    build_model(tmp_path / "asr_x", [tiny_wavlm, tiny_hubert])
    (tmp_path / "asr_x/valid.ave_2best.pth").rename(
        tmp_path / "asr_x/valid.cer_ctc.ave.pth"
    )
    return tmp_path / "asr_x"


@pytest.mark.slow
def test_it_listens_on_the_loopback_and_says_so(experiment):
    command = [sys.executable, "-m", "espnet_ensemble.bin.serve"]
    command += [f"mine={experiment}", str(experiment), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        told = next(line for line in server.stdout if line.startswith("http"))
        url, _, rest = told.partition(" ")
        assert url.startswith("http://127.0.0.1:")
        assert "this machine alone" in rest
        with urllib.request.urlopen(f"{url}/health") as answer:
            assert list(json.load(answer)["models"]) == ["mine", "asr_x"]
        server.send_signal(2)
        assert server.wait(30) == 130  # as of any command that Ctrl-C ends
    finally:
        server.kill()
        server.stdout.close()
        server.wait()


def test_other_addresses_are_warned_of():
    assert "no password" in serve._tell("0.0.0.0", 1)
    assert "no password" not in serve._tell("::1", 1)
    assert serve._tell("::1", 1).startswith("http://[::1]:1 ")


def refused(capsys, *words):
    with pytest.raises(SystemExit) as exit:
        serve.main(list(words))
    assert exit.value.code == 1
    return capsys.readouterr().err


def test_a_port_that_is_taken_is_said_before_a_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        error = refused(capsys, "no_model", "--port", port)
    assert "choose others with --host and --port" in error and port in error


def test_models_need_names_of_their_own(capsys):
    error = refused(capsys, "a/asr_x", "b/asr_x")
    assert "NAME=b/asr_x" in error


def test_a_model_that_is_not_there_is_said(capsys):
    assert "none_such" in refused(capsys, "none_such", "--port", "0")
