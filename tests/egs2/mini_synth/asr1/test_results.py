"""The miniature's table, from the results that its stage script leaves."""

from repository import REPOSITORY

from espnet_ensemble.bin.table import main
from espnet_ensemble.recipes.results import write_score
from espnet_ensemble.testing.recipes import clone_recipe

TAG = "decode_asr_ctc_asr_model_valid.cer_ctc.ave"
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
    write_score(exp / name / TAG / "test" / "score_wer", ref, hyp, {"utt1": "alice"})


def read_rows(text):
    """The rows of all tables in Markdown, without headers."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith(("|-", "| upstreams"))
    ]


def test_table_and_chart(tmp_path, capsys):
    (tmp_path / "conf").symlink_to(REPOSITORY / "conf")
    exp = clone_recipe(REPOSITORY, tmp_path, "mini_synth") / "exp"
    errors = {"wav2vec2": 10, "hubert": 5, "wavlm": 4}
    for head in ("ctc", "transformer2_ctc"):
        for families in COMBINATIONS:
            name = "_".join(f"{family}_ctc" for family in families)
            number = errors.get("_".join(families), 3) - (head != "ctc")
            make_result(exp, f"asr_train_asr_{head}_{name}_raw_char", number)
    main(["--table", "mini_synth", "--root", str(tmp_path), "--collect"])
    folder = tmp_path / "docs" / "results"
    rows = read_rows((folder / "mini_synth.md").read_text())
    assert len(rows) == 4 * 7
    assert all(row[1:] == ["", ""] for row in rows[:14])  # pre-trained: nothing has run
    assert rows[14] == ["wav2vec2", "50.00", ""]
    assert rows[17] == ["wav2vec2+hubert", "15.00", "+40.0"]
    assert rows[20] == ["wav2vec2+hubert+wavlm", "15.00", "+25.0"]
    assert rows[24] == ["wav2vec2+hubert", "10.00", "+50.0"]
    assert (folder / "mini_synth.png").stat().st_size > 1000
    assert read_rows(capsys.readouterr().out) == rows
