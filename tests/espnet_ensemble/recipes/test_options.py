import pytest

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.options import frontend_arguments, split_words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", []),
        (" --x  1 ", ["--x", "1"]),
        ("'a b' c\\ d \"it's\"", ["a b", "c d", "it's"]),
        ("* $HOME", ["*", "$HOME"]),
    ],
)
def test_words_are_a_shell_s(value, words):
    assert split_words("asr_args", value) == words


def test_a_quotation_mark_without_a_second():
    with pytest.raises(EnsembleError, match="^--asr_args it's: expected words"):
        split_words("asr_args", "it's")


def test_only_the_frontend_s_arguments():
    words = "--a 1 --frontend_conf=x=1 --b --frontend x --frontends y --frontend_conf z"
    assert frontend_arguments(words.split()) == (
        "--frontend_conf=x=1 --frontend x --frontend_conf z".split()
    )
