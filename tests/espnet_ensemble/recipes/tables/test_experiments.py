import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import REPOSITORY

from espnet_ensemble.bin import asr_names
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.tables.experiments import ENCODERS, Experiment, Setup
from espnet_ensemble.recipes.tables.systems import read_experiment_table
from espnet_ensemble.recipes.tables.variants import VARIANTS

PAPER = Setup()
OTHER = Setup(layer=8, fusion="sum", encoder="conformer", seed=3)


def pick(table, name):
    (system,) = [s for s in table.systems if str(s) == name]
    return system


@pytest.fixture
def pair(tables):
    return pick(tables[2], "librispeech_100 base wavlm+hubert transformer2_ctc")


@pytest.fixture
def ten_hours(tables):
    return pick(tables[1], "wsj_10h finetuned_large wav2vec2+hubert ctc")


def test_command(pair, experiment):
    assert shlex.join(experiment(pair).command(["--ngpu", "4"])) == (
        "egs2/librispeech_100/asr1/run.sh --train_set train_clean_100 "
        "--test_sets 'dev_clean test_clean dev_other test_other' "
        "--asr_config "
        "exp/conf/tables/librispeech_100/train_asr_transformer2_ctc_speechbrain.yaml "
        "--frontend_config '' "
        "--upstreams 'microsoft/wavlm-base facebook/hubert-base-ls960' --asr_args '' "
        "--inference_config conf/decode_asr_ctc.yaml "
        "--inference_asr_model valid.cer_ctc.best.pth --ngpu 4"
    )


def test_command_with_another_budget(ten_hours, experiment):
    words = shlex.join(experiment(ten_hours).command([]))
    assert words.startswith("egs2/wsj/asr1/run.sh --train_set train_10h ")
    assert "--asr_args '--max_epoch 8' --lang 10h " in words


def test_command_of_another_setup(pair, experiment):
    changed = experiment(pair, OTHER)
    changed.write_configs()
    words = changed.command([])
    assert "--upstreams" not in words
    assert "/train_asr_conformer_ctc_speechbrain.yaml" in shlex.join(words)
    assert words[words.index("--asr_args") + 1] == "--seed 3"
    path = words[words.index("--frontend_config") + 1]
    config = yaml.safe_load((changed.recipe_dir / path).read_text())
    assert config == {
        "frontend": "ensemble",
        "frontend_conf": {
            "upstreams": [
                {"name": "microsoft/wavlm-base", "layer": 8},
                {"name": "facebook/hubert-base-ls960", "layer": 8},
            ],
            "fusion": "sum",
            "fs": "16k",
            "normalize": "utterance",
        },
    }


def test_a_setup_changes_no_more_than_it_can(tables, experiment):
    """One upstream is not fused, and a CTC layer alone has no encoder."""
    single = pick(tables[2], "librispeech_100 base wavlm ctc")
    changed = experiment(single, Setup(fusion="sum", encoder="conformer"))
    assert changed.command([]) == experiment(single).command([])


@pytest.mark.parametrize(
    "option", ["--asr_tag", "--asr-config", "--expdir", "--asr_args"]
)
def test_options_that_the_table_sets_are_refused(option, pair, experiment):
    with pytest.raises(EnsembleError, match=f"--run_args: {option} is for the table"):
        experiment(pair).command(["--ngpu", "1", option, "x"])


@pytest.mark.parametrize("layer", [13, "first"])
def test_layers_that_an_upstream_has_not_are_refused(layer, pair, experiment):
    with pytest.raises(EnsembleError, match="^microsoft/wavlm-base: layer: "):
        experiment(pair, Setup(layer=layer)).command([])


def test_recipe_without_the_configuration(pair, experiment):
    system = experiment(pair)
    config = system.recipe_dir / system.recipe_config
    config.unlink()
    with pytest.raises(EnsembleError, match=f"{config}: expected a file"):
        _ = system.exp_dir


@pytest.mark.parametrize(
    "setup", [PAPER, OTHER, Setup(variant="raw")], ids=["paper", "other", "raw"]
)
@pytest.mark.parametrize("which", ["pair", "ten_hours"])
def test_derived_configuration_is_the_one_that_asr_sh_makes(
    which, setup, request, experiment, capsys, monkeypatch
):
    system = experiment(request.getfixturevalue(which), setup)
    system.write_configs()
    words = system.command([])
    options = dict(zip(words[1::2], words[2::2], strict=True))
    monkeypatch.chdir(system.recipe_dir)
    names = ("--asr_config", "--frontend_config", "--upstreams")
    asr_names.main([word for n in names for word in (n, options.get(n, ""))])
    path = capsys.readouterr().out.splitlines()[0].removeprefix("asr_config=")
    assert yaml.safe_load(Path(path).read_text()) == system.training_config.content


def test_the_paper_s_epochs_take_the_place_of_the_configuration_s(
    pair, ten_hours, experiment
):
    config = yaml.safe_load((REPOSITORY / "conf/tuning/train_asr_ctc.yaml").read_text())
    assert experiment(ten_hours).max_epoch == 8 != config["max_epoch"]
    assert experiment(ten_hours).training_config.content["max_epoch"] == 8
    pair_config = experiment(pair).training_config.content
    assert experiment(pair).max_epoch == pair_config["max_epoch"]


@pytest.mark.parametrize(("which", "setup"), [("pair", OTHER), ("ten_hours", PAPER)])
def test_asr_sh_names_the_experiment_so(which, setup, request, experiment):
    system = experiment(request.getfixturevalue(which), setup)
    system.write_configs()
    words = system.command(["--valid_set", "dev", "--stage", "12"])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["./asr.sh", *words[1:]],
        cwd=system.recipe_dir,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    exp = system.exp_dir.relative_to(system.recipe_dir)
    assert f": {exp}/{system.names.inference_tag}\n" in done.stdout
    assert f"{exp}/config.yaml is missing: stage 11 makes it" in done.stdout


def test_experiments_of_all_systems_differ(tables, experiment):
    systems = [system for table in tables.values() for system in table.systems]
    for variant in VARIANTS:
        folders = {
            experiment(system, Setup(variant=variant, seed=seed)).exp_dir
            for system in systems
            if system.part == "paper"
            for seed in (0, 1)
        }
        assert len(folders) == 2 * 62


def test_the_recipes_have_what_the_commands_name(tables, mini_synth):
    for table in (*tables.values(), mini_synth):
        for system in table.systems:
            setups = [Setup(encoder=encoder) for encoder in ENCODERS]
            experiments = [Experiment(REPOSITORY, system, s) for s in setups]
            recipe = experiments[0].recipe_dir
            assert os.access(recipe / "run.sh", os.X_OK)
            configs = [e.recipe_config for e in experiments]
            for config in (*configs, system.inference_config):
                assert (recipe / config).is_file(), recipe / config


def test_variants_are_told_apart_by_name(mini_synth):
    system = pick(mini_synth, "mini_synth finetuned wavlm+hubert transformer2_ctc")
    names = {
        variant: Experiment(REPOSITORY, system, Setup(variant=variant)).names
        for variant in VARIANTS
    }
    exp = "exp/asr_train_asr_transformer2_ctc"
    assert names["speechbrain"].asr_exp == (
        f"{exp}_speechbrain_wavlm_ctc_hubert_ctc_norm-utterance_raw_char"
    )
    assert names["raw"].asr_exp.startswith(f"{exp}_raw_wavlm_ctc_hubert_ctc_raw_char")
    assert names["raw"].inference_tag == "decode_asr_ctc_asr_model_valid.cer_ctc.ave"
    assert names["speechbrain"].inference_tag.endswith("valid.cer_ctc.best")


def test_the_recommended_rate_falls_until_training_ends(
    pair, ten_hours, tables, experiment
):
    one_hour = pick(tables[2], "librilight_1h base wavlm transformer2_ctc")
    for system in (pair, ten_hours, one_hour):
        recommended = experiment(system, Setup(variant="recommended"))
        content = recommended.training_config.content
        num_batches = recommended.max_epoch * system.corpus.hours * 3600 / 200
        conf = content["scheduler_conf"]
        assert conf["first_cycle_steps"] == pytest.approx(1.1 * num_batches, abs=1)
        assert conf["warmup_steps"] == pytest.approx(0.1 * num_batches, abs=1)


def test_every_recommended_member_is_masked_alike(pair, experiment):
    content = experiment(pair, Setup(variant="recommended")).training_config.content
    assert content["normalize"] is None
    assert content["frontend_conf"]["normalize"] == "utterance"
    assert content["frontend_conf"]["feature_mask"] == {"num_mask": 2, "max_share": 0.3}
    # What masks of time the head has, it keeps.
    assert content["specaug_conf"]["apply_freq_mask"] is False
    assert content["specaug_conf"]["apply_time_mask"] is True


def test_the_quick_start_is_trained_as_recommended():
    table = read_experiment_table(REPOSITORY / "conf/tables/mini_synth.yaml")
    system = pick(table, "mini_synth finetuned wavlm+hubert ctc")
    recommended = Experiment(REPOSITORY, system, Setup(variant="recommended"))
    expected = dict(recommended.training_config.content)
    conf = REPOSITORY / "egs2/mini_synth/asr1/conf"
    found = yaml.safe_load((conf / "train_asr.yaml").read_text())
    # There, the pair's first is the best as well.
    assert expected["frontend_conf"]["member_warmup"].pop("first") == "wavlm_ctc"
    del expected["frontend_conf"]["fusion"]
    assert found == expected


def test_a_recommended_ensemble_begins_with_its_best_member(tables, experiment):
    setup = Setup(variant="recommended")
    system = pick(tables[2], "librispeech_100 base wav2vec2+hubert ctc")
    recommended = experiment(system, setup)
    conf = recommended.training_config.content["frontend_conf"]
    # 8 epochs of 100 hours in batches of 200 s.
    num_batches = 0.4 * recommended.max_epoch * 100 * 3600 / 200
    assert conf["member_warmup"] == {
        "num_batches": num_batches,
        "first": "hubert-base-ls960",
    }
    # asr.sh gets all of it.
    recommended.write_configs()
    written = recommended.recipe_dir / recommended.options["frontend_config"]
    assert yaml.safe_load(written.read_text())["frontend_conf"] == conf

    alone = experiment(pick(tables[2], "librispeech_100 base hubert ctc"), setup)
    assert "member_warmup" not in alone.training_config.content["frontend_conf"]


@pytest.mark.parametrize(
    ("head", "encoder", "layers"),
    [
        ("transformer2_ctc", "transformer", [1]),
        ("transformer2_ctc", "conformer", [2]),
        ("transformer2_ctc", "e_branchformer", [2]),
        ("ctc", "transformer", None),
    ],
)
def test_recommended_encoders_have_ctc_in_the_middle(
    head, encoder, layers, tables, experiment
):
    system = pick(tables[2], f"librispeech_100 base wavlm+hubert {head}")
    setup = Setup(variant="recommended", encoder=encoder)
    content = experiment(system, setup).training_config.content
    assert content.get("encoder_conf", {}).get("interctc_layer_idx") == layers
    assert content["model_conf"].get("interctc_weight") == (layers and 0.3)


def test_folders_of_the_miniature_are_there(mini_synth):
    for system in mini_synth.systems:
        recipe = Experiment(REPOSITORY, system, PAPER).recipe_dir
        for name in set(system.upstreams) - set(system.random):
            assert (recipe / name / "config.json").is_file()


def test_one_upstream_has_another_layer(pair, experiment):
    changed = experiment(pair, Setup(layers=(("hubert", 7), ("wav2vec2", 6))))
    conf = changed.training_config.content["frontend_conf"]
    assert conf["upstreams"] == [
        "microsoft/wavlm-base",
        {"name": "facebook/hubert-base-ls960", "layer": 7},
    ]


def test_a_head_may_ask_for_another_layer(tables, experiment):
    system = pick(tables[2], "librispeech_100 base wavlm superb_ctc")
    last = experiment(system).training_config.content["frontend_conf"]["upstreams"]
    assert last == [{"name": "microsoft/wavlm-base", "layer": "weighted_sum"}]
    changed = experiment(system, Setup(layer=8)).training_config
    assert changed.content["frontend_conf"]["upstreams"][0]["layer"] == 8


def test_s3prl_loads_what_it_has_a_name_for(pair, ten_hours, mini_synth, experiment):
    setup = Setup(loader="s3prl")
    assert experiment(pair, setup).upstreams == ["wavlm_base", "hubert_base"]
    assert experiment(ten_hours, setup).upstreams[1] == {
        "name": "hf_hubert_custom",
        "path_or_url": "facebook/hubert-xlarge-ls960-ft",
    }
    system = pick(mini_synth, "mini_synth pretrained wavlm+wav2vec2 ctc")
    mini = Experiment(REPOSITORY, system, setup)
    assert mini.upstreams == [
        "upstreams/wavlm",
        {"name": "hf_wav2vec2_custom", "path_or_url": "upstreams/wav2vec2"},
    ]
    assert experiment(pair, setup).exp_dir != experiment(pair).exp_dir


def test_options_of_training_are_in_the_name(ten_hours, experiment):
    setup = Setup(seed=2, asr_args="--optim_conf lr=0.1")
    changed = experiment(ten_hours, setup)
    assert changed.asr_args == "--max_epoch 8 --seed 2 --optim_conf lr=0.1"
    assert changed.exp_dir.name.endswith("_max_epoch8_seed2_optim_conflr0.1")
    assert str(changed) == f"{ten_hours} seed 2"
    assert setup.name == "optim_conflr0.1"
    assert experiment(ten_hours, Setup(asr_args="--max_epoch 3")).max_epoch == 3


def test_the_amount_of_speech_may_change_the_training(tables, experiment):
    system = pick(tables[2], "librilight_10h base wavlm transformer2_ctc")
    content = experiment(system).training_config.content
    assert content["max_epoch"] == experiment(system).max_epoch == 100
    assert content["scheduler_conf"] == {"warmup_steps": 2000}


@pytest.mark.parametrize(
    ("encoder", "title"),
    [
        ("transformer", "8 encoder layers + CTC"),
        ("conformer", "4 conformer layers + CTC"),
        ("e_branchformer", "4 E-Branchformer layers + CTC"),
    ],
)
def test_heads_are_called_what_they_are(encoder, title, tables, experiment):
    system = pick(tables[3], "wsj base wavlm transformer8_ctc")
    assert experiment(system, Setup(encoder=encoder)).head_title == title
    ctc = pick(tables[3], "wsj base wavlm ctc")
    assert experiment(ctc, Setup(encoder=encoder)).head_title == "CTC layer only"
