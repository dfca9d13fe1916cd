"""Decoding and error rates of models that have nothing but CTC."""

import pytest
import torch

import espnet_ensemble  # noqa: F401


@pytest.fixture
def exp(build_model, tmp_path, tiny_wavlm, tiny_hubert):
    build_model(tmp_path, [tiny_wavlm, tiny_hubert])
    (tmp_path / "valid.ave.pth").symlink_to("valid.ave_2best.pth")
    return tmp_path


def speech2text(exp, **options):
    from espnet2.bin.asr_inference import Speech2Text

    return Speech2Text(exp / "config.yaml", exp / "valid.ave.pth", **options)


@pytest.fixture
def speech():
    return 0.1 * torch.randn(12000, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_whatever_the_weights_are_ctc_decodes(exp, speech):
    # A beam that is narrower than the 6 tokens makes a search select some.
    (expected, *_), *_ = speech2text(exp, ctc_weight=1.0, beam_size=3)(speech)
    assert expected
    for weight in (0.5, 0.3, 0.0):
        (text, *_), *_ = speech2text(exp, ctc_weight=weight, beam_size=3)(speech)
        assert text == expected


@torch.no_grad()
def test_defaults_work_with_fewer_tokens_than_the_beam(exp, speech):
    recognizer = speech2text(exp)
    assert recognizer.beam_search.beam_size == 6
    assert recognizer.beam_search.weights["ctc"] == 1.0
    (text, *_), *_ = recognizer(speech)
    (expected, *_), *_ = speech2text(exp, ctc_weight=1.0, beam_size=6)(speech)
    assert text == expected


@torch.no_grad()
def test_scores_are_exact(exp, speech):
    recognizer = speech2text(exp)
    assert getattr(recognizer.beam_search.scorers["ctc"], "window_margin", 0) == 0


@torch.no_grad()
def test_error_rate_does_not_count_padding(exp, speech):
    model = speech2text(exp).asr_model
    lengths = torch.tensor([12000, 2000])
    wavs = torch.stack([speech, speech.masked_fill(torch.arange(12000) >= 2000, 0)])
    text, text_lengths = torch.tensor([[2, 3, 4, 2], [2, -1, -1, -1]]), [4, 1]
    text_lengths = torch.tensor(text_lengths)
    _, stats, _ = model(wavs, lengths, text, text_lengths)

    edits = 0
    for i, (samples, tokens) in enumerate(zip(lengths, text_lengths, strict=True)):
        alone = (wavs[i : i + 1, :samples], samples[None])
        _, one, _ = model(*alone, text[i : i + 1, :tokens], tokens[None])
        edits += one["cer_ctc"].item() * tokens.item()
    assert edits > 0
    assert stats["cer_ctc"].item() == pytest.approx(edits / 5)
