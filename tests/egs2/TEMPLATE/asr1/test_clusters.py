"""What asr.sh submits to a SLURM cluster: the commands that docs/clusters.md shows."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY
from slurm_stand_in import Slurm

TEMPLATE = REPOSITORY / "egs2" / "TEMPLATE" / "asr1"
PAGE = (REPOSITORY / "docs" / "clusters.md").read_text()

# Python, as far as no upstreams and no speech are needed. Of the extraction, it is the part
# that submits; of other steps, what the next one looks for.
PYTHON = """#!/usr/bin/env bash
case "$*" in
    *bin.extract\\ *)
        python3 - "$@" <<END
import argparse, pathlib, subprocess, sys
from espnet_ensemble.feature_cache.jobs import _command
parser = argparse.ArgumentParser()
parser.add_argument("--nj", type=int)
parser.add_argument("--ngpu", type=int)
parser.add_argument("--cmd")
parser.add_argument("--data_dir", nargs="+")
args, _ = parser.parse_known_args()
folder = pathlib.Path("dump/feats/logdir")
command = _command(args.cmd, args.nj, args.ngpu, folder, f"{folder}/plan.{{}}.json")
subprocess.run(command, check=True, stdout=sys.stderr)
for name in args.data_dir:
    print("members.yaml")
END
        ;;
    *known_shapes*)
        while [ "$1" != --output_dir ]; do shift; done
        for dset in train valid; do
            mkdir -p "$2/${dset}"
            touch "$2/${dset}"/{speech_shape,text_shape}
        done ;;
    *espnet2.bin.launch*)
        espnet-ensemble-python "$@" || exit
        touch exp/asr/valid.cer_ctc.ave.pth
        echo "decoder: null" > exp/asr/config.yaml ;;
    *show_epochs*) cat > /dev/null ;;
    *) exec espnet-ensemble-python "$@" ;;
esac
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe after stage 5, on the submitting machine of a cluster."""
    (tmp_path / "local").symlink_to(REPOSITORY / "local")
    folder = tmp_path / "egs2" / "corpus" / "asr1"
    (folder / "data" / "token_list" / "char").mkdir(parents=True)
    (folder / "data" / "token_list" / "char" / "tokens.txt").write_text("A\n")
    for name in ("asr.sh", "cmd.sh", "path.sh", "utils", "conf"):
        (folder / name).symlink_to(TEMPLATE / name)
    (folder / "train.yaml").write_text(
        "frontend: ensemble\nfrontend_conf: {upstreams: [wavlm_base]}\n"
        "best_model_criterion: [[valid, cer_ctc, min]]\n"
    )
    for dset in ("train", "dev", "test"):
        data = folder / "dump" / "raw" / dset
        data.mkdir(parents=True)
        utt_ids = [f"{dset}-{number:02}" for number in range(40)]
        for table in ("wav.scp", "text", "utt2num_samples"):
            (data / table).write_text("".join(f"{utt_id} 1\n" for utt_id in utt_ids))
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    slurm = Slurm(tmp_path / "slurm")
    slurm.tell("idle")
    path = [slurm.bin, Path(sys.executable).parent]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, path)), prepend=os.pathsep)
    monkeypatch.setenv("cmd_backend", "slurm")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(folder)
    return slurm


def shown(language):
    """The block of the page after the heading of what is submitted."""
    page = PAGE[PAGE.index("## What is submitted") :]
    return re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)[1]


@pytest.mark.slow
def test_the_page_shows_what_is_submitted(recipe):
    (run,) = shown("sh").splitlines()
    options = shlex.split(run.removeprefix("cmd_backend=slurm ./run.sh "))
    sets = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test"]
    own = ["--asr_config", "train.yaml", "--asr_exp", "exp/asr", "--python", "./python"]
    subprocess.run(
        ["./asr.sh", *sets, *own, *options, "--stop_stage", "12"],
        stdout=subprocess.DEVNULL,
        check=False,  # decoding has left nothing to collect
    )
    expected = shown("none").splitlines()
    submitted = [shlex.join(["sbatch", *words]) for words in recipe.submitted()]
    assert [line for line in expected if line.startswith("sbatch")] == [
        without_files(line).replace("exp/asr/", "exp/asr_…/") for line in submitted
    ]


def without_files(line):
    """An sbatch without what is the same in all: the page says so."""
    asked, _, own = line.partition(" --parsable")
    array = re.match(r" --array=\S+", own)
    return asked + (array[0] if array else "")


def test_what_runs_on_the_nodes(recipe):
    """ESPnet's launcher starts a process on each node: srun, in a job of two."""
    command = ["--cmd", "slurm.pl --name exp/train.log", "--log", "exp/train.log"]
    command += ["--ngpu", "8", "--num_nodes", "2", "--", "echo", "a b"]
    env = {**os.environ, "PATH": f"utils{os.pathsep}{os.environ['PATH']}"}
    launch = [sys.executable, "-m", "espnet2.bin.launch", *command]
    subprocess.run(launch, env=env, check=True)
    script = Path("exp/q/train.log.sh").read_text().splitlines()
    (job,) = [line for line in script if "espnet_ensemble.bin.submit" in line]
    words = shlex.split(job.partition(" exp/train.log ")[2])
    assert words[:4] == ["srun", "--export=ALL", "echo", "a b"]
    assert words[4:10] == [
        *("--ngpu", "8", "--multiprocessing_distributed", "true"),
        *("--dist_launcher", "slurm"),
    ]
