"""ESPnet's ASR model with losses on each upstream of the frontend ``ensemble``."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor
from torch.nn import ModuleList

from espnet_ensemble.decorrelation import refinement_loss
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend


class EnsembleASRModel(ESPnetASRModel):
    """ESPnet's model, whose loss has more terms: about what each upstream says by itself.

    They look at what the fusion makes of each upstream before it combines them
    (:meth:`espnet_ensemble.fusion.base.Fusion.project`), with layer weights and
    normalization, whatever ``member_dropout`` and ``feature_mask`` hide. So they train what
    is there: projections of the fusion, weights over layers, upstreams that are not frozen.
    Where there is none of these, as of concatenated last layers, they change nothing.

    Decoding is that of the model without these terms.

    Args:
        frontend: The frontend ``ensemble``.
        vocab_size: As of ``ESPnetASRModel``.
        member_ctc_weight: Weight of the mean of CTC losses, one for each upstream, each with a
            linear layer of its own: the statistics ``loss_member_ctc_<name>``.
        refinement_weight: Weight of :func:`espnet_ensemble.decorrelation.refinement_loss`:
            the statistic ``loss_refinement``.
        conf: All else that ``ESPnetASRModel`` takes.

    Raises:
        EnsembleError: If the frontend is another one, or a weight is negative.
    """

    def __init__(
        self,
        frontend: EnsembleFrontend,
        vocab_size: int,
        member_ctc_weight: float = 0.0,
        refinement_weight: float = 0.0,
        **conf,
    ):
        if not isinstance(frontend, EnsembleFrontend):
            raise EnsembleError(
                "model: ensemble: expected the frontend ensemble, found "
                f"{type(frontend).__name__}"
            )
        for name, weight in (
            ("member_ctc_weight", member_ctc_weight),
            ("refinement_weight", refinement_weight),
        ):
            if not weight >= 0:
                raise EnsembleError(f"{name}: expected at least 0, found {weight!r}")
        super().__init__(frontend=frontend, vocab_size=vocab_size, **conf)
        self.member_ctc_weight = member_ctc_weight
        self.refinement_weight = refinement_weight
        sizes = frontend.projected_sizes if member_ctc_weight else []
        self.member_ctcs = ModuleList(CTC(vocab_size, size) for size in sizes)

    def forward(
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        **kwargs,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Compute the loss, its parts and the weight of a batch.

        Args:
            speech: Waveforms, (batch, samples), or cached features,
                (batch, frames, features).
            speech_lengths: Samples, or frames, of each utterance, (batch,).
            text: Tokens, (batch, length).
            text_lengths: Tokens of each utterance, (batch,).
            kwargs: What ESPnet adds.
        """
        with _listening(self.frontend) as heard:
            loss, stats, weight = super().forward(
                speech, speech_lengths, text, text_lengths, **kwargs
            )
        more = self._member_losses(heard, text[:, : text_lengths.max()], text_lengths)
        if not more:
            return loss, stats, weight
        total = loss + sum(factor * value for factor, value in more.values())
        stats |= {name: value.detach() for name, (_, value) in more.items()}
        stats["loss"] = total.detach()
        return force_gatherable((total, stats, weight), total.device)

    def _member_losses(
        self, heard: "_Heard", text: Tensor, text_lengths: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        """Name -> weight and value."""
        found: dict[str, tuple[float, Tensor]] = {}
        feats = self.frontend.fusion.project(heard.feats)
        if self.refinement_weight:
            value = refinement_loss(feats, heard.feats_lens)
            found["loss_refinement"] = (self.refinement_weight, value)
        if self.member_ctcs:
            share = self.member_ctc_weight / len(feats)
            names = self.frontend.member_names
            for name, ctc, x in zip(names, self.member_ctcs, feats, strict=True):
                value = ctc(x, heard.feats_lens, text, text_lengths)
                found[f"loss_member_ctc_{name}"] = (share, value)
        return found


class _Heard:
    """What a frontend made of a batch: each upstream's features, and their frames."""

    def __init__(self, num_members: int):
        self.feats: list[Tensor] = [torch.empty(0)] * num_members
        self.feats_lens = torch.empty(0)


@contextmanager
def _listening(frontend: EnsembleFrontend) -> Iterator[_Heard]:
    """Hear what a frontend makes of the batch that it gets in the meantime."""
    heard = _Heard(len(frontend.layers))

    def hear_member(index):
        def hear(layer, inputs, output):
            heard.feats[index] = output

        return hear

    def hear_lengths(frontend, inputs, output):
        heard.feats_lens = output[1]

    hooks = [frontend.register_forward_hook(hear_lengths)]
    for index, layer in enumerate(frontend.layers):
        hooks.append(layer.register_forward_hook(hear_member(index)))
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
