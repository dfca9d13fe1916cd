"""Well-known checkpoints of the supported families: what to know before one is chosen.

Sizes are of the encoder, counted by building it (XEUS: as stated); layers likewise. Licences,
languages and hours are what the model's card or paper states (WavLM's card: UniSpeech's licence);
the licence in the repository is what counts. What could not be found there is "-".
"""

from dataclasses import astuple, dataclass

from espnet_ensemble.upstream.checkpoints import CHECKPOINTS


@dataclass(frozen=True)
class KnownCheckpoint:
    """A published checkpoint.

    Attributes:
        name: Its id on the Hugging Face hub.
        family: transformers' ``model_type``, or the name in ``upstreams`` that loads it.
        parameters: Of the encoder, in millions.
        layers: Number of its layers.
        licence: As its card states it; "-": not known.
        languages: Which, or how many; "-": not known.
        hours: Of its (pre-)training, with k for thousand and M for million; "-": not known.
    """

    name: str
    family: str
    parameters: float
    layers: int
    licence: str
    languages: str
    hours: str


_APACHE, _WAVLM = "Apache-2.0", "CC-BY-SA-3.0"


def _xls_r(size: str, parameters: float, layers: int) -> KnownCheckpoint:
    name = f"facebook/wav2vec2-xls-r-{size}"
    return KnownCheckpoint(
        name, "wav2vec2", parameters, layers, _APACHE, "128", "436 k"
    )


def _whisper(size: str, parameters: float, layers: int, hours="680 k"):
    name = f"openai/whisper-{size}"
    return KnownCheckpoint(name, "whisper", parameters, layers, _APACHE, "99", hours)


#: Those of the paper come from :data:`.checkpoints.CHECKPOINTS`; these are the others.
_MORE = (
    KnownCheckpoint(
        "microsoft/wavlm-base-plus", "wavlm", 94.4, 12, _WAVLM, "English", "94 k"
    ),
    KnownCheckpoint(
        "facebook/data2vec-audio-base",
        "data2vec-audio",
        93.2,
        12,
        _APACHE,
        "English",
        "960",
    ),
    KnownCheckpoint(
        "facebook/wav2vec2-large-xlsr-53",
        "wav2vec2",
        315.4,
        24,
        _APACHE,
        "53",
        "56 k",
    ),
    _xls_r("300m", 315.4, 24),
    _xls_r("1b", 962.5, 48),
    _xls_r("2b", 2159.3, 48),
    KnownCheckpoint(
        "facebook/mms-300m", "wav2vec2", 315.4, 24, "CC-BY-NC-4.0", "1406", "500 k"
    ),
    KnownCheckpoint(
        "facebook/mms-1b", "wav2vec2", 962.5, 48, "CC-BY-NC-4.0", "1406", "500 k"
    ),
    KnownCheckpoint(
        "facebook/w2v-bert-2.0", "wav2vec2-bert", 580.5, 24, "MIT", "143", "4.5 M"
    ),
    KnownCheckpoint(
        "utter-project/mHuBERT-147",
        "hubert",
        94.4,
        12,
        "CC-BY-NC-SA-4.0",
        "147",
        "90 k",
    ),
    KnownCheckpoint(
        "facebook/seamless-m4t-v2-large",
        "seamless_m4t_v2",
        635.0,
        24,
        "CC-BY-NC-4.0",
        "101",
        "4.5 M",
    ),
    KnownCheckpoint(
        "microsoft/speecht5_asr", "speecht5", 94.4, 12, "MIT", "English", "960"
    ),
    _whisper("tiny", 8.2, 4),
    _whisper("base", 20.6, 6),
    _whisper("small", 88.2, 12),
    _whisper("medium", 307.2, 24),
    _whisper("large-v3", 637.0, 32, "5 M"),
    KnownCheckpoint(
        "nvidia/parakeet-ctc-1.1b",
        "parakeet_ctc",
        1061.5,
        42,
        "CC-BY-4.0",
        "English",
        "64 k",
    ),
    KnownCheckpoint(
        "espnet/xeus", "espnet_ssl", 577.0, 19, "CC-BY-NC-SA-4.0", "4057", "1 M"
    ),
    KnownCheckpoint(
        "UsefulSensors/moonshine-base",
        "moonshine",
        20.2,
        8,
        "MIT",
        "English",
        "200 k",
    ),
    KnownCheckpoint(
        "facebook/s2t-small-librispeech-asr",
        "speech_to_text",
        17.5,
        12,
        "MIT",
        "English",
        "960",
    ),
)


def _of_the_paper() -> tuple[KnownCheckpoint, ...]:
    return tuple(
        KnownCheckpoint(
            name=c.huggingface,
            family=c.huggingface.split("/")[1].split("-")[0],
            parameters=c.parameters,
            layers=c.num_layers,
            licence=_WAVLM if "wavlm" in c.huggingface else _APACHE,
            languages="English",
            hours=(
                "94 k"
                if c.data.startswith("94 k")
                else "60 k"
                if "60 k" in c.data
                else "960"
            ),
        )
        for c in CHECKPOINTS
    )


CATALOGUE = _of_the_paper() + _MORE


def search(word: str) -> list[KnownCheckpoint]:
    """Find checkpoints by a part of their name, family, licence or languages.

    Args:
        word: In any case; "" finds all.

    Example:
        >>> [found.name for found in search("mhubert")]
        ['utter-project/mHuBERT-147']
    """
    return [
        known
        for known in CATALOGUE
        if any(word.lower() in str(value).lower() for value in astuple(known))
    ]
