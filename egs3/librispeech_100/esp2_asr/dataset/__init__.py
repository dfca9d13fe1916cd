"""LibriSpeech's 100 hours, as ``egs2/librispeech_100/asr1`` takes them."""

from .builder import LibriSpeech100Builder as DatasetBuilder
from .dataset import LibriSpeech100Dataset as Dataset

__all__ = ["Dataset", "DatasetBuilder"]
