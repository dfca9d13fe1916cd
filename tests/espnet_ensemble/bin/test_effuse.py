"""An ensemble becomes an experiment with one upstream."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cache_runs import NUM_SAMPLES, write_noises

from espnet_ensemble.bin.effuse import main
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.extract import ExtractConf
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend
from espnet_ensemble.integrations.espnet2.model import load_ctc_model
from espnet_ensemble.recipes.effusion import EffuseConf, Effusion, load_ensemble

MODEL = "valid.ave_2best.pth"
# Of those that are long enough for a text.
LENGTHS = {key: n for key, n in NUM_SAMPLES.items() if n > 3000}


@pytest.fixture
def recipe(tmp_path, monkeypatch, build_model, models):
    """A recipe's folder with a trained ensemble and two sets: build(**frontend_conf)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))  # without sclite
    data = write_noises(tmp_path)
    write_table(data / "text", dict.fromkeys(NUM_SAMPLES, "ab"))
    shutil.copytree(data, tmp_path / "dev")

    def build(upstreams, **frontend_conf):
        build_model(Path("exp/pair"), upstreams, normalize="utterance", **frontend_conf)

    return build


def effusion(member=None, num_layers=None):
    model = load_ensemble(Path("exp/pair"), MODEL)
    conf = EffuseConf(member, num_layers)
    return Effusion(
        model,
        Path("exp/pair"),
        MODEL,
        Path("train"),
        Path("dev"),
        Path("feats"),
        ExtractConf("float32", layers="all"),
        conf,
    )


def features(frontend, speech, lengths):
    with torch.no_grad():
        return frontend(speech, lengths)[0]


@pytest.mark.parametrize("layers", ["last", "weighted_sum"])
def test_features_are_the_members_own_and_those_that_ridge_predicts(
    layers, recipe, models, speech
):
    recipe(
        [models("WavLM"), {"name": models("Hubert"), "layer": layers}], fusion="concat"
    )
    found = effusion(member=None)
    best, other = found.choose()
    assert best.r2 >= other.r2
    # The second member stays: the first is predicted.
    predictor = next(p for p in (best, other) if p.member == 1)
    config = yaml.safe_load(found.prepare(predictor, Path("exp/one")).read_text())
    assert config["frontend_conf"]["fusion"] == "prediction"
    one = EnsembleFrontend(**config["frontend_conf"])
    weights = torch.load("exp/one/effuse/init.pth", weights_only=True)
    prefix = "frontend."
    own = {
        k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)
    }
    one.load_state_dict({**one.state_dict(), **own})
    pair = load_ctc_model(None, Path("exp/pair") / MODEL).model.frontend.eval()
    expected, fused = features(pair, *speech), features(one.eval(), *speech)
    assert fused.shape == expected.shape
    assert torch.allclose(fused[..., 32:], expected[..., 32:], atol=1e-4), "its own"
    # Of all weights in the checkpoint, none is lost or made up.
    kept = {k for k in pair.state_dict() if k.startswith("fusion.")}
    assert {k for k in own if "inner" in k} == {
        k.replace("fusion.", "fusion.inner.") for k in kept
    }
    # As scikit-learn's ridge regression has it.
    from sklearn.linear_model import Ridge

    inputs, targets = found._layers[1], found._layers[0][-1]
    x, y = (
        np.concatenate(
            [np.concatenate([f.read(k) for f in part], axis=1) for k in NUM_SAMPLES]
        )
        for part in (inputs, [targets])
    )
    alpha = predictor.penalty * x.var(axis=0).mean() * len(x)
    ridge = Ridge(alpha=alpha).fit(x.astype(float), y.astype(float))
    weight = own["fusion.predictors.0.weight"].numpy()
    assert np.allclose(weight, ridge.coef_, atol=1e-3)


def test_what_several_members_were_trained_with_stays_behind(recipe, models):
    recipe([models("WavLM"), models("Hubert")], member_warmup={"num_batches": 1})
    found = effusion()
    best, _ = found.choose()
    config = yaml.safe_load(found.prepare(best, Path("exp/one")).read_text())
    one = EnsembleFrontend(**config["frontend_conf"])
    weights = torch.load("exp/one/effuse/init.pth", weights_only=True)
    found = {k.removeprefix("frontend.") for k in weights if k.startswith("frontend.")}
    assert found <= one.state_dict().keys()


def test_a_member_of_fewer_frames_cannot_stay(recipe, models, slow_hubert):
    recipe([models("WavLM"), slow_hubert], fusion="concat")
    (predictor,) = effusion().choose()
    assert predictor.member == 0
    name = Path(slow_hubert).name
    with pytest.raises(EnsembleError, match="whose frames are as many as the ensemble"):
        effusion(member=name).choose()


def test_some_hidden_states_are_enough(recipe, models):
    recipe([models("WavLM"), models("Hubert")], fusion="concat")
    predictors = effusion(num_layers=2).choose()
    assert [predictor.layers for predictor in predictors] == [[0, 3], [0, 3]]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"fusion": "layer_conv"}, "one hidden state of each, found 'layer_conv'"),
        ({"frame_rate": 50}, "expected no frame_rate, found 50"),
    ],
)
def test_what_cannot_be_predicted_is_refused(conf, message, recipe, models):
    recipe([models("WavLM"), models("Hubert")], **conf)
    with pytest.raises(EnsembleError, match=message):
        load_ensemble(Path("exp/pair"), MODEL)


@pytest.mark.slow
def test_an_ordinary_experiment_with_a_report(recipe, models, tmp_path, capsys):
    recipe([models("WavLM"), models("Hubert")], fusion="concat")
    write_table("shape", {key: str(n) for key, n in LENGTHS.items()})
    config = yaml.safe_load(Path("exp/pair/config.yaml").read_text())
    for split in ("train", "valid"):
        config[f"{split}_shape_file"] = ["shape"]
    more = {"batch_type": "unsorted", "batch_size": 3, "num_workers": 0, "ngpu": 0}
    more["best_model_criterion"] = [["valid", "cer_ctc", "min"]]
    Path("exp/pair/config.yaml").write_text(yaml.safe_dump({**config, **more}))
    shutil.copy(f"exp/pair/{MODEL}", "exp/pair/valid.cer_ctc.ave.pth")
    options = ["exp/pair", "--data_dir", ".", "--cache_dir", "feats", "--nj", "1"]
    main([*options, "--epochs", "1", "--dataset", "dev"])
    report = Path("exp/pair_effuse/effuse/report.md").read_text()
    assert report in capsys.readouterr().out
    assert "pair_effuse" in report and f"dev: {len(NUM_SAMPLES)} utterances" in report
    about = json.loads(Path("exp/pair_effuse/effuse/prediction.json").read_text())
    assert about["layers"] == [0, 1, 2, 3]
    model = load_ctc_model(None, Path("exp/pair_effuse/valid.cer_ctc.ave.pth"))
    conf = FrontendConf.parse(model.config.frontend_conf)
    assert len(conf.upstreams) == 1 and conf.fusion == "prediction"
    log_probs, lengths = model.log_probs(torch.rand(1, 8000), torch.tensor([8000]))
    assert log_probs.shape[:2] == (1, int(lengths)) == (1, 24)
