"""What becomes of the marks in the transcriptions."""

import pytest

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.corpora.wsj.transcripts import normalize, read_dot


@pytest.mark.parametrize(
    "transcript, text",
    [
        # Upper case, and no escapes. The first two are Kaldi's examples.
        (
            "Of course there isn\\'t any guarantee [misc_noise]",
            "OF COURSE THERE ISN'T ANY GUARANTEE <NOISE>",
        ),
        (
            "[loud_breath] computers I\\. B\\. M\\. introduced [door_slam]",
            "<NOISE> COMPUTERS I. B. M. INTRODUCED <NOISE>",
        ),
        # Noises in a word, and the beginnings and ends of noises over words.
        ("the [<door_slam] market [door_slam>] fell", "THE MARKET FELL"),
        ("the [phone_ring/] market [/phone_ring] fell", "THE MARKET FELL"),
        # A recording that is cut off, and a pause.
        ("~ the market . fell ~", "THE MARKET FELL"),
        # Said though not in the prompt; and a mispronounced one, a symbol of its own.
        ("the <and> <Mr's> <*In*> market", "THE AND MR'S <*IN*> MARKET"),
        # Punctuation that is said, with three spellings of the Nov'93 tests.
        (
            ',comma \\.PERIOD \\"double-quote \\:colon \\(left-paren -hyphen',
            ',COMMA .PERIOD "DOUBLE-QUOTE :COLON (LEFT-PAREN -HYPHEN',
        ),
        ("four \\.point two \\%percent --dash", "FOUR POINT TWO PERCENT -DASH"),
        # Kept: mispronounced, stressed, lengthened, broken off.
        ("*sold* !sold so:ld so- (s)old", "*SOLD* !SOLD SO:LD SO- (S)OLD"),
    ],
)
def test_normalize(transcript, text):
    assert normalize(transcript) == text


def test_read_dot(tmp_path):
    path = tmp_path / "01ic0200.dot"
    path.write_bytes(b"A (b) c (01ic0201)\r\n\r\ncaf\xe9 (01IC020A) \n")
    expected = {"01ic0201": "A (b) c", "01ic020a": "caf\xe9"}
    assert read_dot(path) == expected


def test_a_line_without_utterance_is_named(tmp_path):
    path = tmp_path / "01ic0200.dot"
    path.write_text("one (01ic0201)\ntwo 01ic0202\n")
    with pytest.raises(
        EnsembleError, match=r"01ic0200.dot:2: expected .*'two 01ic0202'"
    ):
        read_dot(path)
