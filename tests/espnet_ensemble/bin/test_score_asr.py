import pytest
import sentencepiece
from versions import ESPNET

from espnet_ensemble.bin.score_asr import main
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.recipes import sclite
from espnet_ensemble.recipes.results import read_results
from espnet_ensemble.recipes.scoring import Counts


@pytest.fixture
def cmd(tmp_path, monkeypatch):
    """Score two utterances, where there is no sclite; the second has no hypothesis."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sclite, "_DEBIAN", str(tmp_path / "debian"))
    write_table(tmp_path / "ref", {"u1": "HELLO <NOISE> WORLD", "u2": "A B"})
    write_table(tmp_path / "hyp", {"u1": "hello word", "u2": ""})
    write_table(tmp_path / "utt2spk", {"u1": "alice", "u2": "bob"})
    options = [f"--{name}={tmp_path / name}" for name in ("ref", "hyp", "utt2spk")]
    return [*options, "--output_dir", str(tmp_path / "exp/decode_y/test")]


def test_defaults(cmd, tmp_path, capsys):
    main(cmd)
    folder = tmp_path / "exp/decode_y/test"
    assert capsys.readouterr().out == (
        f"Write wer result in {folder}/score_wer/result.txt\n"
        "| SPKR    |  # Snt  # Wrd |   Corr    Sub    Del    Ins    Err  S.Err |\n"
        "| Sum/Avg |      2      5 |   20.0   20.0   60.0    0.0   80.0  100.0 |\n"
        f"Write cer result in {folder}/score_cer/result.txt\n"
        "| SPKR    |  # Snt  # Wrd |   Corr    Sub    Del    Ins    Err  S.Err |\n"
        "| Sum/Avg |      2     22 |   45.5    0.0   54.5    0.0   54.5  100.0 |\n"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["score_cer", "score_wer"]
    assert (folder / "score_cer/hyp.trn").read_text() == (
        "h e l l o <space> w o r d\t(alice-u1)\n\t(bob-u2)\n"
    )


def test_espnet_s_options(cmd, tmp_path):
    (tmp_path / "nlsyms.txt").write_text("<NOISE>\n")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["HELLO WORLD", "hello word", "A B"]),
        model_prefix=str(tmp_path / "bpe"),
        vocab_size=20,
        minloglevel=2,
    )
    options = [
        f"--nlsyms_txt={tmp_path}/nlsyms.txt",
        f"--bpemodel={tmp_path}/bpe.model",
    ]
    main(
        [*cmd, *options, "--cleaner", "none", "--hyp_cleaner=none", "--score_opts", ""]
    )
    wer, cer, ter = read_results(tmp_path / "exp")
    assert wer.counts == Counts(2, 4, 1, 1, 2, 0, 3, 2)
    # To 202511, both spaces around the symbol stay.
    said = "HELLO  WORLD" if ESPNET < 202611 else "HELLO WORLD"
    assert cer.counts.words == len(said) + len("A B")
    assert (ter.inference_tag, ter.dataset, ter.metric) == ("decode_y", "test", "ter")
    model = sentencepiece.SentencePieceProcessor(str(tmp_path / "bpe.model"))
    pieces = model.encode("HELLO <NOISE> WORLD", out_type=str)
    trn = (tmp_path / "exp/decode_y/test/score_ter/ref.trn").read_text(encoding="utf-8")
    assert trn.splitlines()[0] == f"{' '.join(pieces)}\t(alice-u1)"


def test_cleaners_are_apart(cmd, tmp_path):
    main([*cmd, "--hyp_cleaner", "tacotron", "--bpemodel", "none"])
    folder = tmp_path / "exp/decode_y/test/score_wer"
    assert "HELLO WORD\t(alice-u1)" in (folder / "hyp.trn").read_text()
    assert "HELLO <NOISE> WORLD\t" in (folder / "ref.trn").read_text()


def test_error(cmd, tmp_path, capsys):
    write_table(tmp_path / "hyp", {"u1": "hello word"})
    with pytest.raises(SystemExit, match="1"):
        main(cmd)
    expected = f"{tmp_path}/hyp: expected a line for 'u2' of {tmp_path}/ref, found none"
    assert capsys.readouterr().err == f"score_asr: {expected}\n"
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize("option", ["--score_opts=-s", "--use_sclite=true"])
def test_sclite_is_asked_for_and_not_there(cmd, option, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([*cmd, option])
    expected = "score_asr: scoring by sclite was asked for"
    assert capsys.readouterr().err.startswith(expected)
    assert not (tmp_path / "exp").exists()
