import random
from itertools import pairwise

from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.serving.segments import (
    MAX_CHARS,
    MAX_SECONDS,
    PAUSE_SECONDS,
    split_segments,
)


def speak(*gaps, seconds=0.3, text="word"):
    """Words with these pauses before them."""
    words, now = [], 0.0
    for gap in gaps:
        words.append(Word(text, now + gap, now + gap + seconds, 0.9))
        now += gap + seconds
    return words


def texts(words):
    return [segment.text for segment in split_segments(words, duration=1000)]


def test_a_pause_parts_segments():
    assert texts(speak(0.5, 0.1, PAUSE_SECONDS + 0.1, 0.1)) == ["word word"] * 2


def test_what_is_too_long_is_parted_at_its_longest_pause():
    gaps = [0.1] * 30
    gaps[11] = 0.4
    words = speak(*gaps)
    first, *_ = split_segments(words, 1000)
    assert len(first.words) == 11


def test_segments_fit_and_lose_no_word():
    generator = random.Random(0)
    for _ in range(50):
        gaps = [round(generator.expovariate(3), 2) for _ in range(300)]
        words = speak(*gaps, text="x" * generator.randrange(1, 12))
        segments = split_segments(words, words[-1].end)
        assert [word for segment in segments for word in segment.words] == words
        for segment in segments:
            assert len(segment.text) <= MAX_CHARS
            assert segment.words[-1].end - segment.start <= MAX_SECONDS
        for one, two in pairwise(segments):
            assert one.words[-1].end <= one.end <= two.start


def test_hours_without_a_pause():
    segments = split_segments(speak(*[0.02] * 20_000), 10_000)
    assert sum(len(segment.words) for segment in segments) == 20_000


def test_a_segment_lingers_but_not_beyond_the_recording():
    (segment,) = split_segments(speak(0.5), duration=1.0)
    assert (segment.start, segment.end) == (0.5, 1.0)
    (segment,) = split_segments(speak(0.5), duration=9.0)
    assert segment.end == 1.3


def test_no_words_are_no_segments():
    assert split_segments([], 3.0) == []
