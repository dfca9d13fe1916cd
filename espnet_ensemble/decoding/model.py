"""What decoding needs of a trained model."""

from typing import Protocol

from torch import Tensor

from espnet_ensemble.decoding.vocabulary import Vocabulary


class CTCModel(Protocol):
    """A trained model with a CTC layer, in evaluation mode, on its device.

    :func:`espnet_ensemble.integrations.espnet2.model.load_ctc_model` loads ESPnet's.
    """

    @property
    def fs(self) -> int:
        """Sample rate of the speech that it takes, in Hz."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What its outputs stand for."""

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame of posteriors to the next."""

    @property
    def takes_padding(self) -> bool:
        """Whether an utterance's posteriors stay the same beside longer ones in a batch.

        If not, only utterances of one length may share a batch.
        """

    def log_probs(
        self, speech: Tensor, speech_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute the posteriors of a batch.

        Args:
            speech: Waveforms in [-1, 1] at ``fs``, (batch, samples), padded at the end; or
                cached features, (batch, frames, features). On any device.
            speech_lengths: Samples, or frames, of each utterance, (batch,).

        Returns:
            Natural logarithms of the posteriors, (batch, frames, tokens), float32, on the
            model's device, undefined at the padding; and the number of frames of each
            utterance, (batch,).

        Raises:
            ValueError: If a shape or a length is wrong, or a sample is not finite.
        """
