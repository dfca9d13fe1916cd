import pytest

from espnet_ensemble.errors import EnsembleError, name_keys


@pytest.mark.parametrize(
    "keys,expected",
    [
        (["a"], "'a'"),
        (["a", "b"], "'a' and 1 more"),
        (("it's", "b", "c"), '"it\'s" and 2 more'),
    ],
)
def test_the_first_key_is_named_and_the_others_counted(keys, expected):
    assert name_keys(keys) == expected


def test_who_catches_value_errors_catches_ours():
    with pytest.raises(ValueError, match="expected this, found that"):
        raise EnsembleError("expected this, found that")
