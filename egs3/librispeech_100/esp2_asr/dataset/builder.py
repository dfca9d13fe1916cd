"""What the stage ``create_dataset`` does."""

from pathlib import Path

from espnet3.components.data.dataset_builder import DatasetBuilder

from espnet_ensemble.integrations.espnet3.datasets import format_sets
from espnet_ensemble.recipes.corpora.download import DOWNLOADS, find_corpus
from espnet_ensemble.recipes.corpora.librispeech import (
    PARTS,
    download_librispeech,
    prepare_librispeech,
)

SETS = ("train_clean_100", "dev_clean", "dev_other", "test_clean", "test_other")
TRAINING = ("train_clean_100", "dev")
FS = 16000
MAX_WAV_DURATION = 30.0


class LibriSpeech100Builder(DatasetBuilder):
    """Gets LibriSpeech, if asked to, checks it and makes data directories.

    What is there already is not made again.
    """

    def is_source_prepared(self, librispeech="", **kwargs) -> bool:
        """Whether the corpus is there: asked for where it shall be downloaded."""
        return librispeech != DOWNLOADS

    def prepare_source(self, recipe_dir, librispeech="", **kwargs) -> None:
        """Download what is missing of the corpus."""
        download_librispeech(self._corpus_dir(recipe_dir, librispeech), SETS)

    def is_built(self, **kwargs) -> bool:
        """Left to ``build``, which goes on where it was stopped."""
        return False

    def build(self, recipe_dir, librispeech="", nj=1, partial=False, **kwargs) -> None:
        """Make data directories, of one audio file per utterance, in ``data``.

        Args:
            recipe_dir: The recipe's folder.
            librispeech: The corpus's folder, or "downloads".
            nj: Files read at a time.
            partial: Whether to take less than the whole corpus.
            kwargs: Not ours.
        """
        data = Path(recipe_dir) / "data"
        corpus_dir = self._corpus_dir(recipe_dir, librispeech)
        prepare_librispeech(corpus_dir, data / "local", SETS, nj, partial)
        format_sets(
            data / "local",
            data,
            (*SETS, "dev"),
            TRAINING,
            FS,
            nj=nj,
            max_wav_duration=MAX_WAV_DURATION,
        )

    def _corpus_dir(self, recipe_dir, librispeech: str) -> Path:
        folders = [PARTS[name].name for name in SETS]
        found = find_corpus("librispeech", librispeech, "LibriSpeech", folders)
        return Path(recipe_dir) / found
