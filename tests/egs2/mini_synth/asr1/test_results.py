"""The miniature's table, from the results that its stage script leaves."""

from repository import REPOSITORY

from espnet_ensemble.bin.table import main
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.recipes.results import write_score
from espnet_ensemble.testing.recipes import clone_recipe

TAG = "decode_asr_ctc_asr_model_valid.cer_ctc.best"
FAMILIES = ["wav2vec2", "hubert", "wavlm"]
COMBINATIONS = [
    *([family] for family in FAMILIES),
    ["wav2vec2", "hubert"],
    ["wavlm", "wav2vec2"],
    ["wavlm", "hubert"],
    FAMILIES,
]


def make_result(exp, name, errors, words=20):
    """Results of a system that gets so many of the words wrong."""
    ref = {"utt1": ["a"] * words}
    hyp = {"utt1": ["b"] * errors + ["a"] * (words - errors)}
    for dataset in ("dev", "test"):
        folder = exp / name / TAG / dataset
        write_score(folder / "score_wer", ref, hyp, {"utt1": "alice"})
        write_table(folder / "text", {"utt1": " ".join(hyp["utt1"])})


def read_rows(text):
    """The rows of all tables in Markdown, without headers."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
        and not line.startswith(("|-", "| upstreams", "| corpus"))
    ]


def test_table_and_chart(tmp_path, capsys):
    (tmp_path / "conf").symlink_to(REPOSITORY / "conf")
    exp = clone_recipe(REPOSITORY, tmp_path, "mini_synth") / "exp"
    errors = {"wav2vec2": 10, "hubert": 5, "wavlm": 4}
    for head in ("ctc", "transformer2_ctc"):
        for families in COMBINATIONS:
            name = "_".join(f"{family}_ctc" for family in families)
            number = errors.get("_".join(families), 3) - (head != "ctc")
            make_result(
                exp,
                f"asr_train_asr_{head}_speechbrain_{name}_norm-utterance_raw_char",
                number,
            )
    main(["--table", "mini_synth", "--root", str(tmp_path), "--collect"])
    folder = tmp_path / "docs" / "results"
    rows = read_rows((folder / "mini_synth.md").read_text())
    by_name = {}
    for row in rows:
        by_name.setdefault(row[0], []).append(row[1:])
    # Pre-trained ones come first: nothing of theirs has run.
    assert by_name["wav2vec2"][:2] == [[""] * 5] * 2
    assert by_name["wav2vec2"][2] == ["50.00", "50.00", "50.00", "", ""]
    assert by_name["wav2vec2+hubert"][2][:4] == [*["15.00"] * 3, "+40.0"]
    assert by_name["wav2vec2+hubert+wavlm"][2][:4] == [*["15.00"] * 3, "+25.0"]
    assert by_name["wav2vec2+hubert"][3][:4] == [*["10.00"] * 3, "+50.0"]
    assert by_name["wavlm+wavlm (control)"] == [[""] * 5] * 4
    assert (folder / "mini_synth.png").stat().st_size > 1000
    claims = read_rows(capsys.readouterr().out)
    assert ["mini_synth", "finetuned", "ctc"] in [row[:3] for row in claims]
    orders = [row for row in claims if row[3].startswith("alone, ")]
    assert orders[2][4] == "held (20.0, 25.0, 50.0)"
