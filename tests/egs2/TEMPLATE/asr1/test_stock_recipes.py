"""What ESPnet's own recipes pass to asr.sh is taken by ours, or refused with a reason.

ESPNET_ROOT names a checkout of ESPnet, of which only the folder egs2 is needed. With
``pytest -rP``, the counts are printed.
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from repository import REPOSITORY

ESPNET_ROOT = Path(os.environ.get("ESPNET_ROOT") or "/nonexistent")
RECIPES = sorted(path.parent for path in ESPNET_ROOT.glob("egs2/*/asr1/run.sh"))
pytestmark = pytest.mark.skipif(
    not RECIPES, reason="ESPNET_ROOT does not name a checkout of ESPnet"
)
TEMPLATE = REPOSITORY / "egs2" / "TEMPLATE" / "asr1"
# All that their scripts find in PATH: what else they would do must not be done.
TOOLS = "awk basename bash cat cut dirname echo perl readlink sed seq tr wc".split()
RECORD = """#!/bin/bash
printf '%s\\0' "$@" $'\\n' >> calls
"""
# Those of the CHiME challenges call asr.sh in their third stage.
PARSE_OPTIONS = '[ -z "${stage:-}" ] || stage=3\n'
# It names a variable that it has not set.
BROKEN = {"voices"}
# Every option is looked at, and nothing is done: no folder gets a name, and no stage runs.
PYTHON = "#!/bin/bash\necho bpemodel=none token_list=none\n"
NOTHING = ["--python", "./python", "--stage", "16", "--stop_stage", "16"]
# What a user gives who is told that a default or language models differ.
BPE = ["--token_type", "bpe"]
REMEDIES = {"use_lm": ["--use_lm", "false"], "nbpe": BPE, "bpe_train_text": BPE}
# What is not here.
REFUSED = {
    "asr_task",
    "auxiliary_data_tags",
    "feats_type",
    "num_ref",
    "post_process_local_data_opts",
    "token_type",
    "train_set",  # one gives none, which ESPnet's refuses, too
    "use_lang_prompt",
    "use_nlp_prompt",
    "use_prompt",
    "use_streaming",
}


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bin")
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def calls_of(recipe, folder, tools):
    """Run a stock run.sh -> the options of each of its calls of asr.sh."""
    (folder / "utils").mkdir(parents=True)
    shutil.copy(recipe / "run.sh", folder)
    if (recipe / "conf").exists():
        shutil.copytree(recipe / "conf", folder / "conf", symlinks=True)
    for name in ("path.sh", "cmd.sh", "db.sh"):
        (folder / name).touch()
    for name, content in (
        ("asr.sh", RECORD),
        ("utils/parse_options.sh", PARSE_OPTIONS),
    ):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    subprocess.run(
        ["bash", "./run.sh"],
        cwd=folder,
        env={
            "PATH": str(tools),
            "HOME": str(folder),
            "CUDA_VISIBLE_DEVICES": "0,1,2,3",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
    )
    record = folder / "calls"
    text = record.read_text() if record.exists() else ""
    return [call.split("\0") for call in text.split("\0\n\0")[:-1]]


@pytest.fixture(scope="module")
def asr(tmp_path_factory):
    """Run our asr.sh on options, and nothing else -> exit code, output."""
    folder = tmp_path_factory.mktemp("asr1")
    (folder / "path.sh").touch()
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    for name in ("asr.sh", "cmd.sh"):
        (folder / name).symlink_to(TEMPLATE / name)

    def run(options):
        done = subprocess.run(
            ["./asr.sh", *options, *NOTHING],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return run


def judge(asr, options):
    """What has to be given besides, and the option that is refused all the same."""
    remedies = []
    while True:
        code, output = asr([*options, *remedies])
        if code == 0:
            return remedies, None
        refusal = re.search(r"Error: --(\w+).*(expected|: give|is required)", output)
        assert refusal and "unknown option" not in output, output
        name = refusal[1]
        if name not in REMEDIES or REMEDIES[name][0] in remedies:
            return remedies, name
        remedies += REMEDIES[name]


def test_every_option_is_taken_or_refused_with_a_reason(tools, asr, tmp_path):
    verdicts, silent = {}, set()
    for recipe in RECIPES:
        name = recipe.parent.name
        calls = calls_of(recipe, tmp_path / name, tools)
        if not calls:
            silent.add(name)
        verdicts |= {
            (name, number): judge(asr, options) for number, options in enumerate(calls)
        }
    assert silent <= BROKEN
    refused = {name for _, name in verdicts.values() if name}
    assert refused <= REFUSED
    counts = Counter(
        f"refused: --{name}" if name else " ".join(["taken:", *remedies])
        for remedies, name in verdicts.values()
    )
    print(
        f"{len(RECIPES)} recipes, {len(verdicts)} calls of asr.sh; {silent} make none"
    )
    for verdict, count in counts.most_common():
        print(f"{count:4d} {verdict}")


def test_defaults_that_differ_are_those_that_help_names(asr):
    """In an option's comment: (ESPnet: value)."""
    stock = (ESPNET_ROOT / "egs2/TEMPLATE/asr1/asr.sh").read_text()
    stock = stock[: stock.index("help_message=")]
    theirs = {
        name: value.strip("\"'")
        for name, value in re.findall(r"^(\w+)=([^\s#]*)", stock, re.MULTILINE)
    }
    theirs = {
        name: value.replace("${ngram_num}", "3") for name, value in theirs.items()
    }
    theirs["num_inf"] = theirs["num_ref"]  # as its comment says
    _, output = asr(["--help"])
    listed = re.findall(r"^  --(\w+) ?(.*?) +# (.*)$", output, re.MULTILINE)
    for name, ours, comment in listed:
        noted = re.search(r"ESPnet: ([^)]*)\)", comment)
        if name in theirs and ours.strip('"') != theirs[name]:
            assert noted and noted[1] == theirs[name], name
        else:
            assert not noted, name
    taken = set(re.findall(r"^  --(\w+)", output, re.MULTILINE))
    assert theirs.keys() - taken <= {"SECONDS"}
