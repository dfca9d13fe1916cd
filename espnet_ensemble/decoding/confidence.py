"""How sure recognised words are.

The confidence of a token is the highest posterior that it has in the frames that forced
alignment gives it, and that of a word the product of its tokens', as if they were
independent. CTC models are too sure of themselves; their posteriors are softened first,
by a temperature (C. Guo et al., "On calibration of modern neural networks", ICML 2017).
``benchmarks/confidence.py`` compares this with other definitions.
"""

from collections.abc import Sequence

import torch

from espnet_ensemble.decoding.alignment import TokenSpan

#: What logarithms are divided by. Chosen on the validation set of the recipe mini_synth.
TEMPERATURE = 2.0


def token_confidences(
    log_probs: torch.Tensor,
    spans: Sequence[TokenSpan],
    temperature: float = TEMPERATURE,
) -> list[float]:
    """Compute the confidence of each token of a transcript.

    Args:
        log_probs: Natural logarithms of the utterance's posteriors: (frames, tokens).
        spans: The tokens.
        temperature: 1 leaves posteriors as they are, a higher one makes them more alike.

    Returns:
        In [0, 1].

    Example:
        >>> probs = torch.tensor([[0.2, 0.8], [0.1, 0.9], [0.5, 0.5]])
        >>> spans = [TokenSpan(1, 0, 2), TokenSpan(1, 2, 3)]
        >>> [round(confidence, 3) for confidence in token_confidences(probs.log(), spans)]
        [0.75, 0.5]
    """
    softened = (log_probs.float() / temperature).softmax(dim=-1)
    return [
        softened[span.start : span.end, span.token_id].max().item() for span in spans
    ]
