import os
import re
import stat
import subprocess

import pytest
from repository import REPOSITORY

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import read_yaml
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.recipes.starter import TEMPLATE, make_recipe, recipe_folder

LINKS = ("asr.sh", "path.sh", "utils")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout, which is the working directory, too."""
    (tmp_path / "egs2").mkdir()
    for name in ("conf", "local", "egs2/TEMPLATE"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipe_of_a_checkout_links_to_its_template(checkout):
    folder = recipe_folder("my_corpus")
    assert folder == checkout / "egs2" / "my_corpus" / "asr1"
    make_recipe("my_corpus", folder)
    for name in LINKS:
        assert os.readlink(folder / name) == f"../../TEMPLATE/asr1/{name}"
        assert (folder / name).exists()


def test_elsewhere_a_recipe_links_to_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = recipe_folder("my_corpus")
    assert folder == tmp_path / "egs2" / "my_corpus" / "asr1"
    make_recipe("my_corpus", folder)
    for name in LINKS:
        assert (folder / name).samefile(TEMPLATE / name)


@pytest.mark.parametrize("inside", ["my_recipe", "egs2/my_corpus/deep/asr1"])
def test_another_folder_of_a_checkout_has_links_that_lead_somewhere(inside, checkout):
    make_recipe("my_corpus", checkout / inside)
    assert all((checkout / inside / name).exists() for name in LINKS)


def test_all_else_is_the_recipe_s_own(checkout):
    make_recipe("my_corpus", "mine")
    own = [path for path in (checkout / "mine").rglob("*") if path.is_file()]
    own = [path for path in own if path.name not in LINKS and "utils" not in path.parts]
    defaults = [path for path in own if path.is_symlink()]
    assert {path.name: os.readlink(path) for path in defaults} == {
        "decode_asr.yaml": "decode_asr_ctc.yaml",
        "train_asr.yaml": "train_asr_transformer2_ctc.yaml",
    }
    own = [path for path in own if path not in defaults]
    assert {path.name for path in own} == {
        "README.md",
        "cmd.sh",
        "data.sh",
        "db.sh",
        "decode_asr_ctc.yaml",
        "run.sh",
        "slurm.conf",
        "train_asr_transformer2_ctc.yaml",
    }
    for path in own:
        assert not path.is_symlink()
        assert not re.search("@[A-Z]", path.read_text())
        is_script = path.name in ("run.sh", "data.sh")
        assert bool(path.stat().st_mode & stat.S_IXUSR) == is_script
    assert (checkout / "mine/README.md").read_text().startswith("# my_corpus\n")


def test_db_sh_names_the_corpus_whatever_its_folder_is_called(checkout):
    make_recipe("my_corpus", "mine", "it's here/audio files", "$HOME/a table.tsv")
    source = '. ./db.sh && printf "%s\n" "${AUDIO_DIR}" "${TRANSCRIPTS}"'
    done = subprocess.run(
        ["bash", "-c", source], cwd="mine", capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        str(checkout / "it's here/audio files"),
        str(checkout / "$HOME/a table.tsv"),
    ]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_there_is_left_alone(kind, checkout):
    there = checkout / "mine"
    {
        "folder": there.mkdir,
        "file": there.touch,
        "link": lambda: there.symlink_to("nowhere"),
    }[kind]()
    with pytest.raises(
        EnsembleError, match="mine: is there already; give another name"
    ):
        make_recipe("my_corpus", there)
    assert not any(there.iterdir()) if kind == "folder" else not there.is_dir()


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "my corpus", "-x", ".x", "TEMPLATE"]
)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(EnsembleError, match=f"such as my_corpus; found '{name}'"):
        recipe_folder(name)


def test_the_configuration_learns_from_half_an_hour():
    """Its warm-up is over well before the end; the shared one's would not be."""
    conf = read_yaml(TEMPLATE / "conf" / "train_asr_transformer2_ctc.yaml")
    FrontendConf.parse(conf["frontend_conf"])
    batches = 1800 * 16000 / conf["batch_bins"] * conf["max_epoch"]
    assert conf["scheduler_conf"]["warmup_steps"] < batches / 4
