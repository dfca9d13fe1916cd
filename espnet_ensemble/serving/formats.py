"""Transcripts as files: plain text, JSON, subtitles (SRT, WebVTT), tables (TSV), CTM."""

import json
from typing import Any

from espnet_ensemble.decoding.ctm import format_ctm
from espnet_ensemble.serving.segments import Segment, split_segments
from espnet_ensemble.serving.transcriber import Transcript


def to_txt(transcript: Transcript) -> str:
    """The text, on a line."""
    return f"{transcript.text}\n"


def to_dict(transcript: Transcript) -> dict[str, Any]:
    """Plain values: name, duration, text, and segments with their words.

    Example:
        >>> from espnet_ensemble.decoding.hypothesis import Word
        >>> word = Word("one", start=0.1, end=0.3, confidence=0.9)
        >>> to_dict(Transcript("a.wav", "one", (word,), duration=0.5))["segments"]
        [{'start': 0.1, 'end': 0.5, 'text': 'one', 'words': [{'word': 'one', 'start': 0.1,
        'end': 0.3, 'confidence': 0.9}]}]
    """
    return {
        "name": transcript.name,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "segments": [_segment_to_dict(segment) for segment in _segments(transcript)],
    }


def to_json(transcript: Transcript) -> str:
    """What :func:`to_dict` gives, on a line."""
    return json.dumps(to_dict(transcript), ensure_ascii=False) + "\n"


def to_srt(transcript: Transcript) -> str:
    """Subtitles, as SubRip has them.

    Example:
        >>> from espnet_ensemble.decoding.hypothesis import Word
        >>> word = Word("one", start=0.1, end=0.3, confidence=0.9)
        >>> print(to_srt(Transcript("a.wav", "one", (word,), duration=0.5)))
        1
        00:00:00,100 --> 00:00:00,500
        one
        <BLANKLINE>
    """
    cues = [
        f"{number}\n{_cue(segment, ',')}\n"
        for number, segment in enumerate(_segments(transcript), start=1)
    ]
    return "\n".join(cues)


def to_vtt(transcript: Transcript) -> str:
    """Subtitles, as WebVTT has them."""
    cues = [f"{_cue(segment, '.')}\n" for segment in _segments(transcript)]
    return "\n".join(["WEBVTT\n", *cues])


def to_tsv(transcript: Transcript) -> str:
    """Segments in a table: start and end in milliseconds, text; separated by tabs."""
    rows = [
        f"{round(1000 * x.start)}\t{round(1000 * x.end)}\t{x.text}\n"
        for x in _segments(transcript)
    ]
    return "".join(["start\tend\ttext\n", *rows])


def to_ctm(transcript: Transcript) -> str:
    """A line for each word, as NIST's scoring has it; spaces in the name become ``_``."""
    return format_ctm("_".join(transcript.name.split()), transcript.words)


#: What an output format is called, which also ends the names of its files -> what it is.
FORMATS = {
    "txt": to_txt,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "ctm": to_ctm,
}


def _segments(transcript: Transcript) -> list[Segment]:
    return split_segments(transcript.words, transcript.duration)


def _segment_to_dict(segment: Segment) -> dict[str, Any]:
    words = [
        {
            "word": word.text,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in segment.words
    ]
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "words": words,
    }


def _cue(segment: Segment, point: str) -> str:
    start, end = _clock(segment.start, point), _clock(segment.end, point)
    return f"{start} --> {end}\n{segment.text}"


def _clock(seconds: float, point: str) -> str:
    """Hours, minutes, seconds, milliseconds."""
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
