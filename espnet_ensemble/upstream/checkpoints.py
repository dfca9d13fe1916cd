"""The published checkpoints that the paper uses, and what each is called where."""

from dataclasses import dataclass
from typing import Any

#: Family -> S3PRL's name for any checkpoint of it that transformers can load.
CUSTOM_LOADERS = {"wav2vec2": "hf_wav2vec2_custom", "hubert": "hf_hubert_custom"}


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint.

    Attributes:
        huggingface: Its id on the Hugging Face hub.
        s3prl: Its name in S3PRL's hub, or one of :data:`CUSTOM_LOADERS`, which takes the
            other as ``path_or_url``.
        feature_size: Size of its hidden states.
        num_layers: Number of its transformer layers.
        parameters: Parameters without head, in millions.
        data: What it was pre-trained (and fine-tuned) on.
        note: What a reader of the paper should know.
        fine_tuned: Whether it was fine-tuned for ASR; its CTC head is not used.
    """

    huggingface: str
    s3prl: str
    feature_size: int
    num_layers: int
    parameters: float
    data: str
    note: str = ""
    fine_tuned: bool = False

    @property
    def s3prl_entry(self) -> str | dict[str, Any]:
        """What ``upstreams`` of ``frontend_conf`` takes to load it with S3PRL.

        Example:
            >>> CHECKPOINTS[0].s3prl_entry
            'wav2vec2_base_960'
            >>> CHECKPOINTS[-1].s3prl_entry
            {'name': 'hf_hubert_custom', 'path_or_url': 'facebook/hubert-xlarge-ls960-ft'}
        """
        if self.s3prl not in CUSTOM_LOADERS.values():
            return self.s3prl
        return {"name": self.s3prl, "path_or_url": self.huggingface}


CHECKPOINTS: tuple[Checkpoint, ...] = (
    Checkpoint(
        "facebook/wav2vec2-base",
        "wav2vec2_base_960",
        768,
        12,
        94.4,
        "LibriSpeech 960 h",
    ),
    Checkpoint(
        "facebook/hubert-base-ls960",
        "hubert_base",
        768,
        12,
        94.4,
        "LibriSpeech 960 h",
    ),
    Checkpoint(
        "microsoft/wavlm-base",
        "wavlm_base",
        768,
        12,
        94.4,
        "LibriSpeech 960 h",
    ),
    Checkpoint(
        "facebook/wav2vec2-large-lv60",
        "wav2vec2_large_ll60k",
        1024,
        24,
        315.4,
        "Libri-Light 60 k h",
    ),
    Checkpoint(
        "facebook/hubert-xlarge-ll60k",
        CUSTOM_LOADERS["hubert"],
        1280,
        48,
        962.5,
        "Libri-Light 60 k h",
        "The paper names this checkpoint but gives it 316.6 M parameters, the size of "
        "hubert-large-ll60k. Its Table 1 uses the fine-tuned 1280-dim xlarge.",
    ),
    Checkpoint(
        "facebook/hubert-large-ll60k",
        "hubert_large_ll60k",
        1024,
        24,
        315.4,
        "Libri-Light 60 k h",
        "Not named by the paper, but the HuBERT of the size that it gives.",
    ),
    Checkpoint(
        "microsoft/wavlm-large",
        "wavlm_large",
        1024,
        24,
        315.5,
        "94 k h: Libri-Light 60 k, GigaSpeech 10 k, VoxPopuli 24 k",
    ),
    Checkpoint(
        "facebook/wav2vec2-large-960h-lv60-self",
        CUSTOM_LOADERS["wav2vec2"],
        1024,
        24,
        315.4,
        "Libri-Light 60 k h; fine-tuned (self-training) on LibriSpeech 960 h",
        fine_tuned=True,
    ),
    Checkpoint(
        "facebook/hubert-xlarge-ls960-ft",
        CUSTOM_LOADERS["hubert"],
        1280,
        48,
        962.5,
        "Libri-Light 60 k h; fine-tuned on LibriSpeech 960 h",
        fine_tuned=True,
    ),
)


def is_published_id(name: str) -> bool:
    """Whether one of ``CHECKPOINTS`` has this id on the Hugging Face hub."""
    return any(checkpoint.huggingface == name for checkpoint in CHECKPOINTS)


#: A bundle of ``torchaudio.pipelines`` -> the id of the same weights on the Hugging Face hub.
TORCHAUDIO_BUNDLES = {
    "WAV2VEC2_BASE": "facebook/wav2vec2-base",
    "WAV2VEC2_LARGE": "facebook/wav2vec2-large",
    "WAV2VEC2_LARGE_LV60K": "facebook/wav2vec2-large-lv60",
    "WAV2VEC2_ASR_BASE_100H": "facebook/wav2vec2-base-100h",
    "WAV2VEC2_ASR_BASE_960H": "facebook/wav2vec2-base-960h",
    "WAV2VEC2_ASR_LARGE_960H": "facebook/wav2vec2-large-960h",
    "WAV2VEC2_ASR_LARGE_LV60K_960H": "facebook/wav2vec2-large-960h-lv60",
    "WAV2VEC2_XLSR53": "facebook/wav2vec2-large-xlsr-53",
    "WAV2VEC2_XLSR_300M": "facebook/wav2vec2-xls-r-300m",
    "WAV2VEC2_XLSR_1B": "facebook/wav2vec2-xls-r-1b",
    "WAV2VEC2_XLSR_2B": "facebook/wav2vec2-xls-r-2b",
    "VOXPOPULI_ASR_BASE_10K_DE": "facebook/wav2vec2-base-10k-voxpopuli-ft-de",
    "VOXPOPULI_ASR_BASE_10K_EN": "facebook/wav2vec2-base-10k-voxpopuli-ft-en",
    "VOXPOPULI_ASR_BASE_10K_ES": "facebook/wav2vec2-base-10k-voxpopuli-ft-es",
    "VOXPOPULI_ASR_BASE_10K_FR": "facebook/wav2vec2-base-10k-voxpopuli-ft-fr",
    "VOXPOPULI_ASR_BASE_10K_IT": "facebook/wav2vec2-base-10k-voxpopuli-ft-it",
    "HUBERT_BASE": "facebook/hubert-base-ls960",
    "HUBERT_LARGE": "facebook/hubert-large-ll60k",
    "HUBERT_XLARGE": "facebook/hubert-xlarge-ll60k",
    "HUBERT_ASR_LARGE": "facebook/hubert-large-ls960-ft",
    "HUBERT_ASR_XLARGE": "facebook/hubert-xlarge-ls960-ft",
    "WAVLM_BASE": "microsoft/wavlm-base",
    "WAVLM_BASE_PLUS": "microsoft/wavlm-base-plus",
    "WAVLM_LARGE": "microsoft/wavlm-large",
}
