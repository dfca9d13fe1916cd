import pytest
import torch

from espnet_ensemble.bin.tune_lm import main
from espnet_ensemble.decoding.ngram import estimate_ngram
from espnet_ensemble.decoding.posteriors import PosteriorWriter
from espnet_ensemble.files import read_yaml, write_yaml


def test_the_best_weights_become_a_decoding_configuration(tmp_path, capsys):
    pytest.importorskip("kenlm")
    tokens = ("<blank>", "<space>", "a", "b", "c", "n")
    probs = torch.full((3, 6), 1e-4)
    probs[torch.arange(3), torch.tensor([4, 2, 5])] = 0.5
    probs[0, 3] = 0.9
    with PosteriorWriter(tmp_path / "posteriors", tokens, 0.02) as writer:
        writer.write("utt1", probs.log())
    (tmp_path / "text").write_text("utt1 can\n")
    estimate_ngram([["a", "can"], ["can"]], 2).write_arpa(tmp_path / "lm.arpa")
    write_yaml(tmp_path / "decode.yaml", {"batch_size": 1, "beam_size": 3})
    main(
        [
            *("--posteriors", str(tmp_path / "posteriors")),
            *("--ref", str(tmp_path / "text")),
            *("--output", str(tmp_path / "best.yaml")),
            *("--inference_config", str(tmp_path / "decode.yaml")),
            *("--ngram_file", str(tmp_path / "lm.arpa")),
            *("--ngram_weights", "0 1", "--word_bonuses", "0"),
        ]
    )
    written = read_yaml(tmp_path / "best.yaml")
    assert written == {
        "batch_size": 1,
        "beam_size": 10,
        "token_threshold": -9.0,
        "beam_threshold": 20.0,
        "ngram_file": str(tmp_path / "lm.arpa"),
        "ngram_weight": 1.0,
        "word_bonus": 0.0,
        "hotwords_weight": 1.0,
    }
    output = capsys.readouterr().out
    assert "           1          0  0.00 *" in output
    assert "ngram_weight: the best is the greatest that was tried" in output
