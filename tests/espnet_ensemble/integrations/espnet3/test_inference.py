"""CTC decoding as ESPnet3 calls it."""

import pytest
import torch

from espnet_ensemble import EnsembleError, pretrained
from espnet_ensemble.integrations.espnet3.inference import CTCSpeech2Text


@pytest.fixture
def model(tmp_path, build_model, tiny_wavlm, tiny_hubert):
    build_model(tmp_path / "exp", [tiny_wavlm, tiny_hubert], sharpness=9)
    return tmp_path / "exp" / "valid.ave_2best.pth"


def test_a_batch_gives_what_each_gives_alone(model, speech):
    speech_to_text = CTCSpeech2Text(None, model)
    wavs = [wav[:length].numpy() for wav, length in zip(*speech, strict=True)]
    together = speech_to_text(speech=wavs)
    alone = [speech_to_text(speech=wav) for wav in wavs]
    assert [x[0][:3] for x in together] == [x[0][:3] for x in alone]
    text, tokens, token_ids, _ = together[0][0]
    assert text == "".join(tokens) != ""
    assert len(token_ids) == len(tokens)


def test_features_give_what_the_waveform_gives(model, speech):
    speech_to_text = CTCSpeech2Text(None, model)
    frontend = pretrained(model.parent).model.model.frontend
    wav = speech[0][0]
    with torch.no_grad():
        feats, _ = frontend(wav[None], torch.tensor([len(wav)]))
    assert speech_to_text(feats[0])[0][0] == speech_to_text(wav)[0][0]


def test_a_beam(model, speech):
    wav = speech[0][0].numpy()
    searched = CTCSpeech2Text(None, model, beam_size=4)(wav)
    assert searched[0][3].score >= CTCSpeech2Text(None, model)(wav)[0][3].score


def test_an_option_of_other_models(model):
    with pytest.raises(EnsembleError, match="ctc_weight: expected one of search"):
        CTCSpeech2Text(None, model, ctc_weight=0.3)
