"""What the stage ``create_dataset`` does."""

import os
from pathlib import Path

from espnet3.components.data.dataset_builder import DatasetBuilder

from espnet_ensemble.integrations.espnet3.datasets import format_sets
from espnet_ensemble.recipes.corpora.mini_synth.prepare import (
    MINUTES,
    VALID_MINUTES,
    prepare_mini_synth,
)


class MiniSynthBuilder(DatasetBuilder):
    """Lets eSpeak NG speak, and writes data directories, in the recipe's ``data``.

    Speech that is there already is not made again.
    """

    def is_source_prepared(self, **kwargs) -> bool:
        """There is no source: the text is made, too."""
        return True

    def prepare_source(self, **kwargs) -> None:
        """Do nothing."""

    def is_built(self, **kwargs) -> bool:
        """Left to ``build``, which goes on where it was stopped."""
        return False

    def build(self, recipe_dir, minutes=None, nj=None, seed=0, **kwargs) -> None:
        """Make the corpus.

        Args:
            recipe_dir: The recipe's folder.
            minutes: Of speech, by set, where they differ from 30 (train), 5 (dev) and 50
                (test).
            nj: Processes; None: as there are cores.
            seed: Another one makes another corpus.
            kwargs: Not ours.
        """
        recipe, nj = Path(recipe_dir), nj or len(os.sched_getaffinity(0))
        data = recipe / "data"
        # dev only chooses epochs here.
        minutes = {**MINUTES, "dev": VALID_MINUTES, **(minutes or {})}
        corpus = recipe / "downloads" / "mini_synth"
        prepare_mini_synth(corpus, data / "local", minutes, seed, nj)
        # The recordings are at 16 kHz, and stay where they are.
        format_sets(data / "local", data, minutes, ("train", "dev"), 16000, "wav", nj)
