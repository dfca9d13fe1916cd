"""The sets of LibriSpeech's 100 hours."""

from pathlib import Path

from espnet_ensemble.integrations.espnet3.datasets import DataDirDataset


class LibriSpeech100Dataset(DataDirDataset):
    """A set of LibriSpeech, from the recipe's ``data``.

    Args:
        split: Such as train_clean_100.
        numbered: As inference wants it, see
            :class:`espnet_ensemble.integrations.espnet3.datasets.TranscribedDataset`.
    """

    def __init__(self, split: str, numbered: bool = False):
        recipe = Path(__file__).parents[1]
        super().__init__(recipe / "data" / split, numbered)
