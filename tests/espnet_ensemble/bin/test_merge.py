"""Models of several seeds, merged into one."""

from pathlib import Path

import pytest
import torch
import yaml

from espnet_ensemble.bin.merge import main
from espnet_ensemble.integrations.espnet2.model import load_ctc_model
from espnet_ensemble.integrations.espnet2.packing import pack

MODEL = "valid.ave_2best.pth"
OPTIONS = ["--output_dir", "exp/merged", "--inference_asr_model", MODEL]


def change(exp, **options):
    config = yaml.safe_load(Path(exp, "config.yaml").read_text())
    Path(exp, "config.yaml").write_text(yaml.safe_dump({**config, **options}))


def weights(exp):
    return torch.load(Path(exp, MODEL), weights_only=True)


@pytest.fixture
def recipe(tmp_path, monkeypatch, build_model, tiny_wavlm, tiny_hubert):
    """Three experiments that differ in their seed and weights."""
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    for seed in range(3):
        exp = tmp_path / "exp" / f"seed{seed}"
        build_model(exp, [tiny_wavlm, tiny_hubert], fusion="weighted_sum")
        change(exp, seed=seed, output_dir=f"exp/seed{seed}", config=f"{seed}.yaml")
        found = weights(exp)
        for key, value in found.items():
            if not key.startswith(("frontend.fingerprints", "frontend.probes")):
                value += 0.1 * torch.randn(value.shape, generator=generator)
        torch.save(found, exp / MODEL)
    return [f"exp/seed{seed}" for seed in range(3)]


def test_the_mean_is_an_ordinary_experiment(recipe, speech, capsys):
    main([*recipe, *OPTIONS])
    assert capsys.readouterr().out == f"exp/merged/{MODEL}\n"
    members, merged = [weights(exp) for exp in recipe], weights("exp/merged")
    assert merged.keys() == members[0].keys()
    for key, value in merged.items():
        if not value.is_floating_point():
            assert torch.equal(value, members[0][key])
            continue
        expected = (members[0][key] + members[1][key] + members[2][key]) / 3
        torch.testing.assert_close(value, expected)
    assert yaml.safe_load(Path("exp/merged/merged.yaml").read_text()) == {
        "checkpoint": MODEL,
        "experiments": recipe,
    }
    config = yaml.safe_load(Path("exp/merged/config.yaml").read_text())
    assert config["output_dir"] == "exp/merged"

    model = load_ctc_model(None, Path("exp/merged") / MODEL)
    log_probs, _ = model.log_probs(*speech)
    assert log_probs.isfinite().all()
    files = {"asr_train_config": "exp/merged/config.yaml"}
    names = pack(files, {"asr_model_file": f"exp/merged/{MODEL}"}, [], "merged.zip")
    assert f"exp/merged/{MODEL}" in names
    main([*recipe, *OPTIONS])  # the same again


def test_settings_must_be_alike_but_for_the_seed(recipe, capsys):
    change(recipe[1], optim="sgd", optim_conf={"lr": 1.0})
    with pytest.raises(SystemExit, match="1"):
        main([*recipe, *OPTIONS])
    error = capsys.readouterr().err
    assert f"merge: {recipe[1]}: expected the settings of {recipe[0]}, all but" in error
    assert "optim: 'adadelta' then, 'sgd' now" in error
    assert "optim_conf" in error
    assert "  seed:" not in error
    assert not Path("exp/merged").exists()


def test_other_upstreams_are_refused(recipe, capsys):
    found = weights(recipe[2])
    found["frontend.fingerprints"] = 255 - found["frontend.fingerprints"]
    torch.save(found, Path(recipe[2], MODEL))
    with pytest.raises(SystemExit, match="1"):
        main([*recipe, *OPTIONS])
    assert "expected the upstreams of exp/seed0/" in capsys.readouterr().err


def test_other_weights_are_refused(recipe, capsys):
    found = weights(recipe[1])
    found["ctc.ctc_lo.bias"] = torch.zeros(3)
    torch.save(found, Path(recipe[1], MODEL))
    with pytest.raises(SystemExit, match="1"):
        main([*recipe, *OPTIONS])
    assert "found that 'ctc.ctc_lo.bias' differ" in capsys.readouterr().err


def test_what_is_there_is_not_replaced(recipe, capsys):
    for folder in ("exp/seed0", "exp/merged"):
        main([*recipe, *OPTIONS])
        with pytest.raises(SystemExit, match="1"):
            main([*recipe[:2], *OPTIONS, "--output_dir", folder])
        assert f"{folder}: there already, not made of these" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("exps", "message"),
    [
        (["exp/seed0"], "expected several experiments, found exp/seed0 only"),
        (["exp/seed0", "exp/seed9"], "exp/seed9/config.yaml: expected a file"),
    ],
)
def test_what_must_be_there(exps, message, recipe, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([*exps, *OPTIONS])
    assert message in capsys.readouterr().err
    Path("exp/seed1", MODEL).unlink()
    with pytest.raises(SystemExit, match="1"):
        main([*recipe, *OPTIONS])
    assert f"exp/seed1/{MODEL}: expected a checkpoint, found none" in (
        capsys.readouterr().err
    )
