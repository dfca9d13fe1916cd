"""mini_synth: speech made on the spot, as ``egs2/mini_synth/asr1`` makes it."""

from .builder import MiniSynthBuilder as DatasetBuilder
from .dataset import MiniSynthDataset as Dataset

__all__ = ["Dataset", "DatasetBuilder"]
