"""Encoders other than wav2vec 2.0's kin: features are those of the bare model."""

import re
from operator import attrgetter
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoFeatureExtractor
from transformers.models.auto.feature_extraction_auto import (
    FEATURE_EXTRACTOR_MAPPING_NAMES,
)

from espnet_ensemble.testing.upstreams import ENCODERS, save_encoder
from espnet_ensemble.upstream import UpstreamConf, UpstreamError, load_upstream
from espnet_ensemble.upstream.families import FAMILIES, UNSUPPORTED

#: Where a checkpoint of a whole model has its encoder, if not where most have it.
ENCODER_OF = {
    "SpeechT5": "speecht5.encoder",
    "SeamlessM4T": "speech_encoder",
    "SeamlessM4Tv2": "speech_encoder",
    "Parakeet": "encoder",
    "Nemotron": "encoder",
    "Lasr": "encoder",
    "Voxtral": "model.audio_tower",
    "GlmAsr": "model.audio_tower",
    "OmniASR": "model.audio_tower",
    "MossTranscribeDiarize": "model.audio_tower",
    "Qwen2Audio": "model.audio_tower",
    "AudioFlamingo3": "model.audio_tower",
    "VoxtralRealtime": "model.audio_tower",
    "Gemma4": "model.audio_tower",
    "GraniteSpeech5": "encoder",
}
#: What models call the mask, if not attention_mask; None: they get none.
MASK_OF = {
    **dict.fromkeys(["SEW", "SEWD", "Whisper", "Voxtral", "GlmAsr", "Moonshine"]),
    **dict.fromkeys(["VoxtralRealtime", "MossTranscribeDiarize"]),
    **dict.fromkeys(["GraniteSpeech", "GraniteSpeechPlus"]),
    "AudioFlamingo3": "input_features_mask",
    "OmniASR": "padding_mask",
}
#: Frames of so many samples, where the bare model gives frames of padding, too.
FRAMES = {
    "SeamlessM4T": lambda n: (1 + (n - 400) // 160) // 2,
    "SeamlessM4Tv2": lambda n: (1 + (n - 400) // 160) // 2,
    "Whisper": lambda n: -(-n // 320),
    "Voxtral": lambda n: -(-n // 320),
    "GlmAsr": lambda n: -(-n // 320),
    "MossTranscribeDiarize": lambda n: -(-n // 320),
    "Qwen2Audio": lambda n: -(-n // 320) // 2,
    "AudioFlamingo3": lambda n: -(-n // 320) // 2,
    "MoonshineStreaming": lambda n: -(-n // 320),
    "GraniteSpeech5": lambda n: -(-(n // 160) // 2) // 4,
    "CohereAsr": lambda n: -(-(n // 160) // 8),
    "Parakeet": lambda n: -(-(n // 160) // 8),
    "Nemotron": lambda n: ((n // 160 // 2 + 1) // 2 + 1) // 2 + 1,
}
#: How many frames of each hidden state are in one of the last.
AVERAGED = {
    "Qwen2Audio": (2, 2, 2, 1),
    "AudioFlamingo3": (2, 2, 2, 1),
    "GraniteSpeech5": (4, 2, 1, 1),
}
LENGTHS = [8000, 7300, 3217, 1600]


@pytest.fixture(scope="module", params=ENCODERS)
def checkpoint(request, tmp_path_factory):
    family = request.param
    _, model_class, _ = ENCODERS[family]
    if not hasattr(transformers, model_class):
        pytest.skip(f"transformers {transformers.__version__} has no {model_class}")
    return family, save_encoder(tmp_path_factory.mktemp(family), family)


@pytest.fixture
def speech():
    lengths = torch.tensor(LENGTHS)
    wavs = 0.1 * torch.randn(4, 8000, generator=torch.Generator().manual_seed(0))
    return wavs * (torch.arange(8000) < lengths.unsqueeze(1)), lengths


def load(folder, layer="last"):
    return load_upstream(UpstreamConf(folder, layer)).eval()


def load_bare(family, folder):
    """From a waveform to its hidden states, by transformers alone."""
    model = getattr(transformers, ENCODERS[family][1]).from_pretrained(folder).eval()
    whole = family in ("SEW", "SEWD")
    encoder = (
        model if whole else attrgetter(ENCODER_OF.get(family, "model.encoder"))(model)
    )
    if family == "Gemma4":  # what it makes for the language model
        encoder.output_proj = torch.nn.Identity()
    if family == "GraniteSpeechPlus":
        encoder.config.cat_hidden_layers = None
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    asked = dict(sampling_rate=16000, return_tensors="pt", return_attention_mask=True)
    if family == "MoonshineStreaming":
        asked.update(padding=True, pad_to_multiple_of=80)  # as its processor does
    if family.startswith("GraniteSpeech") and family != "GraniteSpeech5":
        asked = {}
    mask = MASK_OF.get(family, "attention_mask")
    states = []
    config = FAMILIES[AutoConfig.from_pretrained(folder).model_type]
    stack = attrgetter(config.options.get("stack", "encoder.layers"))(encoder)
    for layer in stack:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: states.append([*args, *kwargs.values()][0]),
            with_kwargs=True,
        )
    if family.startswith("Seamless"):  # without the adapter behind it
        encoder.encoder.register_forward_hook(lambda *args: states.append(args[-1]))

    def run(wav):
        states.clear()
        found = extractor([wav.numpy()], **asked)
        name = next(k for k in ("input_features", "input_values") if k in found)
        values = torch.as_tensor(found[name])
        inputs = {name if asked else "hidden_states": values}
        if mask is not None:
            inputs[mask] = next(found[key] for key in found if "mask" in key)
        if family == "Qwen2Audio":
            inputs[mask] = mask_as_the_whole_model_does(encoder.config, inputs[mask])
        last = encoder(**inputs).last_hidden_state
        return list(states) if family.startswith("Seamless") else [*states, last]

    return run


def mask_as_the_whole_model_does(config, content):
    from transformers.masking_utils import create_bidirectional_mask

    content = content[:, ::2]  # behind the convolutions
    like = torch.zeros(*content.shape, 1)
    return create_bidirectional_mask(
        config=config, inputs_embeds=like, attention_mask=content
    )


@torch.no_grad()
def test_batch_equals_transformers_on_each_utterance_alone(checkpoint, speech):
    family, folder = checkpoint
    wavs, lengths = speech
    upstream = load(folder, "weighted_sum")
    states, num_frames = upstream(wavs, lengths)
    assert len(states) == 4
    bare = load_bare(family, folder)
    for item, length in enumerate(LENGTHS):
        if family == "Lasr" and length < 2320:
            continue  # the bare model fails on less than one frame
        reference = bare(wavs[item, :length])
        frames = int(num_frames[item])
        count = FRAMES.get(family, lambda _, found=reference[-1]: found.size(1))
        assert frames == count(length)
        for index, (state, expected) in enumerate(zip(states, reference, strict=True)):
            ours, expected = state[item, :frames], expected[0]
            per_frame = AVERAGED.get(family, [1] * 4)[index]
            if per_frame > 1:
                expected = expected.unfold(0, per_frame, per_frame).mean(dim=-1)
            if family.startswith("SEW") and index < 3:
                expected = expected.repeat_interleave(2, dim=0)
                expected = expected[torch.arange(frames).clamp(max=len(expected) - 1)]
            error = (ours - expected[:frames]).norm() / expected[:frames].norm()
            print(f"{family} layer {index} utterance {item}: {error:.1e}")
            assert error <= 1e-4


@torch.no_grad()
def test_layers_above_the_highest_one_are_not_computed(checkpoint, speech):
    _, folder = checkpoint
    every, num_frames = load(folder, "weighted_sum")(*speech)
    whole = sum(p.numel() for p in load(folder).parameters())
    for layer in ([2, 0], 1, 0):
        upstream = load(folder, layer)
        assert sum(p.numel() for p in upstream.parameters()) < whole
        states, _ = upstream(*speech)
        for index, state in zip(upstream.layers, states, strict=True):
            for item, frames in enumerate(num_frames.tolist()):
                torch.testing.assert_close(
                    state[item, :frames], every[index][item, :frames]
                )


def test_all_that_trains_gets_a_gradient(checkpoint, speech):
    for layer in ("last", 1):
        upstream = load(checkpoint[1], layer).train()
        (state,), _ = upstream(*speech)
        state.square().sum().backward()
        trains = {k: p for k, p in upstream.named_parameters() if p.requires_grad}
        assert [key for key, p in trains.items() if p.grad is None] == []


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 399])
def test_too_short_utterance_gives_what_it_gives_alone(checkpoint, length):
    upstream = load(checkpoint[1])
    wavs, lengths = torch.randn(2, 4000) * 0.1, torch.tensor([4000, length])
    wavs[1, length:] = 0
    (feats,), num_frames = upstream(wavs, lengths)
    (alone,), alone_frames = upstream(wavs[1:, :length], lengths[1:])
    frames = int(num_frames[1])
    assert frames == alone_frames[0] >= 1
    torch.testing.assert_close(feats[1, :frames], alone[0, :frames])
    assert feats[1, :frames].isfinite().all()


@torch.no_grad()
def test_whisper_takes_windows_of_a_long_utterance_one_after_the_other(tmp_path):
    upstream = load(save_encoder(tmp_path, "Whisper"))  # its windows are of one second
    wavs = torch.randn(2, 40000) * 0.1
    wavs[1, 9000:] = 0
    (feats,), num_frames = upstream(wavs, torch.tensor([40000, 9000]))
    assert num_frames.tolist() == [125, 29]
    for start in range(0, 40000, 16000):
        part = wavs[:1, start : start + 16000]
        (alone,), (frames,) = upstream(part, torch.tensor([part.size(1)]))
        torch.testing.assert_close(feats[0, start // 320 :][:frames], alone[0, :frames])
    (alone,), _ = upstream(wavs[1:, :9000], torch.tensor([9000]))
    torch.testing.assert_close(feats[1, :29], alone[0])


@torch.no_grad()
@pytest.mark.parametrize("family,hop", [("CohereAsr", 1280), ("Gemma4", 640)])
def test_an_utterance_longer_than_feature_extractors_like_is_not_cut(
    family, hop, tmp_path
):
    if not hasattr(transformers, ENCODERS[family][1]):
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    seconds = 36
    wavs = torch.randn(1, seconds * 16000) * 0.1
    (feats,), num_frames = load(save_encoder(tmp_path, family))(
        wavs, torch.tensor([wavs.size(1)])
    )
    assert abs(int(num_frames[0]) - wavs.size(1) // hop) <= 1
    assert feats.size(1) == num_frames[0]


def test_a_family_that_transformers_lacks_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "parakeet_xyz"}')
    message = "'parakeet_xyz' model, which transformers .* does not have; it is none of"
    with pytest.raises(UpstreamError, match=message):
        load(str(tmp_path))


def test_a_family_that_is_not_supported_names_the_nearest_and_the_reason(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clap"}')
    message = (
        "'clap' model .its states are of patches.* expected one .* nearest .* 'wavlm'"
    )
    with pytest.raises(UpstreamError, match=message):
        load(str(tmp_path))
    assert not set(UNSUPPORTED) & set(FAMILIES)
    assert {nearest for nearest, _ in UNSUPPORTED.values()} <= set(FAMILIES)


def test_every_model_of_transformers_that_takes_sound_is_supported_or_refused():
    if not "5" <= transformers.__version__ < "5.25":
        pytest.skip(f"transformers {transformers.__version__} was not looked through")
    known = {*FAMILIES, *UNSUPPORTED}
    assert set(FEATURE_EXTRACTOR_MAPPING_NAMES) <= known
    docs = Path(__file__).parents[3] / "docs/concepts.md"
    listed = set(re.findall(r"`([\w-]+)`", docs.read_text()))
    assert set(UNSUPPORTED) <= listed
