"""The families of encoders that transformers has, and what each needs to be run.

A family is a line in :data:`FAMILIES`: its ``model_type``, one of the classes below by what
it takes, and where in the model its parts are.

===========================  ===============================================================
class                        for encoders that take
===========================  ===============================================================
``WaveformUpstream``         a waveform, through convolutions; batched
``SqueezedUpstream``         the same, with layers at a fraction of the frame rate
``FbankUpstream``            Kaldi's filterbanks; batched
``ExtractedUpstream``        whatever the checkpoint's feature extractor makes; batched if
                             the model's own masks hold, else one utterance at a time
``SelfConditionedUpstream``  the same, with a CTC layer that feeds back into the layers
``WindowUpstream``           windows of fixed size, such as Whisper's 30 s
===========================  ===============================================================
"""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from espnet_ensemble.upstream.encoder import HuggingFaceUpstream
from espnet_ensemble.upstream.extracted import (
    ExtractedUpstream,
    SelfConditionedUpstream,
    WindowUpstream,
)
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
        part: Where in the model that is loaded the encoder is; "": it is the encoder.
        extractor: Attributes of the checkpoint's feature extractor that are set.
        options: Further arguments of ``upstream``.
    """

    upstream: Callable[..., HuggingFaceUpstream]
    encoder: str | None = None
    config: str = ""
    weights: str = ""
    num_layers: str = "num_hidden_layers"
    part: str = ""
    extractor: Mapping[str, Any] = field(default_factory=dict)
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
        if self.part:
            return cls
        # Else transformers 4.56 looks for names that begin with it, and for no others.
        return type(
            name, (cls,), {"base_model_prefix": "", "__module__": cls.__module__}
        )

    def loaded_config(self, config: Any) -> Any:
        """The part of a checkpoint's configuration that the class to load takes."""
        return config if self.part else self.encoder_config(config)

    def set_up(self, model: Any, extractor: Any) -> Any:
        """Find the encoder in what was loaded, and set its feature extractor's attributes."""
        for name, value in self.extractor.items():
            setattr(extractor, name, value)
        return attrgetter(self.part)(model) if self.part else model

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


def _seamless(encoder: str, **options) -> Family:
    # Behind the conformer, an adapter brings frames to 160 ms: what its norm has learnt is of
    # use there alone.
    adapter = dict(dropped=("intermediate_ffn", "inner_layer_norm"), last="encoder")
    return Family(
        FbankUpstream,
        encoder,
        weights=r"speech_encoder\.",
        num_layers="speech_encoder_layers",
        options=dict(tail=("encoder.layer_norm",), **adapter, **options),
    )


def _cohere() -> Family:
    # Its checkpoint has names of its own, which transformers knows for the whole model alone.
    # The feature extractor would cut what is longer than 30 s.
    return replace(
        _fast_conformer("encoder_config"),
        encoder="cohere_asr.CohereAsrModel",
        part="encoder",
        extractor=dict(max_audio_clip_s=math.inf),
    )


def _pooled() -> Family:
    """Whisper's, with frames pooled by two behind the layers, and a mask of the silence."""
    # That of Audio Flamingo 3 is the same, but for what it does with a mask.
    family = _windows(
        "qwen2_audio.Qwen2AudioEncoder", "audio_config", r"(model\.)?audio_tower\."
    )
    options = dict(
        mask="attention_mask",
        of_layers=True,
        stride=2,
        pool=2,
        averaged=lambda config: (2,) * config.num_hidden_layers + (1,),
    )
    return replace(family, options={**family.options, **options})


def _granite(package: str, name: str) -> Family:
    return Family(
        SelfConditionedUpstream,
        encoder=f"{package}.{name}CTCEncoder",
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
    )


def _frames_per_state(config: Any) -> list[int]:
    """Of Granite Speech 5: frames of each hidden state in one of the last."""
    halved = [
        sum(layer >= index for layer in config.subsample_layers)
        for index in range(config.num_hidden_layers + 1)
    ]
    return [2**times for times in halved]


def _granite5(config: str = "", weights: str = "") -> Family:
    return Family(
        SelfConditionedUpstream,
        encoder="granite_speech5.GraniteSpeech5Encoder",
        config=config,
        weights=weights,
        options=dict(
            hop_length=1280,
            batched=True,
            shortest=1280,
            stack="layers",
            averaged=_frames_per_state,
        ),
    )


def _nemotron(config: str = "encoder_config", weights: str = r"(model\.)?encoder\."):
    return Family(
        ExtractedUpstream,
        encoder="nemotron_asr_streaming.NemotronAsrStreamingEncoder",
        config=config,
        weights=weights,
        options=dict(hop_length=1280, batched=True, shortest=320, stack="layers"),
    )


def _lasr(config: str = "", weights: str = "") -> Family:
    return Family(
        ExtractedUpstream,
        encoder="lasr.LasrEncoder",
        config=config,
        weights=weights,
        options=dict(
            hop_length=640,
            batched=True,
            shortest=2320,
            of_layers=True,
            stack="layers",
            tail=("out_norm",),
        ),
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
    "wav2vec2-bert": Family(FbankUpstream, options=dict(mask_layers=True)),
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
    "seamless_m4t": _seamless(
        "seamless_m4t.SeamlessM4TSpeechEncoder", mask_layers=True
    ),
    "seamless_m4t_v2": _seamless("seamless_m4t_v2.SeamlessM4Tv2SpeechEncoder"),
    "whisper": _windows("whisper.WhisperEncoder", "", r"(model\.)?encoder\."),
    "parakeet_encoder": _fast_conformer(),
    "parakeet_ctc": _fast_conformer("encoder_config", r"encoder\."),
    "parakeet_tdt": _fast_conformer("encoder_config", r"encoder\."),
    "parakeet_rnnt": _fast_conformer("encoder_config", r"encoder\."),
    "canary": _fast_conformer("encoder_config", r"(model\.)?encoder\."),
    "cohere_asr": _cohere(),
    "nemotron_asr_streaming_encoder": _nemotron("", ""),
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
    "moss_transcribe_diarize": _windows(
        "moss_transcribe_diarize.MossTranscribeDiarizeAudioModel",
        "audio_config",
        r"(model\.)?audio_tower\.",
    ),
    "qwen2_audio": _pooled(),
    "audioflamingo3": _pooled(),
    "musicflamingo": _pooled(),
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
            hop_length=640,
            shortest=560,
            mask=None,
            stack="layers",
            tail=("layer_norm",),
        ),
    ),
    "moonshine_streaming": Family(
        ExtractedUpstream,
        encoder="moonshine_streaming.MoonshineStreamingEncoder",
        config="encoder_config",
        weights=r"(model\.)?encoder\.",
        options=dict(
            hop_length=320,
            asked=dict(padding=True, pad_to_multiple_of=80),
            feats="input_values",
            stack="layers",
            tail=("final_norm",),
        ),
    ),
    "voxtral_realtime": Family(
        ExtractedUpstream,
        encoder="voxtral_realtime.VoxtralRealtimeEncoder",
        config="audio_config",
        weights=r"(model\.)?audio_tower\.",
        options=dict(hop_length=320, mask=None, stack="layers", tail=("norm",)),
    ),
    "gemma4": Family(
        ExtractedUpstream,
        encoder="gemma4.Gemma4AudioModel",
        config="audio_config",
        weights=r"(model\.)?audio_tower\.",
        extractor=dict(dither=0.0),
        options=dict(
            hop_length=640,
            batched=True,
            stride=4,
            # Else it would cut what is longer than 30 s.
            asked=dict(truncation=False, pad_to_multiple_of=None),
            stack="layers",
            # What brings features to the size of the language model's.
            dropped=("output_proj",),
        ),
    ),
    "granite_speech": _granite("granite_speech", "GraniteSpeech"),
    "granite_speech_plus": _granite("granite_speech_plus", "GraniteSpeechPlus"),
    "granite_speech5_encoder": _granite5(),
    "granite_speech5_ctc": _granite5("encoder_config", r"encoder\."),
}

_PACKED = "it packs all utterances into one sequence"
_LANGUAGE_MODEL = "it is a language model over codes or raw frames, without an encoder"
_CODEC = "it is a codec, which is trained to give the sound back"
_NO_FRAMES = "its states are of patches of a spectrogram, or of the whole sound"
_GENERATOR = "it makes sound"

#: ``model_type`` of other models of transformers that take sound -> the family nearest to it,
#: and why it is refused.
UNSUPPORTED: dict[str, tuple[str, str]] = {
    "qwen2_5_omni": ("qwen2_audio", _PACKED),
    "qwen3_asr": ("qwen2_audio", "it has 13 frames a second, at unequal distances"),
    "qwen3_omni_moe": (
        "qwen2_audio",
        "it has 13 frames a second, at unequal distances",
    ),
    "fun_asr_nano": (
        "whisper",
        "the input to its first layer is larger than its other hidden states",
    ),
    "gemma3n": ("gemma4", "it leaves out three of four frames behind its layers"),
    "embedding_gemma2": ("gemma4", "its encoder is that of Gemma 4"),
    "gemma4_unified": ("gemma4", _LANGUAGE_MODEL),
    "dots3_note": ("whisper", "it counts in samples what each of its chunks holds"),
    "phi4_multimodal": ("parakeet_ctc", "it cuts its frames into windows inside"),
    "nemotron_h_omni": ("parakeet_ctc", "its encoder is that of Parakeet"),
    "nemo_speechlm": (
        "nemotron_asr_streaming",
        "it has two encoders, which see overlapping chunks",
    ),
    "nemotron3_diarization": (
        "nemotron_asr_streaming",
        "it tells speakers, in overlapping chunks",
    ),
    "muse_spark": ("wavlm", "its layers differ in frame rate and size"),
    "speech-encoder-decoder": (
        "wav2vec2",
        "it is made of an encoder that has an id of its own",
    ),
    "vibevoice_asr": ("whisper", _LANGUAGE_MODEL),
    "audio-spectrogram-transformer": ("wavlm", _NO_FRAMES),
    "clap": ("wavlm", _NO_FRAMES),
    "pe_audio": ("wavlm", _NO_FRAMES),
    "pe_audio_video": ("wavlm", _NO_FRAMES),
    "xcodec": ("hubert", _CODEC),
    "xcodec2": ("wav2vec2-bert", _CODEC),
    "neucodec": ("wav2vec2-bert", _CODEC),
    **dict.fromkeys(
        (
            "dac",
            "encodec",
            "higgs_audio_v2_tokenizer",
            "mimi",
            "pocket_tts_audio_tokenizer",
            "vibevoice_acoustic_tokenizer",
            "wavtokenizer",
        ),
        ("wavlm", _CODEC),
    ),
    **dict.fromkeys(
        ("apertus1p5", "inkling_mm_model", "kyutai_speech_to_text", "moshi"),
        ("wavlm", _LANGUAGE_MODEL),
    ),
    **dict.fromkeys(
        (
            "clvp",
            "csm",
            "dia",
            "gradium_phonon_tts",
            "musicgen",
            "musicgen_melody",
            "pocket_tts",
            "pop2piano",
            "univnet",
            "vibevoice",
        ),
        ("wavlm", _GENERATOR),
    ),
}
