import json

import pytest

from espnet_ensemble.decoding.ctm import read_ctm
from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.serving.formats import FORMATS
from espnet_ensemble.serving.transcriber import Transcript

WORDS = (
    Word("good", 0.25, 0.5, 0.9),
    Word("morning", 0.6, 1.0, 0.8),
    Word("täglich", 3600.5, 3601.25, 0.5),
)
TRANSCRIPT = Transcript("my talk.wav", "good morning täglich", WORDS, 3602.0)
EXPECTED = {
    "txt": "good morning täglich\n",
    "srt": """\
1
00:00:00,250 --> 00:00:01,500
good morning

2
01:00:00,500 --> 01:00:01,750
täglich
""",
    "vtt": """\
WEBVTT

00:00:00.250 --> 00:00:01.500
good morning

01:00:00.500 --> 01:00:01.750
täglich
""",
    "tsv": "start\tend\ttext\n250\t1500\tgood morning\n3600500\t3601750\ttäglich\n",
    "ctm": """\
my_talk.wav 1 0.250 0.250 good 0.900000
my_talk.wav 1 0.600 0.400 morning 0.800000
my_talk.wav 1 3600.500 0.750 täglich 0.500000
""",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_format_is_as_its_readers_expect(name):
    assert FORMATS[name](TRANSCRIPT) == EXPECTED[name]


def test_json_has_times_and_confidences():
    said = FORMATS["json"](TRANSCRIPT)
    assert said.count("\n") == 1 and "täglich" in said
    found = json.loads(said)
    assert (found["name"], found["duration"]) == ("my talk.wav", 3602.0)
    assert found["text"] == TRANSCRIPT.text
    assert [segment["start"] for segment in found["segments"]] == [0.25, 3600.5]
    word = found["segments"][0]["words"][1]
    assert word == {"word": "morning", "start": 0.6, "end": 1.0, "confidence": 0.8}


def test_a_ctm_can_be_read_again(tmp_path):
    (tmp_path / "ctm").write_text(FORMATS["ctm"](TRANSCRIPT))
    assert read_ctm(tmp_path / "ctm") == {"my_talk.wav": list(WORDS)}


@pytest.mark.parametrize("name", FORMATS)
def test_of_silence_there_is_a_file_too(name):
    said = FORMATS[name](Transcript("a.wav", "", (), 2.0))
    expected = {"txt": "\n", "vtt": "WEBVTT\n", "tsv": "start\tend\ttext\n"}
    if name != "json":
        assert said == expected.get(name, "")
