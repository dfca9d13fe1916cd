import json
import os

import pytest
import yaml

from espnet_ensemble.analysis import study
from espnet_ensemble.analysis.steps import Steps
from espnet_ensemble.bin import analyze
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.frontend_conf import FrontendConf


@pytest.fixture
def run(spoken, tmp_path, tiny_wavlm, tiny_hubert, slow_hubert, capsys):
    def run(*more):
        options = ["--data_dir", spoken, "--output_dir", tmp_path / "out", "--nj", "1"]
        options += ["--upstreams", tiny_wavlm, tiny_hubert, slow_hubert]
        analyze.main([str(option) for option in [*options, "--layers", 1, 3, *more]])
        return capsys.readouterr().out

    return run


def test_from_speech_to_a_configuration(run, tmp_path, tiny_wavlm, monkeypatch):
    printed, out = run(), tmp_path / "out"
    values = json.loads((out / "analysis.json").read_text())
    names = [layer["name"] for layer in values["layers"]]
    assert len(names) == 6 and names[0].endswith(":1")
    # Three alone, three pairs, and all.
    assert [len(c["members"]) for c in values["choices"]].count(2) == 3
    assert len(values["choices"]) == 7
    rates = [choice["cer"] for choice in values["choices"]]
    assert rates == sorted(rates)
    assert all(c["parameters"] > 0 and c["seconds"] > 0 for c in values["choices"])
    pictures = ["cka.png", "gain.png", "prediction.png", "probes.png", "svcca.png"]
    assert sorted(path.name for path in out.glob("*.png")) == pictures
    page = (out / "index.html").read_text()
    assert all(name in page for name in (*pictures, *names, "frontend_2.yaml"))
    for number in (1, 2, 3):
        config = yaml.safe_load((out / f"frontend_{number}.yaml").read_text())
        assert config["frontend"] == "ensemble"
        conf = FrontendConf.parse(config["frontend_conf"])
        assert len(conf.upstreams) <= number and conf.normalize == "utterance"
        assert {u.layer for u in conf.upstreams} <= {1, 3}
        assert f"{out / f'frontend_{number}.yaml'}" in printed
    # All is there: nothing is computed again.
    for name in ("run_probe", "compare_layers", "predict_layers", "measure"):
        monkeypatch.setattr(study, name, None)
    assert run() == printed


def test_goes_on_where_it_was_killed(run, tmp_path, monkeypatch):
    probes, probe = [], study.run_probe

    def die(layers, *args):
        if len(probes) == 2:
            raise KeyboardInterrupt
        probes.append([layer.label for layer in layers])
        return probe(layers, *args)

    monkeypatch.setattr(study, "run_probe", die)
    with pytest.raises(SystemExit):
        run("--max_members", 1)
    monkeypatch.setattr(
        study,
        "run_probe",
        lambda layers, *args: probes.append(0) or probe(layers, *args),
    )
    run("--max_members", 1)
    assert len(probes) == 6
    assert not (tmp_path / "out" / "frontend_2.yaml").exists()


def test_upstreams_that_differ_are_expected(run, tiny_wavlm):
    with pytest.raises(SystemExit):
        run("--upstreams", tiny_wavlm, tiny_wavlm)


def test_a_step_is_done_once_for_what_it_is_of(tmp_path):
    steps, done = Steps(tmp_path, {"data": ["a"]}), []

    def compute():
        done.append(0)
        return {"n": len(done)}

    assert [steps.find("x", {"of": (1,)}, compute)["n"] for _ in range(2)] == [1, 1]
    assert steps.find("x", {"of": [2]}, compute)["n"] == 2
    assert Steps(tmp_path, {"data": ["b"]}).find("x", {"of": [1]}, compute)["n"] == 3
    for name in os.listdir(tmp_path):
        (tmp_path / name).write_text("{}")
    with pytest.raises(EnsembleError, match="expected a result, found"):
        steps.find("x", {"of": [1]}, compute)
