import json

import pytest

from espnet_ensemble.bin.compare import main
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.recipes.results import write_score


@pytest.fixture
def exps(tmp_path):
    """Two experiments with two datasets each, one of them with an error."""
    said = {"a-1": "x y", "a-2": "z"}
    for name, dataset, hyp in (
        ("asr_a", "test", {"a-1": "x"}),
        ("asr_b", "test", {}),
        ("asr_a", "org/dev", {}),
        ("asr_b", "org/dev", {}),
    ):
        folder = tmp_path / name / "decode" / dataset
        tokens = [
            {utt_id: text.split() for utt_id, text in table.items()}
            for table in (said, {**said, **hyp})
        ]
        write_score(folder / "score_wer", *tokens, {"a-1": "a", "a-2": "a"})
        write_table(folder / "text", {**said, **hyp})
    return [str(tmp_path / "asr_a"), str(tmp_path / "asr_b")]


def test_all_datasets_and_files(exps, tmp_path, capsys):
    html, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    main([*exps, "--html", str(html), "--json", str(numbers), "--draws", "50"])
    out = capsys.readouterr().out
    assert "test: 2 utterances, 3 words" in out and "org/dev: 2 utterances" in out
    assert f"page: {html}" in out
    assert html.read_text().startswith("<!DOCTYPE html>")
    dev, test = json.loads(numbers.read_text())
    assert (dev["dataset"], test["dataset"]) == ("org/dev", "test")
    assert [row["name"] for row in test["rows"]] == ["asr_b", "asr_a"]
    assert test["rows"][1]["counts"]["deletions"] == 1


def test_one_dataset(exps, capsys):
    main([*exps, "--dataset", "test", "--draws", "50", "--number", "0"])
    out = capsys.readouterr().out
    assert "org/dev" not in out and "a-1" not in out


def test_decodings_that_have_nothing_in_common(exps, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([*exps, "--dataset", "other"])
    assert "compare: " in capsys.readouterr().err
