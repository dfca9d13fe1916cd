import os
import subprocess

import pytest
from repository import REPOSITORY

from espnet_ensemble.bin.link import main
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.linking import link_recipes, unlink_recipes
from espnet_ensemble.testing.recipes import run_script

# What ESPnet's asr.sh is to the adapter in front of it: something that takes options.
ASR_SH = '#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n'


@pytest.fixture
def espnet(tmp_path):
    """A checkout of ESPnet, as far as links point into it, under git."""
    root = tmp_path / "espnet"
    template = root / "egs2" / "TEMPLATE" / "asr1"
    for name in ("local", "pyscripts", "scripts", "steps", "utils"):
        (template / name).mkdir(parents=True)
    for name in ("cmd.sh", "path.sh", "local/path.sh"):
        (template / name).touch()
    (template / "asr.sh").write_text(ASR_SH)
    (template / "asr.sh").chmod(0o755)
    (root / "egs2" / "librispeech_100" / "asr1").mkdir(parents=True)
    (root / "egs2" / "librispeech_100" / "asr1" / "run.sh").touch()
    (root / ".gitignore").write_text("egs*/*/*/exp\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(
        root,
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "commit",
        "--quiet",
        "-m",
        "a",
    )
    return root


def git(root, *command):
    done = subprocess.run(
        ["git", *command], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_every_recipe_is_there_with_all_that_it_needs(espnet):
    folders = link_recipes(espnet, REPOSITORY)
    recipes = sorted(path.parent for path in REPOSITORY.glob("egs2/*/asr1/run.sh"))
    assert [folder.parent.name for folder in folders] == [
        recipe.parent.name for recipe in recipes
    ]
    for folder, recipe in zip(folders, recipes, strict=True):
        assert folder.name == "asr1_ensemble"
        for name in ("run.sh", "conf", "db.sh", "local/data.sh"):
            assert (folder / name).samefile(recipe / name)
        for name in ("path.sh", "utils", "local/path.sh"):
            assert (folder / name).samefile(espnet / "egs2/TEMPLATE/asr1" / name)
        assert os.access(folder / "asr.sh", os.X_OK)
    assert (espnet / "egs2/mini_synth/asr1_ensemble/upstreams/wavlm").is_dir()


def test_unlinking_leaves_nothing_for_git(espnet):
    link_recipes(espnet, REPOSITORY)
    assert git(espnet, "status", "--porcelain")
    unlink_recipes(espnet, REPOSITORY)
    assert git(espnet, "status", "--porcelain") == ""
    assert not (espnet / "egs2" / "mini_synth").exists()
    assert (espnet / "egs2/librispeech_100/asr1/run.sh").exists()


def test_what_is_the_users_stays(espnet, capsys):
    main([str(espnet), "--root", str(REPOSITORY)])
    folder = espnet / "egs2/wsj/asr1_ensemble"
    assert f"{folder}/run.sh\n" in capsys.readouterr().out
    (folder / "cmd.sh").unlink()
    (folder / "cmd.sh").write_text("mine")
    (folder / "exp").mkdir()
    (folder / "db.sh").unlink()
    (folder / "db.sh").symlink_to("/moved/since")
    main([str(espnet), "--root", str(REPOSITORY)])
    assert (folder / "db.sh").exists() and (folder / "cmd.sh").read_text() == "mine"
    capsys.readouterr()
    main([str(espnet), "--root", str(REPOSITORY), "--remove"])
    assert f"{folder}: kept cmd.sh, exp\n" in capsys.readouterr().out
    assert sorted(os.listdir(folder)) == ["cmd.sh", "exp"]


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(EnsembleError, match="expected a checkout of ESPnet, found no"):
        link_recipes(tmp_path, REPOSITORY)


def options_of(espnet, *given):
    """What ESPnet's asr.sh is started with by mini_synth's run.sh."""
    link_recipes(espnet, REPOSITORY)
    folder = espnet / "egs2/mini_synth/asr1_ensemble"
    done = run_script(folder, "./run.sh", *given)
    assert done.returncode == 0, done.stdout
    words = done.stdout.split("\n")[:-1]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_espnets_script_gets_what_ours_takes_for_granted(espnet):
    options = options_of(espnet, "--inference_asr_model", "valid.loss.best.pth")
    assert options["--python"] == "espnet-ensemble-python"
    assert options["--token_type"] == "char" and options["--use_lm"] == "false"
    assert options["--inference_asr_model"] == "valid.loss.best.pth"
    assert options["--asr_config"] == "conf/train_asr_ctc_recommended.yaml"
    assert options["--inference_config"] == "conf/decode_asr_ctc.yaml"
    assert options["--asr_args"].split() == [
        "--frontend_conf",
        "feature_cache=dump/feats",
    ]
    # All of them are of ESPnet's script.
    assert not {"--cache_feats", "--upstreams", "--frontend_config"} & options.keys()


def test_options_of_ours_that_espnets_script_does_not_have(espnet):
    given = ["--cache-feats", "false", "--upstreams", "upstreams/hubert"]
    options = options_of(espnet, *given, "--asr_args", "--max_epoch 2")
    assert options["--asr_args"] == "--max_epoch 2"
    config = espnet / "egs2/mini_synth/asr1_ensemble" / options["--asr_config"]
    assert "upstreams/hubert" in config.read_text()
    assert "hubert_ctc" not in config.read_text()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            ["--cache_opts", "--storage int8"],
            "--cache_opts is of ESPnet-Ensemble's own",
        ),
        (["--cache_feats", "yes"], "expected true or false, found 'yes'"),
        (["stage"], "expected --option value, found 'stage'"),
        (["--stage"], "--stage: expected a value"),
    ],
)
def test_what_it_does_not_take(option, message, espnet):
    link_recipes(espnet, REPOSITORY)
    done = run_script(espnet / "egs2/mini_synth/asr1_ensemble", "./run.sh", *option)
    assert done.returncode == 2 and message in done.stdout
