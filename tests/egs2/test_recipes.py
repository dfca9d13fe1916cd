"""What all recipes have in common."""

import re

import pytest
from repository import REPOSITORY

EGS2 = REPOSITORY / "egs2"
TEMPLATE = EGS2 / "TEMPLATE" / "asr1"
RECIPES = sorted(path for path in EGS2.glob("*/asr1") if path != TEMPLATE)


@pytest.fixture(params=RECIPES, ids=lambda path: path.parent.name)
def recipe(request):
    return request.param


def test_what_a_user_edits_is_the_recipes_own(recipe):
    """An edit for one recipe is none for the others."""
    for name in ("cmd.sh", "db.sh"):
        assert (recipe / name).is_file() and not (recipe / name).is_symlink()


def test_jobs_run_everywhere_as_the_template_says(recipe):
    assert (recipe / "cmd.sh").read_text() == (TEMPLATE / "cmd.sh").read_text()


def test_what_nobody_edits_is_the_templates(recipe):
    for name in ("asr.sh", "path.sh", "utils"):
        assert (recipe / name).samefile(TEMPLATE / name)


def test_configurations_have_the_names_of_espnet_s(recipe):
    """Links to those that run.sh takes."""
    run = (recipe / "run.sh").read_text()
    for name in ("conf/train_asr.yaml", "conf/decode_asr.yaml"):
        assert f"_config {name} " in run
        assert (recipe / name).is_symlink() and (recipe / name).is_file()


def test_recipes_are_listed():
    listing = (EGS2 / "README.md").read_text()
    listed = re.findall(r"^\| \[`(\w+)`\]\((\w+/asr1)\) \|", listing, re.MULTILINE)
    assert listed == [(x.parent.name, f"{x.parent.name}/asr1") for x in RECIPES]


def test_published_corpora_are_trained_on_and_decoded_on_gpus(recipe):
    on_gpu = "--ngpu 1 " in (recipe / "run.sh").read_text()
    assert on_gpu == (recipe.parent.name != "mini_synth")
    assert on_gpu == ("--gpu_inference true" in (recipe / "run.sh").read_text())
