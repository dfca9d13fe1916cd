"""WavLM's attention by the kernels that other encoders' attention has.

Its position bias, which each frame scales by a gate of its own, is all that keeps it from
:func:`torch.nn.functional.scaled_dot_product_attention` in transformers and in S3PRL. The gated
bias is a mask that is added, and those kernels take one.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Embedding, Module
from torch.nn.functional import scaled_dot_product_attention


def fuse_attention(model: Module) -> None:
    """Have the layers of a WavLM, of transformers or S3PRL, compute attention in one kernel.

    Results are the same up to rounding, the names of the weights stay, and other models are
    left as they are. Attention weights are no longer returned.
    """
    for module in model.modules():
        make = _FUSED.get(f"{type(module).__module__}.{type(module).__name__}")
        if make is not None and (fused := make(module)) is not None:
            module.__class__ = fused


def takes_booleans(model: Any) -> bool:
    """Whether the layers of a model of transformers take masks of booleans, true where to look.

    The others take numbers to add, and one for each pair of frames.
    """
    return model.config._attn_implementation == "sdpa" or any(
        isinstance(module, _Gated) for module in model.modules()
    )


def layer_mask(content: Tensor, model: Any, dtype: torch.dtype) -> Tensor:
    """Make what layers of a model of transformers take as the mask of a batch.

    Args:
        content: Which frames are no padding, bool, (batch, frames).
        model: Whose layers, see :func:`takes_booleans`.
        dtype: What they compute in.

    Returns:
        (batch, 1, 1, frames), or of each pair of frames, (batch, 1, frames, frames).
    """
    content = content[:, None, None]
    if takes_booleans(model):
        return content
    added = torch.zeros(content.shape, dtype=dtype, device=content.device)
    added = added.masked_fill(~content, torch.finfo(dtype).min)
    return added.expand(-1, -1, content.size(-1), -1)


def relative_bias(
    embedding: Embedding, bucket: Callable[[Tensor], Tensor], num_frames: int
) -> Tensor:
    """What attention of a frame to another gets for the distance between them.

    There are far fewer distances than pairs of frames: each is looked up once.

    Args:
        embedding: From a bucket to a number for each head.
        bucket: From distances, in frames, to their buckets.
        num_frames: Frames of the batch.

    Returns:
        (head, frame that looks, frame that is seen)

    Example:
        >>> embedding = Embedding.from_pretrained(torch.arange(5.0).unsqueeze(1))
        >>> relative_bias(embedding, lambda distance: distance + 2, num_frames=3)
        tensor([[[2., 3., 4.],
                 [1., 2., 3.],
                 [0., 1., 2.]]])
    """
    distances = torch.arange(1 - num_frames, num_frames, device=embedding.weight.device)
    values = embedding(bucket(distances)).T
    return values.unfold(1, num_frames, 1).flip(1)


class _Gated(Module):
    """Self-attention with a gated position bias, whatever its parts are called."""

    def _attend(
        self: Any,
        hidden: Tensor,
        bias: Tensor,
        content: Tensor | None,
        gate_proj: Module,
        gate_const: Tensor,
        dropout: float,
    ) -> Tensor:
        """Compute attention.

        Args:
            hidden: (batch, frames, features)
            bias: Of :func:`relative_bias`.
            content: Which frames are seen, bool, (batch, 1, 1, frames); None: all.
            gate_proj: From the features of a head to those of its two gates.
            gate_const: A factor of the second gate for each head, (1, heads, 1, 1).
            dropout: Of attention weights, in training.

        Returns:
            (batch, frames, features)
        """
        heads = (self.num_heads, -1)
        two = gate_proj(hidden.unflatten(-1, heads).transpose(1, 2)).unflatten(
            -1, (2, -1)
        )
        first, second = two.sum(dim=-1).sigmoid().chunk(2, dim=-1)
        mask = (first * (second * gate_const - 1.0) + 2.0) * bias
        if content is not None:
            mask.masked_fill_(~content, -torch.inf)
        query, key, value = (
            project(hidden).unflatten(-1, heads).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        found = scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask.to(query.dtype),
            dropout_p=dropout if self.training else 0.0,
        )
        return self.out_proj(found.transpose(1, 2).flatten(start_dim=2))


@cache
def _transformers_class() -> type[Module]:
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    class FusedWavLMAttention(WavLMAttention, _Gated):
        def forward(  # type: ignore[override]
            self: Any,
            hidden_states: Tensor,
            attention_mask: Tensor | None = None,
            position_bias: Tensor | None = None,
            **others: Any,
        ) -> tuple[Tensor, None, Tensor]:
            if position_bias is None:
                position_bias = relative_bias(
                    self.rel_attn_embed,
                    self._relative_positions_bucket,
                    hidden_states.size(1),
                )
            found = self._attend(
                hidden_states,
                position_bias,
                attention_mask,
                self.gru_rel_pos_linear,
                self.gru_rel_pos_const,
                self.dropout,
            )
            return found, None, position_bias

    return FusedWavLMAttention


@cache
def _s3prl_class() -> type[Module]:
    from s3prl.upstream.wavlm.modules import MultiheadAttention

    class FusedMultiheadAttention(MultiheadAttention, _Gated):
        def forward(
            self: Any,
            query: Tensor,  # (frames, batch, features)
            key_padding_mask: Tensor | None = None,
            position_bias: Tensor | None = None,
            **others: Any,
        ) -> tuple[Tensor, None, Tensor]:
            hidden, content = query.transpose(0, 1), None
            if position_bias is None:
                position_bias = relative_bias(
                    self.relative_attention_bias,
                    self._relative_positions_bucket,
                    len(query),
                )
            if key_padding_mask is not None:
                content = ~key_padding_mask[:, None, None]
            found = self._attend(
                hidden,
                position_bias,
                content,
                self.grep_linear,
                self.grep_a,
                self.dropout_module.p,
            )
            return found.transpose(0, 1), None, position_bias

    return FusedMultiheadAttention


def _of_s3prl(module: Any) -> type[Module] | None:
    # UniSpeech-SAT has the same class, without a bias.
    return _s3prl_class() if module.gru_rel_pos else None


#: Name of an attention class -> what gives the one that takes its place.
_FUSED: dict[str, Callable[[Any], type[Module] | None]] = {
    "transformers.models.wavlm.modeling_wavlm.WavLMAttention": (
        lambda module: _transformers_class()
    ),
    "s3prl.upstream.wavlm.modules.MultiheadAttention": _of_s3prl,
}
