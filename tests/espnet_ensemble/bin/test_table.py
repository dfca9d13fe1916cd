"""The command, on a checkout whose recipes' run.sh are stand-ins."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import REPOSITORY

from espnet_ensemble.bin.table import main
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.recipes.results import write_score
from espnet_ensemble.recipes.tables.states import running

TABLE = """\
title: A small table
inference_config: conf/decode_asr_ctc.yaml
corpora:
    words:
        title: Words
        recipe: words
        train_set: train_short
        hours: 0.5
        sets: [dev, test]
        valid_sets: [dev]
heads: {ctc: CTC layer only, transformer2_ctc: 2 encoder layers + CTC}
sizes:
    tiny: {wavlm: m/wavlm, hubert: f/hubert, wav2vec2: f/wav2vec2}
claims: {best: wavlm+hubert, gain: 10, order: [wavlm, hubert, wav2vec2]}
systems:
    words:
        tiny:
            wavlm: {ctc: [20.0, 40.0], transformer2_ctc: [10.0, 20.0]}
            hubert: {ctc: [30.0, 50.0], transformer2_ctc: [null, null]}
            wav2vec2: {ctc: [90.0, 95.0], transformer2_ctc: [50.0, 60.0]}
            wavlm+hubert: {ctc: [18.0, "36.0?"], transformer2_ctc: [9.0, 18.0]}
controls:
    words:
        tiny:
            wavlm+wavlm: {ctc: null}
"""
# Trains one epoch of two at a time, as asr.sh names and leaves things. What a system is to
# come to is in the file todo: nothing, a failure, or an end by a signal in epoch 2.
RUN = """\
#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
echo "$*" >> commands
while [ $# -gt 0 ]; do printf -v "${1#--}" '%s' "$2"; shift 2; done
name=$(basename "${asr_config}" .yaml)
for upstream in ${upstreams}; do name+=_$(basename "${upstream}"); done
tag=${asr_args// /}
exp=exp/asr_${name}_norm-utterance_raw_char${tag//--/_}
todo=$(grep -s "^${name} " todo | cut -d " " -f 2) || true
[ "${todo}" != fail ] || { echo "something is wrong" >&2; exit 3; }
mkdir -p "${exp}"
epoch=1
[ ! -L "${exp}/latest.pth" ] || epoch=2
for ((; epoch <= 2; epoch++)); do
    [ "${todo}${epoch}" != kill2 ] || kill -KILL $$
    echo "  epoch ${epoch}: train loss 1.0"
    touch "${exp}/train.log" "${exp}/${epoch}epoch.pth"
    ln -sfn "${epoch}epoch.pth" "${exp}/latest.pth"
done
touch "${exp}/.done"
[ "${todo}" != unscored ] || exit 0
for set in ${test_sets}; do
    dir=${exp}/decode_asr_ctc_asr_model_valid.cer_ctc.best/${set}/score_wer
    mkdir -p "${dir}"
    cp result.txt ref.trn hyp.trn "${dir}"
done
"""


SPEECHBRAIN = "train_asr_ctc_speechbrain"
TAG = "decode_asr_ctc_asr_model_valid.cer_ctc.best"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The recipe of a checkout; the working directory is in it."""
    (tmp_path / "conf" / "tables").mkdir(parents=True)
    (tmp_path / "conf" / "tables" / "table2.yaml").write_text(TABLE)
    folder = tmp_path / "egs2" / "words" / "asr1"
    (folder / "conf").mkdir(parents=True)
    for name in ("ctc", "transformer2_ctc", "conformer_ctc"):
        conf = {"frontend": "ensemble", "frontend_conf": {"upstreams": ["x"]}}
        conf["encoder_conf"] = {"num_blocks": 4}
        path = folder / "conf" / f"train_asr_{name}.yaml"
        path.write_text(yaml.safe_dump({**conf, "max_epoch": 2}))
    (folder / "run.sh").write_text(RUN)
    (folder / "run.sh").chmod(0o755)
    result = write_score(tmp_path / "s", {"u": ["a"] * 4}, {"u": ["a"]}, {"u": "spk"})
    for path in (result, *result.parent.glob("*.trn")):
        path.rename(folder / path.name)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def table(recipe, capfd):
    """Run the command: table(option, ...) -> exit status, output, error messages."""

    def run(*options):
        code = 0
        try:
            main(["--table", "2", *options])
        except SystemExit as exit:
            code = exit.code
        return (code, *capfd.readouterr())

    return run


def states(output):
    """Upstreams and head -> state, of the list."""
    rows = [re.split("  +", line) for line in output.splitlines()[2:-1]]
    return {f"{upstreams} {head}": state for _, _, upstreams, head, _, state in rows}


def test_list(table):
    code, output, _ = table("--head", "ctc")
    assert code == 0
    assert states(output) == {
        f"{name} ctc": "not run"
        for name in ("wavlm", "hubert", "wav2vec2", "wavlm+hubert")
    }
    assert output.endswith("0 of 4 done\n")


def test_dry_run_prints_commands_and_runs_nothing(table, recipe):
    code, output, _ = table("--dry_run", "--upstreams", "hubert+wavlm")
    comment, command, *_ = output.splitlines()
    assert code == 0 and len(output.splitlines()) == 4
    assert comment == "# words tiny wavlm+hubert ctc: not run"
    assert shlex.split(command)[:5] == [
        *["egs2/words/asr1/run.sh", "--train_set", "train_short"],
        *["--test_sets", "dev test"],
    ]
    assert not (recipe / "commands").exists()
    words = shlex.split(command)
    assert (recipe / words[words.index("--asr_config") + 1]).is_file()


def test_run_goes_on_after_failures_and_resumes(table, recipe):
    (recipe / "todo").write_text(
        "train_asr_ctc_speechbrain_wavlm kill\ntrain_asr_ctc_speechbrain_hubert fail\n"
        "train_asr_ctc_speechbrain_wav2vec2 unscored\n"
    )
    code, output, error = table("--run", "--head", "ctc", "--run_args", "--ngpu 0")
    assert code == 1
    assert "[1/4 words tiny wavlm ctc]   epoch 1: train loss 1.0\n" in output
    assert "[4/4 words tiny wavlm+hubert ctc]   epoch 2: train loss 1.0\n" in output
    assert output.endswith("1 of 4 systems done\n")
    assert "something is wrong\n" in error
    assert error.endswith(
        "table: failed:\n"
        "  words tiny wavlm ctc: run.sh was ended by signal 9\n"
        "  words tiny hubert ctc: run.sh ended with exit status 3\n"
        "  words tiny wav2vec2 ctc: run.sh ended well, but evaluation sets are not yet "
        "scored\n"
    )
    commands = (recipe / "commands").read_text().splitlines()
    assert len(commands) == 4 and all(c.endswith(" --ngpu 0") for c in commands)
    _, output, _ = table()
    done = "done: dev 75.00, test 75.00"
    assert states(output) == {
        **{f"{name} transformer2_ctc": "not run" for name in ("wavlm", "hubert")},
        **{f"{n} transformer2_ctc": "not run" for n in ("wav2vec2", "wavlm+hubert")},
        "wavlm ctc": "interrupted: epoch 1 of 2 done",
        "hubert ctc": "not run",
        "wav2vec2 ctc": "interrupted: trained, not yet scored",
        "wavlm+hubert ctc": done,
    }

    (recipe / "todo").unlink()
    code, output, error = table("--run", "--head", "ctc")
    assert (code, error) == (0, "")
    assert "[1/4 words tiny wavlm ctc]   epoch 2: " in output
    assert "wavlm ctc]   epoch 1" not in output
    assert "[4/4 words tiny wavlm+hubert ctc] done already\n" in output
    assert output.endswith("4 of 4 systems done\n")
    assert len((recipe / "commands").read_text().splitlines()) == 4 + 3
    assert set(states(table("--head", "ctc")[1]).values()) == {done}


def test_two_runs_do_not_share_a_system(table, recipe):
    (recipe / "exp").mkdir(exist_ok=True)
    with running(recipe / "exp" / f"asr_{SPEECHBRAIN}_wavlm_norm-utterance_raw_char"):
        code, output, error = table("--run", "--head", "ctc")
    assert code == 1 and output.endswith("3 of 4 systems done\n")
    assert error.endswith("words tiny wavlm ctc: another process is running it\n")


def test_setups_are_other_experiments(table, recipe):
    options = ["--fusion", "sum", "--encoder", "conformer", "--layer", "weighted_sum"]
    options += ["--head", "transformer2_ctc"]
    table("--run", "--upstreams", "wavlm", "--head", "transformer2_ctc")
    assert "0 of 4 done" in table(*options)[1]
    _, output, _ = table("--dry_run", *options)
    words = shlex.split(output.splitlines()[-1])
    path = Path(words[words.index("--frontend_config") + 1])
    conf = yaml.safe_load(path.read_text())["frontend_conf"]
    assert path.stem == (
        "train_asr_conformer_ctc_speechbrain_"
        "wavlm-layerweighted_sum_hubert-layerweighted_sum_sum_norm-utterance"
    )
    assert conf["fusion"] == "sum"
    assert conf["upstreams"][1] == {"name": "f/hubert", "layer": "weighted_sum"}
    assert "exp/conf/tables/words/train_asr_conformer_ctc_speechbrain.yaml" in words


def read_rows(text):
    """The rows of all tables in Markdown, without headers."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|-")
    ]
    return [row for row in rows if row[0] not in ("upstreams", "corpus")]


def leave_results(system, errors, seed=0, words=100, in_dev=0):
    """Leave behind a system that gets so many of the words wrong, in every utterance.

    So many more, in those of the validation set.
    """
    suffix = f"_seed{seed}" if seed else ""
    exp = Path(f"exp/asr_{SPEECHBRAIN}_{system}_norm-utterance_raw_char{suffix}")
    utts = [f"u{number}" for number in range(20)]
    ref = {utt_id: ["a"] * words for utt_id in utts}
    for dataset, wrong in (("dev", errors + in_dev), ("test", errors)):
        hyp = {utt_id: ["a"] * (words - wrong) for utt_id in utts}
        folder = exp / TAG / dataset
        spk = {utt_id: "spk" for utt_id in utts}
        write_score(folder / "score_wer", ref, hyp, spk)
        write_score(folder / "score_cer", ref, hyp, spk)
        write_table(folder / "text", {u: " ".join(words) for u, words in hyp.items()})
    return exp


TRAIN_LOG = """\
    Number of trainable parameters: 12.31 K (100.0%)
2026 INFO: 1epoch results: [train] loss=3.0, time=1 minute and 30 seconds, total_count=4, \
[valid] loss_ctc=2.0, cer_ctc=0.5, loss=2.0, time=30 seconds, total_count=1
"""


def test_collect_with_nothing_run(table, tmp_path):
    code, output, _ = table("--collect")
    text = (tmp_path / "docs" / "results" / "table2.md").read_text()
    assert code == 0
    rows = read_rows(text)
    assert rows[0] == ["wavlm", "20.00", "", "40.00", "", "40.00", *[""] * 4]
    pair = ["wavlm+hubert", "18.00", "", "36.00?", "", "36.00", "", "+10.0", "", ""]
    assert rows[3] == pair
    assert rows[4] == ["wavlm+wavlm (control)", *[""] * 9]
    assert rows[6] == ["hubert", *[""] * 9]
    assert [row[3:] for row in rows[9:]] == [
        ["wavlm+hubert has the lowest rate", "held (36.0)", "not enough data"],
        [
            "wavlm+hubert is about 10 % (5 to 15) below its best member",
            "held (+10.0 %)",
            "not enough data",
        ],
        [
            "alone, wavlm < hubert < wav2vec2",
            "held (40.0, 50.0, 95.0)",
            "not enough data",
        ],
        ["wavlm+hubert has the lowest rate", *["not enough data"] * 2],
        [
            "wavlm+hubert is about 10 % (5 to 15) below its best member",
            *["not enough data"] * 2,
        ],
        ["alone, wavlm < hubert < wav2vec2", *["not enough data"] * 2],
    ]
    assert read_rows(output) == rows[9:]
    assert "![Mean word error rates of all systems](table2.png)" in text
    assert "train_short (0.5 h) for 2 epochs, one chosen by dev: " in text
    assert "Variant `speechbrain`: " in text
    assert "A question mark follows a number that looks like a misprint." in text
    picture = tmp_path / "docs" / "results" / "table2.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not picture.with_name("table2_curves.png").exists()


def test_collect_our_numbers(table, tmp_path):
    for name, errors in {"wavlm": 50, "hubert": 40, "wavlm_hubert": 37}.items():
        exp = leave_results(name, errors)
    (exp / "train.log").write_text(TRAIN_LOG)
    logdir = exp / TAG / "dev" / "logdir"
    logdir.mkdir()
    (logdir / "asr_inference.1.log").write_text(
        "[x] 2026-01-01 10:00:00,123 INFO: a\nnothing\n[x] 2026-01-01 10:01:30 b\n"
    )
    table("--collect")
    folder = tmp_path / "docs" / "results"
    text = (folder / "table2.md").read_text()
    rows = read_rows(text)
    hubert = ["hubert", "30.00", "40.00", "50.00", "40.00", "50.00", "40.00"]
    assert rows[1] == [*hubert, "", "", ""]
    pair = ["wavlm+hubert", "18.00", "37.00", "36.00?", "37.00", "36.00", "37.00"]
    assert rows[3] == [*pair, "+10.0", "+7.5", "< 0.001"]
    assert rows[5] == ["wavlm+hubert", "37.00", "37.00", "12.31 K", "2.0", "1.5"]
    answers = [row[-1] for row in rows if row[3:4] and "wavlm+hubert" in row[3]]
    assert answers[:2] == ["not enough data", "held (+7.5 %)"]
    assert "![Learning curves of all systems](table2_curves.png)" in text
    assert (folder / "table2_curves.png").read_bytes().startswith(b"\x89PNG")


def test_what_chooses_the_epoch_does_not_count(table, tmp_path):
    """Nor for the gain and the test: there, the combination is far worse."""
    leave_results("wavlm", 50)
    leave_results("hubert", 60)
    leave_results("wavlm_hubert", 49, in_dev=40)
    table("--collect")
    text = (tmp_path / "docs" / "results" / "table2.md").read_text()
    pair = next(row for row in read_rows(text) if row[0] == "wavlm+hubert")
    assert pair[2] == "89.00" and pair[6] == "49.00"
    assert pair[8:] == ["+2.0", "< 0.001"]


def test_collect_says_what_keeps_posteriors(table, tmp_path):
    path = tmp_path / "conf" / "tables" / "table2.yaml"
    path.write_text(f"save_posteriors: true\n{TABLE}")
    for name in ("wavlm", "wavlm_hubert"):
        leave_results(name, 50)
    command = (
        "espnet-ensemble table --table 2 --corpus words --size tiny --head ctc --run"
    )
    missing = "The mean of posteriors is missing, as wavlm did not keep them. "
    _, output, _ = table("--collect")
    text = (tmp_path / "docs" / "results" / "table2.md").read_text()
    assert text.count(missing) == output.count(missing) == 1
    assert f"{missing}This decodes again what did not: `{command}`" in text
    # The run.sh of these tests does not keep them, either.
    _, _, error = table("--run", "--upstreams", "wavlm", "--head", "ctc")
    assert error.endswith(
        "sets are scored, but decoded without --save_posteriors true\n"
    )
    assert table("--run", "--upstreams", "wavlm+hubert", "--head", "ctc")[0] == 0


def test_collect_several_seeds(table, tmp_path):
    for seed, (single, pair) in enumerate([(50, 40), (52, 41), (54, 51)]):
        leave_results("wavlm", single, seed)
        leave_results("hubert", 60, seed)
        leave_results("wavlm_hubert", pair, seed)
    table("--collect", "--seeds", "0-3")
    text = (tmp_path / "docs" / "results" / "table2.md").read_text()
    assert "# Table 2 --seeds 0,1,2,3: A small table\n" in text
    rows = read_rows(text)
    # 4.30 is Student's t for two degrees of freedom.
    assert rows[0][6] == "52.00 ± 4.97 (3 seeds)"
    assert rows[1][6] == "60.00 ± 0.00 (3 seeds)"
    assert rows[3][2] == "44.00" and rows[3][8] == "+15.4"


def test_run_with_several_seeds(table, recipe):
    code, output, _ = table(
        "--run", "--upstreams", "wavlm", "--head", "ctc", "--seeds", "0,2"
    )
    assert code == 0
    assert "[2/2 words tiny wavlm ctc seed 2]   epoch 1: " in output
    exp = f"asr_{SPEECHBRAIN}_wavlm_norm-utterance_raw_char"
    assert (recipe / "exp" / f"{exp}_seed2").is_dir() and (
        recipe / "exp" / exp
    ).is_dir()


def test_options_of_training(table, recipe):
    options = ["--upstreams", "wavlm", "--head", "ctc"]
    options += ["--run_args", '--ngpu 0 --asr_args "--seed 1"']
    code, _, error = table("--run", *options)
    assert (code, error) == (0, "")
    assert " --asr_args --seed 1 " in (recipe / "commands").read_text()
    assert "1 of 1 done" in table(*options)[1]
    assert "0 of 1 done" in table(*options[:4])[1]
    assert "1 of 1 done" in table(*options[:4], "--seeds", "1")[1]


def test_collect_another_setup(table, tmp_path):
    table(
        "--collect",
        "--layer",
        "8,hubert=7",
        "--fusion",
        "attention",
        "--variant",
        "raw",
    )
    folder = tmp_path / "docs" / "results"
    name = "table2_raw_layer8_hubert-layer7_attention"
    text = (folder / f"{name}.md").read_text()
    assert (folder / f"{name}.png").exists()
    options = "--table 2 --variant raw --layer 8,hubert=7 --fusion attention"
    assert text.startswith(
        "# Table 2 --variant raw --layer 8,hubert=7 --fusion attention: A small table\n"
    )
    assert f"{options} --corpus words --size tiny" in text
    assert "Variant `raw`: " in text


def test_conformers_are_called_so(table, tmp_path):
    table("--collect", "--encoder", "conformer")
    text = (tmp_path / "docs" / "results" / "table2_conformer.md").read_text()
    assert "## Words, tiny, 4 conformer layers + CTC" in text
    assert "2 encoder layers" not in text


def test_controls_are_chosen(table):
    assert list(states(table("--part", "control")[1])) == ["wavlm+wavlm ctc"]
    assert len(states(table("--part", "all")[1])) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "one"], "expected numbers from 0 and ranges, such as 0-4"),
        (["--layer", "7,8"], "expected one layer of all upstreams, found 7, 8"),
        (["--variant", "pure"], "invalid choice: 'pure'"),
    ],
)
def test_options_that_mean_nothing(options, message, table):
    code, _, error = table(*options)
    assert code == 2 and message in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "base"], "--size base: expected one of tiny"),
        (
            ["--root", "nowhere"],
            "nowhere: expected a checkout of ESPnet-Ensemble, with",
        ),
        (["--table", "4"], "--table 4: expected one of 2"),
        (["--smoke"], "--smoke: expected systems of librispeech_100, "),
        (["--run", "--run_args", "--asr_tag x"], "--run_args: --asr_tag is for the"),
    ],
)
def test_user_errors(options, message, table, recipe):
    code, _, error = table(*options)
    assert code == 1
    assert error.startswith(f"table: {message}")
    assert not (recipe / "commands").exists()


def test_run_without_a_recipe(table, recipe):
    (recipe / "run.sh").unlink()
    code, _, error = table("--run")
    assert code == 1
    assert error == f"table: {recipe / 'run.sh'}: there is no such file\n"


def test_without_a_checkout_it_says_so(tmp_path, monkeypatch, capsys):
    """The package may be installed from a wheel, which has neither conf nor egs2."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        main(["--table", "1"])
    assert exit.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(
        f"table: {tmp_path}: expected a checkout of ESPnet-Ensemble"
    )
    main(["--table", "1", "--root", str(REPOSITORY), "--dry_run"])
    assert capsys.readouterr().out.count("egs2/librilight_10h/asr1/run.sh") == 3


def test_a_table_without_the_paper_s_numbers(table, recipe, tmp_path):
    """Ours are in one column, and there is no claim to check."""
    conf = yaml.safe_load(TABLE)
    del conf["claims"], conf["controls"]
    conf["systems"] = {
        "words": {"tiny": {name: {"ctc": None} for name in ("wavlm", "wavlm+hubert")}}
    }
    (tmp_path / "conf/tables/mine.yaml").write_text(yaml.safe_dump(conf))
    assert table("--table", "mine", "--run")[0] == 0
    code, output, _ = table("--table", "mine", "--collect")
    folder = tmp_path / "docs" / "results"
    text = (folder / "mine.md").read_text()
    assert code == 0 and (folder / "mine.png").exists()
    assert text.startswith("# Table mine: A small table\n")
    assert "The paper's numbers" not in text
    assert "`espnet-ensemble table --table mine --corpus words --size tiny" in text
    assert read_rows(text) == [
        ["wavlm", "75.00", "75.00", "75.00", "", ""],
        ["wavlm+hubert", "75.00", "75.00", "75.00", "", ""],
    ]
    assert read_rows(output) == read_rows(text)


def test_listing_loads_no_stand_ins(recipe):
    """They are for smoke runs alone, and take seconds."""
    script = (
        "import sys; from espnet_ensemble.bin.table import main; "
        "main(['--table', '2']); "
        "print({n for n in sys.modules if n.startswith('espnet_ensemble.testing')})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("0 of 8 done\nset()\n")
