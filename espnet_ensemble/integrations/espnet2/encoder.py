"""The pass-through encoder, for a model that is a CTC layer alone."""

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder


class IdentityEncoder(AbsEncoder):
    """Hands the frontend's features to the CTC layer as they are.

    Args:
        input_size: Number of features per frame.

    Example:
        >>> encoder = IdentityEncoder(input_size=4)
        >>> feats, feats_lens = torch.rand(2, 3, 4), torch.tensor([3, 2])
        >>> out, out_lens, _ = encoder(feats, feats_lens)
        >>> torch.equal(out, feats), out_lens.tolist(), encoder.output_size()
        (True, [3, 2], 4)
    """

    def __init__(self, input_size: int):
        super().__init__()
        self._output_size = input_size

    def output_size(self) -> int:
        """Number of features per frame."""
        return self._output_size

    def forward(
        self,
        xs_pad: torch.Tensor,
        ilens: torch.Tensor,
        prev_states: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Return the input.

        Args:
            xs_pad: Features, (batch, time, feature).
            ilens: Number of frames of each utterance, (batch,).
            prev_states: Not used.
        """
        return xs_pad, ilens, None
