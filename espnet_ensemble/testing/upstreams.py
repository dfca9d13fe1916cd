"""Tiny random models of the real architectures, in the formats that are published."""

import dataclasses
from pathlib import Path

import torch

CONV = dict(
    conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4
)
TRANSFORMER = dict(
    hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48
)
STYLES = {
    "base": dict(feat_extract_norm="group", do_stable_layer_norm=False),
    "large": dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True),
}


def randomize(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Move norms' weights and biases away from one and zero, so that tests see them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.1 * noise if parameter.dim() < 2 else 0.02 * noise)
    return model.eval()


def save_huggingface(folder, model, do_normalize=False) -> str:
    """Write a folder as a hub checkpoint is."""
    from transformers import Wav2Vec2FeatureExtractor

    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(folder)
    return str(folder)


def tiny_huggingface(
    family: str, style: str = "base", head: str = "Model", **overrides
):
    """A random model of a family, from its real configuration and model classes."""
    import transformers

    config = {**TRANSFORMER, **overrides}
    if family == "Wav2Vec2Bert":
        config.update(feature_projection_input_dim=160, left_max_position_embeddings=8)
    else:
        config = {**CONV, **config}
        if family == "Data2VecAudio":
            config.update(num_conv_pos_embeddings=5, conv_pos_kernel_size=7)
        else:
            config.update({**STYLES[style], **overrides})
    config = getattr(transformers, f"{family}Config")(**config)
    torch.manual_seed(0)
    return randomize(getattr(transformers, f"{family}{head}")(config), seed=1)


def save_encoder(folder, family: str) -> str:
    """Write a checkpoint of a family that has an encoder of its own kind, whole models too."""
    import transformers

    make_config, model_class, make_extractor = ENCODERS[family]
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(make_config(transformers))
    randomize(model, seed=1)
    model.save_pretrained(folder)
    make_extractor(transformers).save_pretrained(folder)
    return str(folder)


_HEADS = dict(encoder_attention_heads=4, decoder_attention_heads=4)
_ENCODER_DECODER = dict(
    encoder_layers=3, decoder_layers=1, encoder_ffn_dim=48, decoder_ffn_dim=48, **_HEADS
)


_TEXT = dict(vocab_size=40, num_key_value_heads=4, **TRANSFORMER)


def _seamless(name: str) -> tuple:
    return (
        lambda t: getattr(t, f"{name}Config")(
            hidden_size=32,
            vocab_size=40,
            speech_encoder_layers=3,
            speech_encoder_attention_heads=4,
            speech_encoder_intermediate_size=48,
            speech_encoder_chunk_size=10,
            **_ENCODER_DECODER,
        ),
        f"{name}ForSpeechToText",
        lambda t: t.SeamlessM4TFeatureExtractor(),
    )


def _sew(name: str, **options) -> tuple:
    return (
        lambda t: getattr(t, f"{name}Config")(
            conv_dim=(16,) * 13,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            **TRANSFORMER,
            **options,
        ),
        f"{name}Model",
        lambda t: t.Wav2Vec2FeatureExtractor(do_normalize=True),
    )


def _granite(name: str, **options) -> tuple:
    width = TRANSFORMER["hidden_size"] * (1 + len(options))
    return (
        lambda t: getattr(t, f"{name}Config")(
            encoder_config=dict(
                hidden_dim=32,
                num_layers=3,
                num_heads=4,
                dim_head=8,
                output_dim=10,
                context_size=20,
                max_pos_emb=32,
                **options,
            ),
            text_config={**_TEXT, "model_type": "granite"},
            projector_config=dict(
                model_type="blip_2_qformer", encoder_hidden_size=width, **TRANSFORMER
            ),
            has_lora_adapter=False,
        ),
        f"{name}ForConditionalGeneration",
        lambda t: t.GraniteSpeechFeatureExtractor(),
    )


#: Family -> what makes its configuration, its class and its feature extractor, of the module
#: transformers. Every model has three layers.
ENCODERS = {
    "SEW": _sew("SEW"),
    "SEWD": _sew("SEWD", feature_layer_norm_eps=1e-5, max_position_embeddings=64),
    "SpeechT5": (
        lambda t: t.SpeechT5Config(
            hidden_size=32, vocab_size=40, **CONV, **_ENCODER_DECODER
        ),
        "SpeechT5ForSpeechToText",
        lambda t: t.SpeechT5FeatureExtractor(),
    ),
    "SeamlessM4T": _seamless("SeamlessM4T"),
    "SeamlessM4Tv2": _seamless("SeamlessM4Tv2"),
    "Whisper": (
        lambda t: t.WhisperConfig(
            d_model=32,
            vocab_size=40,
            max_source_positions=50,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            **_ENCODER_DECODER,
        ),
        "WhisperForConditionalGeneration",
        lambda t: t.WhisperFeatureExtractor(chunk_length=1),
    ),
    "Parakeet": (
        lambda t: t.ParakeetCTCConfig(
            vocab_size=40,
            encoder_config=dict(
                num_mel_bins=80, subsampling_conv_channels=8, **TRANSFORMER
            ),
        ),
        "ParakeetForCTC",
        lambda t: t.ParakeetFeatureExtractor(),
    ),
    "Nemotron": (
        lambda t: t.NemotronAsrStreamingConfig(
            vocab_size=40,
            decoder_hidden_size=16,
            joint_hidden_size=16,
            encoder_config=dict(
                num_mel_bins=80, subsampling_conv_channels=8, **TRANSFORMER
            ),
        ),
        "NemotronAsrStreamingForRNNT",
        lambda t: t.NemotronAsrStreamingFeatureExtractor(feature_size=80),
    ),
    "Lasr": (
        lambda t: t.LasrCTCConfig(
            vocab_size=40,
            encoder_config=dict(subsampling_conv_channels=8, **TRANSFORMER),
        ),
        "LasrForCTC",
        lambda t: t.LasrFeatureExtractor(),
    ),
    "CohereAsr": (
        lambda t: t.CohereAsrConfig(
            vocab_size=40,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=48,
            encoder_config=dict(
                num_mel_bins=80, subsampling_conv_channels=8, **TRANSFORMER
            ),
        ),
        "CohereAsrForConditionalGeneration",
        lambda t: t.CohereAsrFeatureExtractor(feature_size=80),
    ),
    "Gemma4": (
        lambda t: t.Gemma4Config(
            audio_config=dict(
                subsampling_conv_channels=[128, 4],
                output_proj_dims=24,
                hidden_size=32,
                num_hidden_layers=3,
                num_attention_heads=4,
            ),
            vision_config=None,
            text_config=dict(
                vocab_size_per_layer_input=40, hidden_size_per_layer_input=8, **_TEXT
            ),
        ),
        "Gemma4ForConditionalGeneration",
        lambda t: t.Gemma4AudioFeatureExtractor(),
    ),
    "VoxtralRealtime": (
        lambda t: t.VoxtralRealtimeConfig(
            audio_config=dict(
                num_mel_bins=80, head_dim=8, sliding_window=20, **TRANSFORMER
            ),
            text_config=dict(head_dim=8, **_TEXT),
        ),
        "VoxtralRealtimeForConditionalGeneration",
        lambda t: t.VoxtralRealtimeFeatureExtractor(feature_size=80),
    ),
    "MossTranscribeDiarize": (
        lambda t: t.MossTranscribeDiarizeConfig(
            audio_config=dict(max_source_positions=50, **TRANSFORMER),
            text_config=dict(_TEXT),
        ),
        "MossTranscribeDiarizeForConditionalGeneration",
        lambda t: t.MossTranscribeDiarizeFeatureExtractor(chunk_length=1),
    ),
    "Qwen2Audio": (
        lambda t: t.Qwen2AudioConfig(
            audio_config=dict(
                d_model=32,
                num_mel_bins=80,
                max_source_positions=50,
                encoder_layers=3,
                encoder_ffn_dim=48,
                encoder_attention_heads=4,
            ),
            text_config=dict(_TEXT),
        ),
        "Qwen2AudioForConditionalGeneration",
        lambda t: t.WhisperFeatureExtractor(chunk_length=1),
    ),
    "AudioFlamingo3": (
        lambda t: t.AudioFlamingo3Config(
            audio_config=dict(max_source_positions=50, num_mel_bins=80, **TRANSFORMER),
            text_config=dict(_TEXT),
        ),
        "AudioFlamingo3ForConditionalGeneration",
        lambda t: t.WhisperFeatureExtractor(chunk_length=1),
    ),
    "Voxtral": (
        lambda t: t.VoxtralConfig(
            audio_config=dict(max_source_positions=50, num_mel_bins=80, **TRANSFORMER),
            text_config=dict(_TEXT),
        ),
        "VoxtralForConditionalGeneration",
        lambda t: t.WhisperFeatureExtractor(chunk_length=1),
    ),
    "GlmAsr": (
        lambda t: t.GlmAsrConfig(
            audio_config=dict(
                max_position_embeddings=50, num_mel_bins=80, **TRANSFORMER
            ),
            text_config=dict(_TEXT),
        ),
        "GlmAsrForConditionalGeneration",
        lambda t: t.WhisperFeatureExtractor(chunk_length=1),
    ),
    "OmniASR": (
        lambda t: t.OmniASRCTCConfig(
            vocab_size=40, audio_config=dict(**CONV, **TRANSFORMER)
        ),
        "OmniASRForCTC",
        lambda t: t.OmniASRFeatureExtractor(),
    ),
    "Moonshine": (
        lambda t: t.MoonshineConfig(
            hidden_size=32,
            intermediate_size=48,
            vocab_size=40,
            encoder_num_hidden_layers=3,
            decoder_num_hidden_layers=1,
            encoder_num_attention_heads=4,
            decoder_num_attention_heads=4,
        ),
        "MoonshineForConditionalGeneration",
        lambda t: t.Wav2Vec2FeatureExtractor(do_normalize=False),
    ),
    "MoonshineStreaming": (
        lambda t: t.MoonshineStreamingConfig(
            vocab_size=40,
            num_key_value_heads=4,
            encoder_config=dict(
                sliding_windows=((6, 2), (6, 0), (6, 2)),
                num_key_value_heads=4,
                **TRANSFORMER,
            ),
            **TRANSFORMER,
        ),
        "MoonshineStreamingForConditionalGeneration",
        lambda t: t.Wav2Vec2FeatureExtractor(do_normalize=False),
    ),
    "Speech2Text": (
        lambda t: t.Speech2TextConfig(
            d_model=32, vocab_size=40, conv_channels=16, **_ENCODER_DECODER
        ),
        "Speech2TextForConditionalGeneration",
        lambda t: t.Speech2TextFeatureExtractor(),
    ),
    "GraniteSpeech": _granite("GraniteSpeech"),
    "GraniteSpeechPlus": _granite("GraniteSpeechPlus", cat_hidden_layers=[1]),
    "GraniteSpeech5": (
        lambda t: t.GraniteSpeech5CTCConfig(
            vocab_size=40,
            encoder_config=dict(
                vocab_size=40,
                context_size=10,
                max_position_embeddings=16,
                **TRANSFORMER,
            ),
        ),
        "GraniteSpeech5ForCTC",
        lambda t: t.GraniteSpeech5FeatureExtractor(),
    ),
}


def _fairseq_conf(style: str) -> dict:
    return dict(
        conv_feature_layers="[(16,10,5)] + [(16,3,2)]*4 + [(16,2,2)]*2",
        encoder_layers=TRANSFORMER["num_hidden_layers"],
        encoder_embed_dim=TRANSFORMER["hidden_size"],
        encoder_ffn_embed_dim=TRANSFORMER["intermediate_size"],
        encoder_attention_heads=TRANSFORMER["num_attention_heads"],
        conv_pos=16,
        conv_pos_groups=4,
        extractor_mode="default" if style == "base" else "layer_norm",
        layer_norm_first=style == "large",
        conv_bias=style == "large",
    )


def save_s3prl(folder: Path, family: str, style: str) -> str:
    """Write a checkpoint as S3PRL publishes them, of a tiny random model."""
    torch.manual_seed(0)
    conf, normalize = _fairseq_conf(style), style == "large"
    if family in ("wavlm", "unispeech_sat"):
        checkpoint = _wavlm_checkpoint(family, dict(conf, normalize=normalize))
    else:
        checkpoint = _converted_checkpoint(family, conf, normalize)
    path = folder / f"{family}_{style}.pt"
    torch.save(checkpoint, path)
    return str(path)


def _wavlm_checkpoint(family: str, conf: dict) -> dict:
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

    if family == "wavlm":
        conf.update(relative_position_embedding=True, gru_rel_pos=True, num_buckets=32)
    model = randomize(WavLM(WavLMConfig(conf)), seed=1)
    return {"cfg": conf, "model": model.state_dict()}


def _converted_checkpoint(family: str, conf: dict, normalize: bool) -> dict:
    from s3prl.upstream.data2vec import data2vec_model as data2vec
    from s3prl.upstream.hubert import hubert_model as hubert
    from s3prl.upstream.wav2vec2 import wav2vec2_model as wav2vec2

    extra = {}
    task_cfg = wav2vec2.AudioPretrainingConfig(normalize=normalize)
    if family == "hubert":
        symbols = [["a", "b", "c", "d"]]
        task_cfg = hubert.HubertPretrainingConfig(label_rate=50.0, normalize=normalize)
        model_cfg = hubert.HubertConfig(label_rate=50.0, **conf)
        model = hubert.HubertModel(model_cfg, task_cfg, symbols)
        extra = {"dictionaries_symbols": symbols}
    elif family == "data2vec":
        model_cfg = data2vec.Data2VecAudioConfig(**conf, pos_conv_depth=3)
        model = data2vec.Data2VecAudioModel(model_cfg)
    else:
        if family == "wav2vec2_conformer":
            conf.update(
                layer_type="conformer", attn_type="espnet", pos_enc_type="rel_pos"
            )
            conf.update(depthwise_conv_kernel_size=5)
        model_cfg = wav2vec2.Wav2Vec2Config(**conf)
        model = wav2vec2.Wav2Vec2Model(model_cfg)
    weights = randomize(model, seed=1).state_dict()
    if family == "data2vec":
        weights["_ema"] = {}
    return {
        "task_cfg": dataclasses.asdict(task_cfg),
        "model_cfg": dataclasses.asdict(model_cfg),
        "model_weight": weights,
        **extra,
    }
