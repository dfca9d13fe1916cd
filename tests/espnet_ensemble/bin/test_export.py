"""The frontend of a trained model becomes an encoder."""

import pytest
import torch
import yaml
from transformers import AutoModel

from espnet_ensemble.bin.export import main
from espnet_ensemble.integrations.espnet2.model import load_ctc_model

CHECKPOINT = "valid.ave_2best.pth"


def test_the_encoder_computes_what_the_trained_frontend_does(
    build_model, tmp_path, monkeypatch, capsys, tiny_wavlm, tiny_hubert, speech
):
    monkeypatch.chdir(tmp_path)
    build_model(
        tmp_path / "exp",
        [tiny_wavlm, tiny_hubert],
        fusion="projection",
        fusion_conf={"proj_dim": 5},
        feature_cache="dump/feature_cache",
    )
    main(["exp", "encoder"])
    assert capsys.readouterr().out == (
        "encoder: 10 features every 20 ms, of speech at 16000 Hz\n"
    )
    frontend = load_ctc_model(None, f"exp/{CHECKPOINT}").model.frontend
    expected, _ = frontend(*speech)
    wavs, lengths = speech
    mask = torch.arange(wavs.size(1)) < lengths.unsqueeze(1)
    found = AutoModel.from_pretrained("encoder")(wavs, mask)
    assert torch.equal(found.last_hidden_state, expected)


def test_another_frontend_is_refused(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"frontend": "s3prl"}))
    torch.save({}, tmp_path / CHECKPOINT)
    with pytest.raises(SystemExit):
        main([str(tmp_path), str(tmp_path / "encoder")])
    assert "expected frontend: ensemble, found 's3prl'" in capsys.readouterr().err
