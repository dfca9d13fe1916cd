"""One model decoded with subsets of its members."""

from pathlib import Path

import pytest
from cache_runs import NUM_SAMPLES, write_noises

from espnet_ensemble.bin import asr_inference_ctc
from espnet_ensemble.bin.ablate import main
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.recipes.results import read_results

MODEL = "valid.ave_2best.pth"
OPTIONS = ["exp/asr_x", "--dataset", "train", "--data_dir", "."]
OPTIONS += ["--inference_asr_model", MODEL]


@pytest.fixture(autouse=True)
def recipe(tmp_path, monkeypatch, build_model, models):
    """A recipe's folder with a model of two members, and a dataset."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))  # without sclite
    build_model(tmp_path / "exp/asr_x", upstreams(models), fusion="projection")
    data = write_noises(tmp_path)
    write_table(data / "text", dict.fromkeys(NUM_SAMPLES, "ab c"))
    return data


def upstreams(models):
    return [models("WavLM"), models("Hubert")]


def test_leave_one_out_gives_ordinary_decodings_and_a_table(tmp_path, models, capsys):
    main(OPTIONS)
    wavlm, hubert = (Path(name).name for name in upstreams(models))
    tags = [f"members_{wavlm}+{hubert}", f"members_{wavlm}", f"members_{hubert}"]
    results = read_results("exp/asr_x")
    wers = {r.inference_tag: r for r in results if r.metric == "wer"}
    assert set(wers) == set(tags)

    heading, _, *table = capsys.readouterr().out.strip().splitlines()
    assert (
        heading == f"train: {len(NUM_SAMPLES)} utterances, {2 * len(NUM_SAMPLES)} words"
    )
    rows = {tuple(map(str.strip, line.split("|")[1:-1])) for line in table[2:]}
    found = {(members, left_out) for members, left_out, *_ in rows}
    both = f"{wavlm}, {hubert}"
    assert found == {(both, "nothing"), (wavlm, hubert), (hubert, wavlm)}
    (whole,) = (row for row in rows if row[0] == both)
    assert whole[4:] == ("", "")
    for members, _, wer, _, against, p in rows - {whole}:
        assert float(wer) == pytest.approx(
            wers[f"members_{members}"].counts.percentages.errors, abs=0.1
        )
        assert float(against) == pytest.approx(float(wer) - float(whole[2]), abs=0.011)
        assert 0 <= float(p) <= 1

    options = ["--asr_model_file", f"exp/asr_x/{MODEL}", "--output_dir", "alone"]
    options += ["--data_path_and_name_and_type", "train/wav.scp,speech,sound"]
    asr_inference_ctc.main([*options, "--members", hubert])
    for name in ("text", "ctm"):
        theirs = tmp_path / "alone/1best_recog" / name
        ours = tmp_path / f"exp/asr_x/members_{hubert}/train" / name
        assert ours.read_text()
        assert ours.read_text() == theirs.read_text()


def test_every_subset(models):
    main([*OPTIONS, "--all_subsets"])
    assert len(list(Path("exp/asr_x").glob("members_*"))) == 3


def test_without_such_a_checkpoint(capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["exp/asr_x", "--dataset", "train"])
    assert (
        "ablate: exp/asr_x/valid.cer_ctc.ave.pth: expected" in capsys.readouterr().err
    )
