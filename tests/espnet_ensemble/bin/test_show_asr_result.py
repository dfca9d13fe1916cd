import shutil
import subprocess
import sys

import espnet2
import pytest
import torch

import espnet_ensemble
from espnet_ensemble.bin.show_asr_result import main
from espnet_ensemble.recipes.results import write_score


@pytest.fixture
def exp(tmp_path, monkeypatch):
    """A folder with exp/asr_x, outside a git repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    ref, hyp = {"u": ["a", "b", "c"]}, {"u": ["a", "x"]}
    for folder in ("test/score_wer", "test/score_cer", "org/dev/score_wer"):
        write_score(tmp_path / "exp/asr_x/decode_y" / folder, ref, hyp, {"u": "s"})
    return "exp/asr_x"


ROW = "1|3|33.3|33.3|33.3|0.0|66.7|100.0|"
TABLE = f"|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n{'|---' * 9}|"
SECTION = f"""## exp/asr_x
### WER

{TABLE}
|decode_y/org/dev|{ROW}
|decode_y/test|{ROW}

### CER

{TABLE}
|decode_y/test|{ROW}

"""


def test_tables(exp, capsys):
    main([exp])
    environment, section = capsys.readouterr().out.split("\n\n", maxsplit=1)
    assert section == SECTION
    lines = environment.splitlines()
    assert lines[1:3] == ["# RESULTS", "## Environments"]
    assert lines[3].startswith("- date: `")
    assert lines[4].startswith(f"- python version: `{sys.version.split()[0]} ")
    assert lines[5:] == [
        f"- espnet2 version: `espnet2 {espnet2.__version__}`",
        f"- espnet_ensemble version: `espnet_ensemble {espnet_ensemble.__version__}`",
        f"- pytorch version: `pytorch {torch.__version__}`",
    ]


def test_several_experiments(exp, capsys):
    main([exp, exp])
    assert capsys.readouterr().out.count(SECTION) == 2


def test_all_experiments_of_a_folder(exp, tmp_path, capsys):
    """By default of exp; one without results, and what is no experiment, are left out."""
    for name in ("asr_x", "asr_y", "user/model"):
        (tmp_path / "exp" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "exp" / name / "config.yaml").touch()
    shutil.copytree("exp/asr_x/decode_y", "exp/user/model/decode_y")
    main([])
    titles = [x for x in capsys.readouterr().out.splitlines() if x.startswith("## exp")]
    assert titles == ["## exp/asr_x", "## exp/user/model"]


def test_a_model_that_is_published(exp, tmp_path, capsys):
    address = "https://huggingface.co/user/model"
    (tmp_path / exp / "model_link").write_text(f"{address}\n")
    main([exp])
    link = f"## exp/asr_x\n- Model link: [{address}]({address})\n\n### WER\n"
    assert link in capsys.readouterr().out


def test_git(exp, capsys):
    subprocess.run(["git", "init", "-q"], check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commit = ["commit", "-q", "--allow-empty", "-m", "x", "--date=2020-01-01T00:00:00"]
    subprocess.run(["git", *author, *commit], check=True)
    git_hash = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    date = subprocess.check_output(["git", "log", "--format=%cd"], text=True).strip()
    main([exp])
    expected = f"- Git hash: `{git_hash}`\n  - Commit date: `{date}`\n\n## exp/asr_x\n"
    assert expected in capsys.readouterr().out


def test_without_git(exp, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    main([exp])
    assert "Git hash" not in capsys.readouterr().out


def test_no_results(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path)])
    captured = capsys.readouterr()
    assert captured.err.startswith(f"show_asr_result: {tmp_path}: expected results,")
    assert captured.out == ""
