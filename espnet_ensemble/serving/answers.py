"""Transcripts in the forms that OpenAI's API gives them."""

import math
import zlib
from collections.abc import Collection
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.serving.formats import to_srt, to_txt, to_vtt
from espnet_ensemble.serving.segments import Segment, split_segments
from espnet_ensemble.serving.transcriber import Transcript

#: Forms that are plain text -> what makes them.
TEXTS = {"text": to_txt, "srt": to_srt, "vtt": to_vtt}
#: All forms.
FORMATS = ("json", "verbose_json", *TEXTS)
#: What verbose_json can list.
GRANULARITIES = ("word", "segment")


def make_answer(
    transcript: Transcript,
    response_format: str,
    granularities: Collection[str],
    language: str,
) -> Response:
    """Give a transcript in one of :data:`FORMATS`.

    Args:
        transcript: The transcript.
        response_format: The form.
        granularities: What verbose_json lists: some of :data:`GRANULARITIES`.
        language: What verbose_json calls the language.
    """
    if response_format in TEXTS:
        return PlainTextResponse(TEXTS[response_format](transcript))
    seconds = round(transcript.duration, 3)
    answer: dict[str, Any] = {
        "text": transcript.text,
        "usage": {"type": "duration", "seconds": seconds},
    }
    if response_format == "verbose_json":
        answer |= {"task": "transcribe", "language": language, "duration": seconds}
    if response_format == "verbose_json" and "word" in granularities:
        answer["words"] = words_to_dicts(transcript)
    if response_format == "verbose_json" and "segment" in granularities:
        segments = split_segments(transcript.words, transcript.duration)
        answer["segments"] = [_segment(*numbered) for numbered in enumerate(segments)]
    return JSONResponse(answer)


def words_to_dicts(transcript: Transcript) -> list[dict[str, Any]]:
    """The words, as OpenAI's API lists them, and their confidences.

    Example:
        >>> words_to_dicts(Transcript("a.wav", "one", (Word("one", 0.1, 0.3, 0.9),), 0.5))
        [{'word': 'one', 'start': 0.1, 'end': 0.3, 'confidence': 0.9}]
    """
    return [
        {
            "word": word.text,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in transcript.words
    ]


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    content = segment.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(_mean_log_confidence(segment.words), 4),
        "compression_ratio": round(len(content) / len(zlib.compress(content)), 4),
        "no_speech_prob": 0.0,
    }


def _mean_log_confidence(words: Collection[Word]) -> float:
    return sum(math.log(max(word.confidence, 1e-10)) for word in words) / len(words)
