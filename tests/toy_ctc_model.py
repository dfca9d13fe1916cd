"""A model without an encoder, for tests of what is around one."""

import torch

from espnet_ensemble.decoding.vocabulary import Vocabulary

#: Samples of a frame.
HOP = 160


class ToyModel:
    """Its posteriors of a frame depend on the frame's mean: sample 0.1 * n says token n."""

    fs = 16000
    frame_seconds = HOP / 16000
    vocabulary = Vocabulary(("<blank>", "<space>", "a", "b", "c"), "".join)

    def __init__(self, max_items=10**9, takes_padding=True):
        self.max_items = max_items
        self.takes_padding = takes_padding
        self.batches = []

    def log_probs(self, speech, speech_lengths):
        self.batches.append(speech_lengths.tolist())
        if speech.numel() > self.max_items:
            raise MemoryError("too much")
        speech = speech.flatten(1)  # features are samples, one in each frame
        frames = speech.unfold(1, HOP, HOP).mean(2)
        tokens = (10 * frames).round().long().clamp(0, 4)
        one_hot = torch.nn.functional.one_hot(tokens, 5).float()
        return (8 * one_hot).log_softmax(2), speech_lengths // HOP


def say(*tokens, frames=3):
    """Samples that say these tokens, with as many frames of blank after each."""
    values = [[0.1 * token] * HOP * frames + [0.0] * HOP * frames for token in tokens]
    return torch.tensor([x for value in values for x in value])


class ToySource:
    """Utterances in memory: utterance's id -> samples, or the error that reading raises."""

    items_per_second = 16000.0

    def __init__(self, items):
        self._items = items
        self.lengths = {
            k: 0 if isinstance(x, Exception) else len(x) for k, x in items.items()
        }

    def read(self, utt_id):
        if isinstance(self._items[utt_id], Exception):
            raise self._items[utt_id]
        return self._items[utt_id]
