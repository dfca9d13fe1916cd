import pytest
import torch

from espnet_ensemble.bin.combine import main
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.decoding.ctm import write_ctm
from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.decoding.posteriors import PosteriorWriter
from espnet_ensemble.files import write_yaml
from espnet_ensemble.recipes.results import read_results

TOKENS = ["<blank>", "<space>", "a", "b"]


@pytest.fixture(autouse=True)
def recipe(tmp_path, monkeypatch):
    """A recipe's folder with two experiments; the second is right, and surer of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))  # without sclite
    (tmp_path / "dump/raw/test").mkdir(parents=True)
    write_table("dump/raw/test/text", {"u1": "b"})
    write_table("dump/raw/test/utt2spk", {"u1": "alice"})
    for name, letter, sure in (("asr_x", "a", 0.6), ("asr_y", "b", 0.9)):
        folder = tmp_path / "exp" / name / "decode" / "test"
        token_id, probs = TOKENS.index(letter), torch.full((1, 4), (1 - sure) / 3)
        probs[0, token_id] = sure
        with PosteriorWriter(folder / "posteriors", tuple(TOKENS), 0.02) as writer:
            writer.write("u1", probs.log())
        write_table(folder / "text", {"u1": letter})
        write_table(folder / "token_int", {"u1": str(token_id)})
        write_ctm(folder / "ctm", {"u1": [Word(letter, 0.0, 0.02, sure)]})
        config = {"token_list": TOKENS, "token_type": "char", "bpemodel": None}
        write_yaml(f"exp/{name}/config.yaml", config)


@pytest.mark.parametrize(
    "method,text",
    [("rover", "a"), ("posteriors", "b"), ("likelihood", "b"), ("confidence", "b")],
)
def test_an_ordinary_decoding_that_is_scored(method, text, tmp_path, capsys):
    main(["exp/asr_x", "exp/asr_y", "--method", method, "--tag", "two"])
    decoded = tmp_path / "exp" / "asr_combined_two" / f"decode_{method}" / "test"
    assert (decoded / "text").read_text() == f"u1 {text}\n"
    assert (decoded / "ctm").read_text().startswith("u1 1 0.000 0.020 ")
    results = read_results("exp/asr_combined_two")
    assert [(r.inference_tag, r.metric) for r in results] == [
        (f"decode_{method}", "wer"),
        (f"decode_{method}", "cer"),
    ]
    assert results[0].counts.errors == (text != "b")
    assert (
        f"|decode_{method}/test|1|1|"
        in (tmp_path / "exp/asr_combined_two/RESULTS.md").read_text()
    )
    assert f"exp/asr_combined_two/decode_{method}/test/text" in capsys.readouterr().out


def test_options_of_rover(tmp_path):
    options = ["--voting", "maxconf", "--alpha", "0", "--null_conf", "0.1"]
    main(["exp/asr_x", "exp/asr_y", *options])
    tag = "decode_rover_maxconf_alpha0_null_conf0.1"
    assert (tmp_path / "exp/asr_combined" / tag / "test/text").read_text() == "u1 b\n"


def test_rover_is_tuned(tmp_path, capsys):
    main(["exp/asr_x", "exp/asr_y", "--tune", "test"])
    options, decoded, *_ = capsys.readouterr().out.splitlines()
    alpha, null_conf = options.split()[1::2]
    tag = f"decode_rover_meth1_alpha{alpha}_null_conf{null_conf}"
    assert decoded == f"exp/asr_combined/{tag}/test/text"
    assert (tmp_path / decoded).read_text() == "u1 b\n"


@pytest.mark.parametrize(
    "args,message",
    [
        (["exp/asr_x"], "combine: expected several decodings, found exp/asr_x only"),
        (["exp/asr_x", "exp/asr_y", "--alpha", "2"], "alpha: expected 0 to 1, found"),
        (["exp/asr_x", "exp/asr_z"], "exp/asr_z: expected an experiment or a decoding"),
        (["exp/asr_x", "exp/asr_y", "--data_dir", "d"], "d/test/text: expected a file"),
    ],
)
def test_what_is_refused(args, message, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(args)
    assert message in capsys.readouterr().err
