"""Encoders as X-ARES, the audio encoder benchmark and its challenges, takes them.

Its contract, without its code: Zhang et al., "X-ARES: A Comprehensive Framework for Assessing
Audio Encoder Performance", arXiv 2505.16369. Its programs take a Python file with a class that
needs no arguments:

.. code-block:: python

    # my_encoder.py: python -m xares_llm.run my_encoder.py task1 task1
    from espnet_ensemble.integrations.huggingface.xares import XaresLLMEncoder

    class WavLMHubertEncoder(XaresLLMEncoder):
        def __init__(self):
            super().__init__("exp/wavlm_hubert")
"""

import torch
from torch import Tensor

from espnet_ensemble.files import PathLike
from espnet_ensemble.integrations.huggingface.modeling import EnsembleModel


class XaresEncoder(torch.nn.Module):
    """Waveforms in, features out: what ``xares`` takes.

    Args:
        model: What :meth:`.EnsembleModel.from_pretrained` takes.

    Attributes:
        model: The :class:`~.modeling.EnsembleModel`, in evaluation mode always.
        output_dim: Features per frame.
        sampling_rate: Of the speech, in Hz.
        hop_size_in_ms: Milliseconds from one frame to the next.
    """

    def __init__(self, model: PathLike):
        super().__init__()
        self.model = EnsembleModel.from_pretrained(model)
        self.output_dim = self.model.output_dim
        self.sampling_rate = self.model.sampling_rate
        self.hop_size_in_ms = self.model.hop_size_in_ms

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """From waveforms, (batch, samples) or (samples,), to (batch, frames, output_dim)."""
        return self._encode(audio, None)[0]

    def train(self, mode: bool = True) -> "XaresEncoder":
        """Stay in evaluation mode: the encoder is what is evaluated."""
        return super().train(False)

    def _encode(self, audio: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if audio.dim() == 1:
            audio = audio.unsqueeze(0)
            mask = mask if mask is None or mask.dim() == 2 else mask.unsqueeze(0)
        output = self.model(audio, mask)
        return output.last_hidden_state, output.attention_mask


class XaresLLMEncoder(XaresEncoder):
    """Waveforms and their mask in, features and theirs out: what ``xares_llm`` takes.

    Args:
        model: What :meth:`.EnsembleModel.from_pretrained` takes.

    Example:
        >>> upstreams = [getfixture("tiny_wavlm"), getfixture("tiny_hubert")]
        >>> from espnet_ensemble.integrations.huggingface.configuration import EnsembleConfig
        >>> model = EnsembleModel(EnsembleConfig(frontend_conf={"upstreams": upstreams}))
        >>> model.save_pretrained(getfixture("tmp_path"))
        >>> encoder = XaresLLMEncoder(getfixture("tmp_path"))
        >>> features, mask = encoder(torch.rand(2, 16000), torch.ones(2, 16000))
        >>> features.shape, mask.shape, encoder.output_dim, encoder.hop_size_in_ms
        (torch.Size([2, 49, 64]), torch.Size([2, 49]), 64, 20.0)
    """

    @torch.no_grad()
    def forward(  # type: ignore[override]
        self, audio: Tensor, audio_attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute features.

        Args:
            audio: Waveforms, (batch, samples) or (samples,), padded at the end.
            audio_attention_mask: 1 where there is speech, of the same shape; None: all is.

        Returns:
            Features, (batch, frames, output_dim), and their mask, (batch, frames).
        """
        return self._encode(audio, audio_attention_mask)
