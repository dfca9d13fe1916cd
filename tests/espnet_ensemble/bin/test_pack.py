import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from espnet_ensemble.bin.pack import main


@pytest.fixture
def args(tmp_path, monkeypatch, tiny_wavlm):
    """The options of asr.sh's stage 14, for a model over a local upstream."""
    monkeypatch.chdir(tmp_path)
    exp = Path("exp/asr")
    (exp / "images").mkdir(parents=True)
    (exp / "images" / "loss.png").touch()
    (exp / "RESULTS.md").touch()
    torch.save({}, exp / "valid.cer_ctc.ave.pth")
    frontend_conf = {"upstreams": [tiny_wavlm]}
    config = {"frontend": "ensemble", "frontend_conf": frontend_conf}
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    args = ["--asr_train_config", f"{exp}/config.yaml"]
    args += ["--asr_model_file", f"{exp}/valid.cer_ctc.ave.pth"]
    args += ["--option", f"{exp}/RESULTS.md", "--option", f"{exp}/images"]
    return ["asr", *args, "--outpath", f"{exp}/asr_valid.cer_ctc.ave.zip"]


def test_packs_and_lists_what_is_in_the_archive(args, capsys):
    main(args)
    names = zipfile.ZipFile("exp/asr/asr_valid.cer_ctc.ave.zip").namelist()
    assert capsys.readouterr().out == (
        "".join(f"  {name}\n" for name in names)
        + f"exp/asr/asr_valid.cer_ctc.ave.zip: {len(names)} files and folders\n"
    )
    assert {"exp/asr/RESULTS.md", "exp/asr/images/loss.png"} < set(names)
    assert any(m.endswith("/model.safetensors") for m in names)


def test_missing_file(args, capsys):
    Path("exp/asr/RESULTS.md").unlink()
    with pytest.raises(SystemExit, match="1"):
        main(args)
    assert capsys.readouterr().err == (
        "pack: --option exp/asr/RESULTS.md: there is no such file or folder; "
        "stage 13, scoring, makes it\n"
    )


def test_no_task(capsys):
    with pytest.raises(SystemExit, match="1"):
        main([])
    assert "expected what to pack, such as asr" in capsys.readouterr().err


def test_the_decoding_that_options_ask_for(args):
    Path("decode.yaml").write_text("beam_size: 20\nctc_weight: 1.0\n")
    Path("3gram.arpa").write_text("an n-gram")
    more = ["--inference_args", "--beam_size 5 --ngram_file 3gram.arpa"]
    main([*args, "--inference_config", "decode.yaml", *more])
    with zipfile.ZipFile("exp/asr/asr_valid.cer_ctc.ave.zip") as file:
        assert yaml.safe_load(file.read("conf/decode.yaml")) == {
            "beam_size": 5,
            "ctc_weight": 1.0,
            "ngram_file": "files/3gram.arpa",
        }
        assert file.read("files/3gram.arpa") == b"an n-gram"


def test_the_card_calls_the_model_by_its_name(args):
    main([*args, "--model_name", "user/model", "--bundle_upstreams", "true"])
    with zipfile.ZipFile("exp/asr/asr_valid.cer_ctc.ave.zip") as file:
        card = file.read("README.md").decode()
    assert "# user/model" in card and 'pretrained("user/model")' in card
