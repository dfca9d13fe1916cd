import re
from collections import Counter

import pytest
import yaml
from repository import REPOSITORY

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.tables.systems import (
    find_experiment_table,
    read_experiment_table,
    select,
)

CONF = REPOSITORY / "conf"


def find(table, name):
    (system,) = [system for system in table.systems if str(system) == name]
    return system


def of_the_paper(table):
    return [system for system in table.systems if system.part == "paper"]


def test_the_paper_has_62_systems(tables):
    assert [len(of_the_paper(tables[n])) for n in (1, 2, 3)] == [6, 28, 28]
    names = [str(system) for table in tables.values() for system in of_the_paper(table)]
    assert len(set(names)) == 62


def test_every_combination_has_every_head(tables):
    for number, sizes in ((2, 2), (3, 2), (1, 1)):
        table = tables[number]
        groups = Counter(system.group for system in of_the_paper(table))
        combinations = {system.combination for system in of_the_paper(table)}
        assert set(groups.values()) == {len(combinations)}
        corpora = {system.corpus.name for system in of_the_paper(table)}
        heads = {system.head.name for system in of_the_paper(table)}
        assert len(groups) == len(corpora) * sizes * len(heads)
    assert len(combinations) == 3


def test_cells_that_are_empty_in_the_paper(tables):
    empty = {
        str(system)
        for table in tables.values()
        for system in of_the_paper(table)
        if not system.paper
    }
    assert empty == {
        "librispeech_100 large wav2vec2+hubert+wavlm transformer2_ctc",
        "wsj base wav2vec2 ctc",
        "wsj large wav2vec2 transformer8_ctc",
    }
    for table in tables.values():
        for system in table.systems:
            assert system.part != "control" or not system.paper
            assert not system.paper or set(system.paper) == set(system.corpus.sets)


@pytest.mark.parametrize("recipe", ["librispeech_100", "librilight_10h", "wsj"])
def test_numbers_in_the_recipes_readme(recipe, tables):
    readme = CONF.parent / "egs2" / recipe / "asr1" / "README.md"
    _, _, results = readme.read_text().partition("\n## Results\n")
    rows = [line.split("|") for line in results.splitlines() if line.startswith("|")]
    # After the name come pairs: the paper's, and ours.
    shown = Counter(
        float(cell.strip().removesuffix("?"))
        for row in rows
        for cell in row[2:-1:2]
        if re.search(r"\d\.\d", cell)
    )
    assert shown == Counter(
        rate
        for table in tables.values()
        for system in of_the_paper(table)
        if system.corpus.recipe == recipe
        for rate in system.paper.values()
    )


def test_the_paper_s_numbers(tables):
    """Sums of each table, against slips, and some cells of each by eye."""
    sums = [
        sum(sum(system.paper.values()) for system in of_the_paper(tables[n]))
        for n in (1, 2, 3)
    ]
    assert sums == pytest.approx([158.50, 4720.93, 2107.59])
    assert find(tables[1], "wsj_10h finetuned_large wav2vec2 ctc").paper == {
        "test_dev93": 37.21,
        "test_eval93": 35.36,
    }
    assert find(tables[2], "librispeech_100 large wavlm+hubert ctc").paper == {
        "dev_clean": 41.17,
        "test_clean": 41.61,
        "dev_other": 46.38,
        "test_other": 46.06,
    }
    assert find(tables[3], "wsj base wav2vec2 transformer8_ctc").paper == {
        "test_dev93": 35.12,
        "test_eval93": 31.84,
    }


def test_checkpoints_are_those_of_the_shared_frontends(tables):
    for table in tables.values():
        for system in table.systems:
            size = system.size
            if system.part == "control":
                continue
            if size == "xlarge" and "hubert" not in system.families:
                size = "large"
            name = f"{size}_{'_'.join(system.families)}.yaml"
            frontend = yaml.safe_load((CONF / "frontends" / name).read_text())
            assert frontend["frontend_conf"]["upstreams"] == list(system.upstreams)


def test_select(tables):
    systems = tables[2].systems
    assert len(select(systems, part="paper", size="base")) == 14
    (system,) = select(systems, size="large", head="ctc", upstreams="hubert + wavlm")
    assert str(system) == "librispeech_100 large wavlm+hubert ctc"
    assert select(systems, corpus=None) == systems


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"size": "huge"}, "--size huge: expected one of base, large, xlarge"),
        ({"part": "reading", "size": "base"}, "--size base: expected one of xlarge"),
        ({"head": "transformer8_ctc"}, "expected one of ctc, transformer2_ctc"),
        ({"upstreams": "hubert+hubert"}, "expected one of wavlm, hubert, wav2vec2, "),
        ({"corpus": "wsj"}, "--corpus wsj: expected one of librispeech_100"),
    ],
)
def test_what_no_system_has_is_refused(wanted, message, tables):
    with pytest.raises(EnsembleError, match=message.replace("+", r"\+")):
        select(tables[2].systems, **wanted)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title:", "titel:", "unknown key 'titel'; expected title,"),
        (
            "[ 4.13,  4.31,  6.91,",
            "[ 4.13,  4.31,",
            "for each of dev_clean, test_clean",
        ),
        ("37.21", "'37.21'", r"systems.wsj_10h.finetuned_large.wav2vec2.ctc: expected"),
        ("wav2vec2+hubert: {", "wavlm: {", "wavlm: expected one of wav2vec2, hubert"),
        ("{ctc: [ 4.35", "{cct: [ 4.35", "cct: expected one of ctc"),
        ("CTC layer only", "{titel: x}", "heads.ctc: unknown key 'titel'"),
        ("{random_weights:", "{random:", "controls.librilight_10h.* key 'random'"),
        (
            "    hours: 10\n",
            "    hour: 10\n",
            "corpora.librilight_10h: unknown key 'hour'",
        ),
        (
            "[test_dev93]",
            "[dev93]",
            "valid_sets: expected some of test_dev93, test_eval93",
        ),
        (
            "[test_dev93]",
            "[test_dev93, test_eval93]",
            "test_eval93, not all, found test_dev93, test_eval93",
        ),
        ("s: true ", "s: yes please ", "save_posteriors: expected true or false"),
        ("max_epoch: 8", "max_epoch: many", "max_epoch: expected a number.*'many'"),
        ("max_epoch: 8", "max_epoch: {bsae: 8}", "max_epoch: unknown key 'bsae'"),
        ("best: ", "bset: ", "claims: unknown key 'bset'"),
        ("systems:", "systems: 1\nx:", "unknown key 'x'"),
        ("title:", "title: [", "while parsing"),
    ],
)
def test_wrong_files_are_named(old, new, message, tmp_path):
    text = (CONF / "tables" / "table1.yaml").read_text()
    assert old in text
    path = tmp_path / "table1.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(EnsembleError, match=f"^{path}: .*{message}") as error:
        read_experiment_table(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("name", "file"),
    [("2", "table2"), ("table2", "table2"), ("mini_synth", "mini_synth")],
)
def test_tables_are_found_by_number_or_name(name, file):
    path = find_experiment_table(REPOSITORY, name)
    assert path == CONF / "tables" / f"{file}.yaml"
    table = read_experiment_table(path)
    assert table.name == file and table.label == name.removeprefix("table")


def test_an_unknown_table_is_refused_with_those_that_there_are():
    message = "--table 4: expected one of mini_synth, 1, 2, 3"
    with pytest.raises(EnsembleError, match=message):
        find_experiment_table(REPOSITORY, "4")


def test_the_miniature_has_the_same_combinations_twice_and_no_numbers(mini_synth):
    assert not mini_synth.is_published
    groups = Counter(system.group for system in of_the_paper(mini_synth))
    assert set(groups) == {
        ("mini_synth", size, head)
        for size in ("pretrained", "finetuned")
        for head in ("ctc", "transformer2_ctc")
    }
    assert set(groups.values()) == {7}
    for system in of_the_paper(mini_synth):
        suffix = "_ctc" if system.size == "finetuned" else ""
        expected = [f"upstreams/{family}{suffix}" for family in system.families]
        assert list(system.upstreams) == expected
        assert system.max_epoch == (40 if system.size == "pretrained" else None)


def test_other_readings_have_the_paper_s_numbers(tables):
    large = "librispeech_100 {} wav2vec2+hubert ctc"
    named = find(tables[2], large.format("xlarge"))
    assert named.paper == find(tables[2], large.format("large")).paper
    assert named.upstreams[1] == "facebook/hubert-xlarge-ll60k"
    ten_hours = [s for s in tables[3].systems if s.corpus.name == "wsj_10h"]
    assert {system.part for system in ten_hours} == {"reading"}
    assert {system.corpus.train_set for system in ten_hours} == {"train_10h"}
    whole = find(tables[3], "wsj base wavlm ctc")
    assert find(tables[3], "wsj_10h base wavlm ctc").paper == whole.paper


def test_one_number_looks_like_a_misprint(tables):
    doubtful = {
        str(system): set(system.doubtful)
        for table in tables.values()
        for system in of_the_paper(table)
        if system.doubtful
    }
    assert doubtful == {"librispeech_100 large wav2vec2+hubert ctc": {"dev_other"}}
    system = find(tables[2], "librispeech_100 large wav2vec2+hubert ctc")
    assert system.paper["dev_other"] == 66.77


def test_controls(tables):
    controls = [s for s in tables[2].systems if s.part == "control"]
    assert all(not system.paper for system in controls)
    twice = find(tables[2], "librispeech_100 base wavlm+wavlm ctc")
    assert twice.upstreams == ("microsoft/wavlm-base",) * 2
    random = find(tables[2], "librispeech_100 base wavlm_random ctc")
    folder = "exp/random_weights/wavlm-base-random"
    assert random.upstreams == (folder,)
    assert random.random == {folder: "microsoft/wavlm-base"}
    superb = find(tables[2], "librispeech_100 base wavlm superb_ctc")
    assert superb.head.layer == "weighted_sum"
    hours = {system.corpus.hours for system in tables[2].systems}
    assert hours == {1, 10, 100}


def test_missing_file(tmp_path):
    with pytest.raises(EnsembleError, match="table4.yaml"):
        read_experiment_table(tmp_path / "table4.yaml")
