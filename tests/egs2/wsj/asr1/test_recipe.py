"""Stage 1 of the recipe on small discs, as its users run it."""

import os
import shlex

import pytest
from repository import REPOSITORY

from espnet_ensemble.data.datadir import validate
from espnet_ensemble.testing.recipes import clone_recipe, run_script
from espnet_ensemble.testing.wsj import SENTENCES, make_discs

RECIPE = REPOSITORY / "egs2" / "wsj" / "asr1"


@pytest.mark.slow
def test_stage_1(tmp_path):
    make_discs(tmp_path)
    recipe = clone_recipe(REPOSITORY, tmp_path, "wsj")
    (recipe / "db.sh").unlink()
    wsj = {name: shlex.quote(f"{tmp_path}/{name}") for name in ("WSJ0", "WSJ1")}
    (recipe / "db.sh").write_text("".join(f"{k}={v}\n" for k, v in wsj.items()))
    done = run_script(recipe, "./run.sh", "--stop_stage", "1")
    assert done.returncode == 0, done.stdout
    assert "train_si284: 37416 utterances are in the complete corpus" in done.stdout
    texts = [
        validate(path)["text"]
        for path in (recipe / "data").iterdir()
        if path.is_dir() and path.name not in ("train_si84", "train_10h")
    ]
    assert sum(map(len, texts)) == sum(map(len, SENTENCES.values()))
    assert (recipe / "data" / "nlsyms.txt").read_text() == "<NOISE>\n"


def test_folders_are_asked_for(tmp_path):
    recipe = clone_recipe(REPOSITORY, tmp_path, "wsj")
    done = run_script(recipe, "local/data.sh")
    assert done.returncode == 1
    assert "prepare_wsj: WSJ0: expected" in done.stdout
    assert "set WSJ0 in db.sh" in done.stdout
    assert "data directories are in" not in done.stdout


def test_links_lead_somewhere():
    links = [path for path in RECIPE.rglob("*") if path.is_symlink()]
    assert len(links) >= 10
    assert all(path.exists() and not os.path.isabs(os.readlink(path)) for path in links)
