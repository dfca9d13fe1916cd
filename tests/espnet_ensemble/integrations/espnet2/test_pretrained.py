"""A trained model is found, whatever it is given as, and decodes as stage 12 did."""

import logging
import shutil
from pathlib import Path

import pytest
import yaml
from cache_runs import write_noises

import espnet_ensemble
from espnet_ensemble.bin import asr_inference_ctc
from espnet_ensemble.bin.pack import main as pack
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2.pretrained import find_model

EXP = "exp/asr_train_x"
CHECKPOINT = "valid.ave_2best.pth"


@pytest.fixture
def recipe(build_model, tmp_path, monkeypatch, tiny_wavlm, tiny_hubert):
    """A recipe's folder, as training leaves it: names in its configuration are relative."""
    folder = tmp_path / "recipe"
    for name, upstream in (("wavlm", tiny_wavlm), ("hubert", tiny_hubert)):
        shutil.copytree(upstream, folder / "upstreams" / name)
    folder.joinpath("data").mkdir()
    write_noises(folder / "data")
    monkeypatch.chdir(folder)
    build_model(folder / EXP, ["upstreams/wavlm", "upstreams/hubert"], fs="16k")
    change_config(folder, output_dir=EXP)
    return folder


def change_config(recipe, **changes):
    path = recipe / EXP / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def decode(*options, tag="decode_x", checkpoint=CHECKPOINT):
    """Stage 12."""
    output_dir = f"{EXP}/{tag}/test"
    asr_inference_ctc.main(
        [
            *("--asr_train_config", f"{EXP}/config.yaml"),
            *("--asr_model_file", f"{EXP}/{checkpoint}", "--output_dir", output_dir),
            *("--data_path_and_name_and_type", "data/train/wav.scp,speech,sound"),
            *options,
        ]
    )
    return list(read_table(f"{output_dir}/1best_recog/text").values())


def transcribe(model, folder, **options):
    files = sorted((folder / "data" / "wav").glob("*.wav"))
    results = espnet_ensemble.pretrained(model, **options).transcribe(files)
    return [getattr(result, "text", "") for result in results]


def test_an_experiment_from_anywhere_says_what_stage_12_says(
    recipe, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, "espnet_ensemble")
    expected = decode()
    assert any(expected)
    monkeypatch.chdir(tmp_path)
    assert transcribe(f"recipe/{EXP}", recipe) == expected
    assert f"weights: {recipe / EXP / CHECKPOINT}" in caplog.text
    assert f"search: greedy, as {recipe / EXP}/decode_x/test/decoding.yaml says" in (
        caplog.text
    )
    assert espnet_ensemble.pretrained(f"recipe/{EXP}").name == "asr_train_x"
    moved = shutil.move(recipe, tmp_path / "moved")
    assert transcribe(moved / EXP, tmp_path / "moved") == expected


def test_what_was_decoded_last_decides(recipe, tmp_path, monkeypatch):
    greedy = decode()
    (recipe / "hot").write_text("a b c\n")
    shutil.copy(recipe / EXP / CHECKPOINT, recipe / EXP / "other.pth")
    hot = decode(
        *("--hotwords", "hot", "--hotwords_weight", "20"),
        tag="decode_hot",
        checkpoint="other.pth",
    )
    assert hot != greedy
    monkeypatch.chdir(tmp_path)
    files = find_model(recipe / EXP)
    assert files.asr_model_file == recipe / EXP / "other.pth"
    assert transcribe(recipe / EXP, recipe) == hot
    assert transcribe(recipe / EXP, recipe, search="greedy") == greedy
    (tmp_path / "mine").write_text("c a b\n")
    mine = transcribe(recipe / EXP, recipe, hotwords="mine", hotwords_weight=20)
    assert mine not in (hot, greedy)


def test_a_trial_without_some_upstreams_does_not_decide(recipe):
    decode()
    decoding = recipe / EXP / "decode_less" / "test" / "decoding.yaml"
    decoding.parent.mkdir(parents=True)
    decoding.write_text(f"asr_model_file: {EXP}/{CHECKPOINT}\nmembers: [wavlm]\n")
    assert find_model(recipe / EXP).decoding.parts[-3] == "decode_x"


def test_without_a_decoding_the_checkpoint_is_that_of_recipes(recipe):
    assert find_model(EXP).asr_model_file.name == CHECKPOINT
    shutil.copy(recipe / EXP / CHECKPOINT, recipe / EXP / "valid.cer_ctc.ave.pth")
    files = find_model(EXP)
    assert files.asr_model_file.name == "valid.cer_ctc.ave.pth"
    assert (files.options, files.decoding, files.root) == ({}, None, recipe)


def pack_model(*options):
    pack(
        [
            *("asr", "--asr_train_config", f"{EXP}/config.yaml"),
            *("--asr_model_file", f"{EXP}/{CHECKPOINT}", "--outpath", "model.zip"),
            *options,
        ]
    )


@pytest.fixture
def archive(recipe):
    pack_model()
    return recipe / "model.zip"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another machine: models are kept in another place."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def test_an_archive_says_it_too(recipe, archive, elsewhere, monkeypatch):
    expected = decode()
    monkeypatch.chdir(elsewhere)
    data = shutil.move(recipe / "data", elsewhere / "data").parent
    shutil.move(archive, elsewhere / "model.zip")
    shutil.rmtree(recipe)
    assert transcribe("model.zip", data) == expected
    shutil.unpack_archive("model.zip", "unpacked")
    assert transcribe("unpacked", data) == expected


def test_an_archive_carries_how_it_decodes(recipe, elsewhere, monkeypatch):
    (recipe / "hot").write_text("a b c\n")
    hot = ["--hotwords", "hot", "--hotwords_weight", "20"]
    expected = decode(*hot)
    pack_model("--inference_args", " ".join(hot))
    shutil.move("model.zip", elsewhere / "model.zip")
    monkeypatch.chdir(elsewhere)
    (recipe / "hot").unlink()
    assert transcribe("model.zip", recipe) == expected


def test_and_no_file_of_this_machine(recipe, elsewhere, archive):
    shutil.unpack_archive(archive, elsewhere)
    manifest = yaml.safe_load((elsewhere / "ensemble.yaml").read_text())
    manifest["decoding"] = "decode.yaml"
    (elsewhere / "ensemble.yaml").write_text(yaml.safe_dump(manifest))
    for path in ("/etc/hostname", "../recipe/hot"):
        (elsewhere / "decode.yaml").write_text(f"hotwords: {path}\n")
        with pytest.raises(EnsembleError, match="expected a file of the archive"):
            find_model(elsewhere)


def test_a_model_of_the_hub_says_it_too(recipe, archive, elsewhere, monkeypatch):
    """It comes from the cache that huggingface_hub has filled."""
    expected = decode()
    cache = Path.home() / ".cache" / "espnet_model_zoo"
    repo = cache / "models--user--model"
    shutil.unpack_archive(archive, repo / "snapshots" / "0123")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0123")
    assert transcribe("user/model", recipe) == expected


def test_what_is_no_model_says_what_one_is(tmp_path, recipe):
    with pytest.raises(EnsembleError, match="nothing of that name"):
        find_model("exp/asr/nowhere")
    with pytest.raises(EnsembleError, match=r"expected config.yaml .* found neither"):
        find_model(tmp_path)
    (recipe / EXP / CHECKPOINT).unlink()
    with pytest.raises(EnsembleError, match="expected a checkpoint such as"):
        find_model(recipe / EXP)


def test_options_are_checked_before_the_model_is_loaded(recipe):
    with pytest.raises(EnsembleError, match="beams: expected one of search, beam_size"):
        espnet_ensemble.pretrained("nowhere", beams=3)
    with pytest.raises(EnsembleError, match="beam_size: expected a whole number"):
        espnet_ensemble.pretrained(EXP, beam_size="wide")
