"""The record, from what systems leave behind."""

import shutil
from dataclasses import replace

from espnet_ensemble.recipes.tables.experiments import Setup
from espnet_ensemble.recipes.tables.runs import time_file
from espnet_ensemble.recipes.tables.smoke_record import write_smoke_record


def test_record(tables, experiment, score, train, checkout):
    """Of the recipes, one has not been needed yet."""
    shutil.rmtree(checkout / "egs2" / "librilight_10h")
    ten_hours = [s for s in tables[1].systems if s.corpus.name == "wsj_10h"]
    ran, failed, control = (
        experiment(replace(system, max_epoch=1))
        for system in (ten_hours[0], ten_hours[1], ten_hours[3])
    )
    for done in (ran, control):
        score(done, 100)
        time_file(done).write_text("83\n")
    train(failed, 1)
    path = write_smoke_record(checkout, checkout, tables[1], Setup())
    assert path == checkout / "docs" / "results" / "smoke_table1.md"
    text = path.read_text()
    assert "of the paper's systems, 1 of 6 ran." in text
    assert "`espnet-ensemble table --table 1 --smoke` wrote this on 20" in text
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith("| part")
    ]
    assert [row[3:] for row in rows] == [
        *[[f"{name} ctc", "not run", ""] for name in ("wav2vec2", "hubert")],
        ["wav2vec2+hubert ctc", "not run", ""],
        ["wav2vec2 ctc", "ran", "83"],
        ["hubert ctc", "failed", ""],
        ["wav2vec2+hubert ctc", "not run", ""],
        ["hubert+hubert ctc", "ran", "83"],
    ]
