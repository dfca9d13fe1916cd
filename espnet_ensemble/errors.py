"""The errors that a user can mend, and words that their messages share."""

from collections.abc import Sequence


class EnsembleError(ValueError):
    """Something that the user can mend.

    The message names the file, the utterance or the key, what was expected, what was found
    and, where it is not plain, what to do. Commands print it without a traceback. A
    subclass exists where a caller needs to tell one kind from another.
    """


def name_keys(keys: Sequence[str]) -> str:
    """Name the first, and how many more there are.

    Example:
        >>> name_keys(["utt1"]), name_keys(["utt1", "utt2", "utt3"])
        ("'utt1'", "'utt1' and 2 more")
    """
    return repr(keys[0]) + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
