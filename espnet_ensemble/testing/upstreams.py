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
