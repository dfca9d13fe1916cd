import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_ensemble.bin.python import AUTOLOAD, main

# That loading the plugin registers it is for the tests of registration, and for one
# here: importing ESPnet takes seconds.
PLUGIN_IS_LOADED = "import sys; assert 'espnet_ensemble' in sys.modules\n"


def run(*args, **kwargs):
    """Run `espnet-ensemble-python`."""
    return subprocess.run(
        [sys.executable, "-m", "espnet_ensemble.bin.python", *args],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


@pytest.mark.parametrize("how", ["-c", "script", "stdin", "-m"])
def test_plugin_is_loaded_however_python_is_started(how, tmp_path):
    code = "import sys; assert 'espnet_ensemble' in sys.modules; print(*sys.argv[1:])"
    (tmp_path / "script.py").write_text(code)
    env = dict(os.environ, PYTHONPATH=str(tmp_path))
    start = {"-c": ["-c", code], "script": [f"{tmp_path}/script.py"]}
    start.update({"-m": ["-m", "script"], "stdin": ["-"]})
    result = run("-W", "ignore", *start[how], "--flag", "a b", input=code, env=env)
    assert (result.returncode, result.stdout) == (0, "--flag a b\n"), result.stderr


def test_exit_status_is_the_program_s():
    assert run("-c", "import sys; sys.exit(7)").returncode == 7


def test_plugin_is_loaded_in_spawned_processes():
    """As by `--multiprocessing_distributed`, and by data loader workers."""
    code = (
        "import multiprocessing\n"
        "process = multiprocessing.get_context('spawn').Process(\n"
        f"    target=exec, args=({PLUGIN_IS_LOADED!r},)\n"
        ")\n"
        "process.start(); process.join(); assert process.exitcode == 0\n"
    )
    result = run("-W", "ignore", "-c", code)
    assert result.returncode == 0, result.stderr


def test_plugin_is_loaded_in_what_a_script_starts():
    code = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {PLUGIN_IS_LOADED!r}], check=True)\n"
    )
    result = run("-W", "ignore", "-c", code)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_espnet_s_parser_offers_the_frontend():
    result = run("-W", "ignore", "-m", "espnet2.bin.asr_train", "--help")
    assert result.returncode == 0, result.stderr
    assert "ensemble" in result.stdout


@pytest.mark.parametrize("name", ["asr_train", "asr_inference"])
def test_our_entry_points_are_espnet_s_with_the_plugin(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(f"espnet_ensemble.bin.{name}", run_name="__main__")
    assert "ensemble" in capsys.readouterr().out or name == "asr_inference"


def test_pythonpath_is_kept(tmp_path):
    code = "import sys; print(sys.path)"
    result = run("-c", code, env=dict(os.environ, PYTHONPATH=str(tmp_path)))
    assert str(tmp_path) in result.stdout and str(AUTOLOAD) in result.stdout


def test_another_sitecustomize_still_runs(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.witness = 1")
    code = (
        "import sys; assert sys.witness == 1; assert 'espnet_ensemble' in sys.modules"
    )
    result = run("-c", code, env=dict(os.environ, PYTHONPATH=str(tmp_path)))
    assert result.returncode == 0, result.stderr


def test_interpreter_without_the_package_is_left_alone(tmp_path):
    """PYTHONPATH also reaches other interpreters that a script may start."""
    result = subprocess.run(
        [sys._base_executable, "-c", "print(1)"],
        env=dict(os.environ, PYTHONPATH=str(AUTOLOAD)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "1\n", "")


@pytest.mark.parametrize("option", ["-I", "-E", "-S", "-IB", "-BE"])
def test_options_that_would_leave_the_plugin_out_are_refused(option):
    for before in ([], ["-W", "ignore"], ["-Werror"], ["-X", "dev"]):
        with pytest.raises(SystemExit, match="keeps Python from loading the plugin"):
            main([*before, option, "-c", "0"])


def test_options_of_the_program_are_its_own(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execv", lambda path, args: started.append(args))
    monkeypatch.setenv("PYTHONPATH", "x")
    for command in (["-m", "module", "-I"], ["script.py", "-E"], ["-c", "0", "-S"]):
        main(command)
        assert started.pop()[1:] == command


def test_installed_command():
    command = Path(sys.executable).parent / "espnet-ensemble-python"
    if not command.exists():
        pytest.skip("the package is not installed in this environment")
    result = subprocess.run([command, "-c", PLUGIN_IS_LOADED], check=False)
    assert result.returncode == 0
