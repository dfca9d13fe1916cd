import pytest

from espnet_ensemble.bin.data_dir import main
from espnet_ensemble.data.datadir import validate, write


@pytest.fixture
def data(tmp_path):
    write(
        tmp_path / "data",
        {
            "utt2spk": {"a": "alice", "b": "alice", "c": "carl"},
            "text": {"a": "X", "b": "Y", "c": "Z"},
            "wav.scp": {"a": "a.wav", "b": "b.wav", "c": "c.wav"},
        },
    )
    return str(tmp_path / "data")


def test_validate(data, capsys):
    main(["validate", data])
    assert capsys.readouterr().out == f"{data}: 3 utterances, valid\n"
    with open(f"{data}/text", "a") as text:
        text.write("a X\n")
    with pytest.raises(SystemExit, match="1"):
        main(["validate", data])
    expected = "text:4: expected every key once, found 'a' also in line 1\n"
    assert capsys.readouterr().err == f"data_dir: {data}/{expected}"


def test_validate_no_text(data, tmp_path):
    (tmp_path / "data" / "text").unlink()
    main(["validate", "--no_text", data])
    with pytest.raises(SystemExit, match="1"):
        main(["validate", data])


def test_fix(data, tmp_path, capsys):
    (tmp_path / "data" / "text").write_text("c Z\na X\n")
    main(["fix", data])
    out = capsys.readouterr().out
    assert out == f"b: not in text\n{data}: dropped 1 utterances\n"
    main(["validate", data])


def test_subset_split_and_combine(data, tmp_path, capsys):
    (tmp_path / "list").write_text("c\na and more\n")
    for option, value, utterances in [
        ("--first", 1, "a"),
        ("--per_spk", 1, "ac"),
        ("--utt_list", tmp_path / "list", "ac"),
    ]:
        main(["subset", data, f"{tmp_path}/part", option, str(value)])
        out = capsys.readouterr().out
        assert out == f"{tmp_path}/part: {len(utterances)} utterances\n"
        assert list(validate(tmp_path / "part")["utt2spk"]) == list(utterances)
    main(["split", data, f"{tmp_path}/parts", "2"])
    parts = [f"{tmp_path}/parts/1", f"{tmp_path}/parts/2"]
    assert capsys.readouterr().out.split() == parts
    (tmp_path / "parts" / "1" / "text").unlink()
    main(["combine", f"{tmp_path}/whole", *parts])
    assert capsys.readouterr().out == (
        f"{tmp_path}/whole: no text, as not all sources have it\n"
    )
    assert validate(tmp_path / "whole", need_text=False)["wav.scp"]["c"] == "c.wav"


@pytest.mark.parametrize(
    "cmd", [[], ["fly"], ["subset", "x", "y"], ["subset", "x", "y", "--first", "a"]]
)
def test_wrong_command_line(cmd, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(cmd)
    assert "usage: espnet-ensemble data_dir" in capsys.readouterr().err
