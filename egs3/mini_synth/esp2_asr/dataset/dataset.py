"""The sets of mini_synth."""

from pathlib import Path

from espnet_ensemble.integrations.espnet3.datasets import DataDirDataset


class MiniSynthDataset(DataDirDataset):
    """A set of mini_synth, from the recipe's ``data``.

    Args:
        split: train, dev or test.
        numbered: As inference wants it, see
            :class:`espnet_ensemble.integrations.espnet3.datasets.TranscribedDataset`.
    """

    def __init__(self, split: str, numbered: bool = False):
        recipe = Path(__file__).parents[1]
        super().__init__(recipe / "data" / split, numbered)
