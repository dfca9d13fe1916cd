import pytest

from espnet_ensemble.bin.new_recipe import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_says_what_comes_next(folder, capsys):
    main(["my_corpus"])
    recipe = folder / "egs2" / "my_corpus" / "asr1"
    out = capsys.readouterr().out
    assert f"cd {recipe}\n" in out and "edit db.sh" in out and "./run.sh" in out
    assert (recipe / "run.sh").is_file()


def test_in_a_folder_of_one_s_choice_with_the_corpus(folder, capsys):
    main(["my_corpus", "--folder", "mine", "--audio_dir", "wavs", "--transcripts", "t"])
    assert "edit db.sh" not in capsys.readouterr().out
    db = (folder / "mine" / "db.sh").read_text()
    assert f"AUDIO_DIR={folder}/wavs\n" in db and f"TRANSCRIPTS={folder}/t\n" in db


def test_says_what_is_wrong(capsys):
    main(["my_corpus"])
    with pytest.raises(SystemExit, match="1"):
        main(["my_corpus"])
    assert "new-recipe: " in capsys.readouterr().err
