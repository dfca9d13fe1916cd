"""Systems of each recipe from stage 1 to 13, on small corpora, with tiny upstreams."""

from dataclasses import replace

import pytest
import yaml
from repository import REPOSITORY

from espnet_ensemble.bin.table import main
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.tables import smoke
from espnet_ensemble.recipes.tables.experiments import Experiment, Setup
from espnet_ensemble.recipes.tables.runs import run_systems
from espnet_ensemble.recipes.tables.smoke import prepare_smoke_runs
from espnet_ensemble.upstream.huggingface import load_huggingface

DECODED = "decode_asr_ctc_asr_model_valid.cer_ctc.best"


@pytest.fixture
def checkout(tmp_path):
    for name in ("conf", "egs2", "local"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    return tmp_path


@pytest.fixture
def prepare(checkout):
    """Prepare runs of systems: prepare(systems) -> runs."""

    def make(systems):
        experiments = [Experiment(checkout, system, Setup()) for system in systems]
        return prepare_smoke_runs(experiments, checkout / "exp" / "smoke", [])

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, name, exp",
    [
        (
            1,
            "librilight_10h finetuned_large hubert ctc",
            "asr_train_asr_ctc_speechbrain_hubert-xlarge-ls960-ft_norm-utterance_raw_char_"
            "max_epoch1",
        ),
        (
            2,
            "librispeech_100 base wavlm+wav2vec2 transformer2_ctc",
            "asr_train_asr_transformer2_ctc_speechbrain_wavlm-base_wav2vec2-base_"
            "norm-utterance_raw_char_max_epoch1",
        ),
    ],
    ids=["librilight_10h", "librispeech_100"],
)
def test_system(number, name, exp, tables, prepare):
    """With one of its four sets: ESPnet takes long to start decoding."""
    (system,) = [system for system in tables[number].systems if str(system) == name]
    corpus = replace(system.corpus, sets=("test_other",))
    runs = prepare([replace(system, corpus=corpus)])
    assert list(run_systems(runs))[-1] == "1 of 1 systems done"
    exp = runs[0].experiment.recipe_dir / "exp" / exp
    check(exp, system.upstreams, corpus.sets)
    # Of single upstreams, for the mean with others'.
    kept = exp / DECODED / "test_other" / "posteriors"
    assert kept.exists() == (len(system.upstreams) == 1)


@pytest.mark.slow
def test_command(checkout, capfd):
    options = "--table 3 --size large --upstreams wavlm+hubert --head transformer8_ctc"
    options = [*options.split(), "--smoke", "--root", str(checkout)]
    main(options)
    output = capfd.readouterr().out
    assert "epoch 1: train loss" in output and "1 of 1 systems done" in output
    name = "asr_train_asr_transformer8_ctc_speechbrain_wavlm-large_hubert-large-ll60k"
    name += "_norm-utterance_raw_char_max_epoch1"
    exp = checkout / "exp/smoke/egs2/wsj/asr1/exp" / name
    upstreams = ["microsoft/wavlm-large", "facebook/hubert-large-ll60k"]
    check(exp, upstreams, ["org/test_dev93", "test_eval93"])

    record = (checkout / "docs/results/smoke_table3.md").read_text()
    assert "of the paper's systems, 1 of 28 ran." in record
    rows = [row.split("|") for row in record.splitlines() if "| ran" in row]
    (seconds,) = [row[6].strip() for row in rows]
    assert rows[0][4].strip() == "wavlm+hubert transformer8_ctc" and int(seconds) > 0

    main(options)
    assert "done already" in capfd.readouterr().out
    assert (checkout / "docs/results/smoke_table3.md").read_text() == record


def check(exp, upstreams, sets):
    """All utterances of the sets have a transcription and are in the results."""
    config = yaml.safe_load((exp / "config.yaml").read_text())
    assert config["frontend_conf"]["upstreams"] == list(upstreams)
    results = (exp / "RESULTS.md").read_text()
    for name in sets:
        reference = exp.parents[1] / "dump" / "raw" / name / "text"
        hypotheses = exp / DECODED / name / "text"
        utterances = [line.split()[0] for line in reference.read_text().splitlines()]
        assert utterances == [
            line.split()[0] for line in hypotheses.read_text().splitlines()
        ]
        assert f"|{DECODED}/{name}|{len(utterances)}|" in results


@pytest.mark.slow
def test_sandbox_that_was_interrupted(tables, checkout, prepare, monkeypatch):
    """What was not finished is made anew, and what was stays."""
    systems = [
        s
        for s in tables[2].systems
        if str(s) == "librispeech_100 base wavlm+hubert ctc"
    ]
    root = checkout / "exp" / "smoke"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(smoke, "make_discs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(systems)
    assert not (root / "corpora").exists()
    runs = prepare(systems)
    assert {path.name for path in (root / "corpora").iterdir()} == {
        "LibriSpeech",
        "librispeech_finetuning",
        "WSJ0",
        "WSJ1",
    }
    made = {path: path.stat().st_mtime_ns for path in root.rglob("*.flac")}
    assert prepare(systems) == runs
    assert made == {path: path.stat().st_mtime_ns for path in root.rglob("*.flac")}


@pytest.mark.slow
@pytest.mark.parametrize("layer, found", [("last", (24,)), (8, (8,))])
def test_checkpoints_are_found_by_their_names(layer, found, tables, prepare):
    """They have as many layers as the published ones, for other layers than the last."""
    systems = [
        s
        for s in tables[2].systems
        if (s.size, s.head.name, s.part) == ("large", "ctc", "paper")
    ]
    env = prepare(systems)[0].env
    for checkpoint in {name for system in systems for name in system.upstreams}:
        upstream = load_huggingface(checkpoint, layer, cache_dir=env["HF_HUB_CACHE"])
        assert upstream.layers == found
        widths = {"wav2vec2": 24, "hubert": 32, "wavlm": 40}
        family = checkpoint.partition("/")[2].partition("-")[0]
        assert upstream.feature_size == widths[family]


def test_s3prl_is_refused(tables, checkout):
    experiment = Experiment(checkout, tables[2].systems[0], Setup(loader="s3prl"))
    with pytest.raises(EnsembleError, match="--smoke: expected --loader transformers"):
        prepare_smoke_runs([experiment], checkout / "exp" / "smoke", [])


def test_what_is_small_already_is_refused(mini_synth, prepare, checkout):
    with pytest.raises(EnsembleError, match="--smoke: expected .*, found mini_synth"):
        prepare(mini_synth.systems[:1])
    assert not (checkout / "exp").exists()
