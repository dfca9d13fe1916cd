"""The families of encoders that transformers has, and what each needs to be run.

A family is a line in :data:`FAMILIES`: its ``model_type``, one of the classes below by what
it takes, and where in the model its parts are.

=========================  =================================================================
class                      for encoders that take
=========================  =================================================================
``WaveformUpstream``       a waveform, through convolutions; batched
``SqueezedUpstream``       the same, with layers at a fraction of the frame rate
``FbankUpstream``          Kaldi's filterbanks; batched
``ExtractedUpstream``      whatever the checkpoint's feature extractor makes; batched if the
                           model's own masks hold, else one utterance at a time
``WindowUpstream``         windows of fixed size, such as Whisper's 30 s
=========================  =================================================================
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from espnet_ensemble.upstream.encoder import HuggingFaceUpstream
from espnet_ensemble.upstream.extracted import ExtractedUpstream, WindowUpstream
from espnet_ensemble.upstream.fbank import FbankUpstream
from espnet_ensemble.upstream.waveform import SqueezedUpstream, WaveformUpstream


@dataclass(frozen=True)
class Family:
    """How the models of one ``model_type`` of transformers are run.

    Attributes:
        upstream: What runs them: ``upstream(name, model, extractor, layers, **options)``.
        encoder: ``package.Class`` of transformers: the encoder of models that have more;
            None: ``AutoModel``'s.
        config: Where in the checkpoint's configuration that of the encoder is; "": all of
            it.
        weights: Regular expression of what the names of the encoder's weights begin with in
            a checkpoint of the whole model.
        num_layers: What the encoder's configuration calls the number of its layers.
        options: Further arguments of ``upstream``.
    """

    upstream: Callable[..., HuggingFaceUpstream]
    encoder: str | None = None
    config: str = ""
    weights: str = ""
    num_layers: str = "num_hidden_layers"
    options: Mapping[str, Any] = field(default_factory=dict)

    def encoder_config(self, config: Any) -> Any:
        """The part of a checkpoint's configuration that is the encoder's."""
        return attrgetter(self.config)(config) if self.config else config

    def encoder_class(self) -> Any:
        """The class to load; it takes the names of the weights as :attr:`weights` cuts them.

        Raises:
            ImportError: If this version of transformers has none.
        """
        if self.encoder is None:
            from transformers import AutoModel

            return AutoModel
        package, name = self.encoder.split(".")
        module = importlib.import_module(
            f"transformers.models.{package}.modeling_{package}"
        )
        cls = getattr(module, name)
        # Else transformers 4.56 looks for names that begin with it, and for no others.
        return type(
            name, (cls,), {"base_model_prefix": "", "__module__": cls.__module__}
        )

    def build(self, name, model, extractor, layers) -> HuggingFaceUpstream:
        """Make an upstream of a loaded encoder."""
        return self.upstream(name, model, extractor, layers, **self.options)


def _wav2vec2(**options) -> Family:
    return Family(WaveformUpstream, options=options)


def _norm_last(name, model, extractor, layers, **options) -> HuggingFaceUpstream:
    """Where a final norm is in "large" models alone; in "base" ones, it comes first."""
    tail = ("encoder.layer_norm",) if model.config.do_stable_layer_norm else ()
    return WaveformUpstream(name, model, extractor, layers, tail=tail, **options)


def _fast_conformer(config: str = "", weights: str = "") -> Family:
    return Family(
        ExtractedUpstream,
        encoder="parakeet.ParakeetEncoder",
        config=config,
        weights=weights,
        options=dict(hop_length=1280, batched=True, shortest=320, stack="layers"),
    )


def _windows(encoder: str, config: str, weights: str, norm="layer_norm") -> Family:
    options = dict(stack="layers", tail=(norm,))
    return Family(WindowUpstream, encoder, config, weights, options=options)


def _seamless(encoder: str) -> Family:
    # Behind the conformer, an adapter brings frames to 160 ms: what its norm has learnt is of
    # use there alone.
    adapter = dict(dropped=("intermediate_ffn", "inner_layer_norm"), last="encoder")
    return Family(
        FbankUpstream,
        encoder,
        weights=r"speech_encoder\.",
        num_layers="speech_encoder_layers",
        options=dict(tail=("encoder.layer_norm",), **adapter),
    )


def _nemotron() -> Family:
    return Family(
        ExtractedUpstream,
        encoder="nemotron_asr_streaming.NemotronAsrStreamingEncoder",
        config="encoder_config",
        weights=r"(model\.)?encoder\.",
        options=dict(hop_length=1280, batched=True, shortest=320, stack="layers"),
    )


def _lasr(config: str = "", weights: str = "") -> Family:
    options = dict(hop_length=640, batched=True, shortest=2320, stack="layers")
    return Family(
        ExtractedUpstream,
        encoder="lasr.LasrEncoder",
        config=config,
        weights=weights,
        options=dict(options, tail=("out_norm",)),
    )


def _omni() -> Family:
    return Family(
        WaveformUpstream,
        encoder="omniasr.OmniASRAudioModel",
        config="audio_config",
        weights=r"(model\.)?audio_tower\.",
        options=dict(
            convs="subsampling",
            positions="encode_positions",
            channels=True,
            norm_eps=1e-5,
            stack="layers",
            tail=("layer_norm",),
        ),
    )


#: transformers' ``model_type`` -> how it is run.
FAMILIES: dict[str, Family] = {
    "wav2vec2": Family(_norm_last),
    "hubert": Family(_norm_last),
    "wavlm": Family(_norm_last),
    "data2vec-audio": _wav2vec2(),
    "unispeech": Family(_norm_last),
    "unispeech-sat": Family(_norm_last),
    "wav2vec2-conformer": _wav2vec2(
        tail=("encoder.layer_norm",), unused=("encoder.pos_conv_embed.",)
    ),
    "wav2vec2-bert": Family(FbankUpstream),
    "speecht5": Family(
        WaveformUpstream,
        encoder="speecht5.SpeechT5EncoderWithSpeechPrenet",
        weights=r"(speecht5\.)?encoder\.",
        options=dict(
            convs="prenet.feature_encoder",
            positions="prenet.pos_conv_embed",
            stack="wrapped_encoder.layers",
        ),
    ),
    "sew": Family(SqueezedUpstream, options=dict(tail=("encoder.upsample",))),
    "sew-d": Family(
        SqueezedUpstream,
        options=dict(stack="encoder.encoder.layer", tail=("encoder.upsample",)),
    ),
    "seamless_m4t": _seamless("seamless_m4t.SeamlessM4TSpeechEncoder"),
    "seamless_m4t_v2": _seamless("seamless_m4t_v2.SeamlessM4Tv2SpeechEncoder"),
    "whisper": _windows("whisper.WhisperEncoder", "", r"(model\.)?encoder\."),
    "parakeet_encoder": _fast_conformer(),
    "parakeet_ctc": _fast_conformer("encoder_config", r"encoder\."),
    "parakeet_tdt": _fast_conformer("encoder_config", r"encoder\."),
    "parakeet_rnnt": _fast_conformer("encoder_config", r"encoder\."),
    "canary": _fast_conformer("encoder_config", r"(model\.)?encoder\."),
    "nemotron_asr_streaming": _nemotron(),
    "nemotron3_5_asr": _nemotron(),
    "lasr_encoder": _lasr(),
    "lasr_ctc": _lasr("encoder_config", r"encoder\."),
    "voxtral": _windows(
        "voxtral.VoxtralEncoder", "audio_config", r"(model\.)?audio_tower\."
    ),
    "glmasr": _windows(
        "glmasr.GlmAsrEncoder", "audio_config", r"(model\.)?audio_tower\.", "norm"
    ),
    "omniasr": _omni(),
    "omniasr_ctc": _omni(),
    "moonshine": Family(
        ExtractedUpstream,
        encoder="moonshine.MoonshineEncoder",
        weights=r"(model\.)?encoder\.",
        num_layers="encoder_num_hidden_layers",
        options=dict(
            hop_length=384,
            shortest=895,
            feats="input_values",
            mask=None,
            stack="layers",
            tail=("layer_norm",),
        ),
    ),
    "speech_to_text": Family(
        ExtractedUpstream,
        encoder="speech_to_text.Speech2TextEncoder",
        weights=r"(model\.)?encoder\.",
        options=dict(
            hop_length=640, shortest=560, stack="layers", tail=("layer_norm",)
        ),
    ),
    "granite_speech": Family(
        ExtractedUpstream,
        encoder="granite_speech.GraniteSpeechCTCEncoder",
        config="encoder_config",
        weights=r"(model\.)?encoder\.",
        num_layers="num_layers",
        options=dict(
            hop_length=320,
            shortest=560,
            feats="hidden_states",
            mask=None,
            stack="layers",
        ),
    ),
}

#: What takes the place of speech encoders that do not fit: whose input, or mask, is of a kind
#: of its own, or whose layers differ in frame rate.
NEAREST: dict[str, str] = {
    "audioflamingo3": "whisper",
    "cohere_asr": "parakeet_ctc",
    "fun_asr_nano": "whisper",
    "gemma3n": "parakeet_ctc",
    "gemma4": "parakeet_ctc",
    "granite_speech5_ctc": "granite_speech",
    "granite_speech_plus": "granite_speech",
    "mimi": "wavlm",
    "moonshine_streaming": "moonshine",
    "musicflamingo": "whisper",
    "phi4_multimodal": "parakeet_ctc",
    "qwen2_audio": "whisper",
    "qwen2_5_omni": "whisper",
    "qwen3_asr": "whisper",
    "qwen3_omni_moe": "whisper",
    "voxtral_realtime": "voxtral",
}
