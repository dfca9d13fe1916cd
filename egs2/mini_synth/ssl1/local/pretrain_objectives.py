"""What each family learns from unlabelled speech, for models of 2 million parameters.

An objective is a module: its attribute ``model`` is what is kept after pre-training, and
its ``forward(wavs, units, progress, rng)`` gives the loss and what to report of the step.
"""

from pathlib import Path

import numpy as np
import torch
from model_dir import check_nothing_missing
from pretrain_data import normalize, num_frames
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    WavLMConfig,
    WavLMModel,
)
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    _compute_mask_indices,
    _sample_negative_indices,
)

from espnet_ensemble.errors import EnsembleError

# The extractor's narrow start keeps it cheap where the frame rate is high. Layer norms
# come first, as in the families' large models.
SIZES = dict(
    conv_dim=(32, 32, 64, 96, 128, 192, 192),
    conv_bias=True,
    feat_extract_norm="layer",
    do_stable_layer_norm=True,
    hidden_size=192,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=768,
    num_conv_pos_embeddings=32,
    num_conv_pos_embedding_groups=8,
    # So few steps over so much speech overfit nothing.
    layerdrop=0.0,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    feat_proj_dropout=0.0,
)
MASK_PROB, MASK_LENGTH = 0.65, 10
_UNIT_DIM = 128
_LOGIT_SCALE = 10.0

#: What to report of a step: accuracy and so on, each a mean over frames.
Metrics = dict[str, float]


def draw_mask(batch_size: int, num_samples: int) -> np.ndarray:
    """Choose spans of frames to mask: (batch, frames), True where masked."""
    shape = (batch_size, num_frames(num_samples))
    length = min(MASK_LENGTH, shape[1] // 2)
    return _compute_mask_indices(shape, MASK_PROB, length, min_masks=2)


class ContrastiveTask(torch.nn.Module):
    """wav2vec 2.0's objective: tell a masked frame's quantized features from those of others.

    Args:
        num_negatives: Frames of the same window that each is to be told from.
    """

    def __init__(self, num_negatives: int = 25):
        super().__init__()
        config = Wav2Vec2Config(
            **SIZES,
            num_negatives=num_negatives,
            num_codevector_groups=2,
            num_codevectors_per_group=64,
            codevector_dim=128,
            proj_codevector_dim=64,
        )
        self.model: PreTrainedModel = Wav2Vec2ForPreTraining(config)

    def forward(
        self,
        wavs: Tensor,
        units: Tensor | None,
        progress: float,
        rng: np.random.Generator,
    ) -> tuple[Tensor, Metrics]:
        """Compute the loss, as in :meth:`MaskedPrediction.forward`; ``units`` is None."""
        self.model.set_gumbel_temperature(2.0 * 0.25**progress)
        mask = draw_mask(*wavs.shape)
        negatives = _sample_negative_indices(
            mask.shape, self.model.config.num_negatives, mask
        )
        mask, negatives = (
            torch.from_numpy(x).to(wavs.device) for x in (mask, negatives)
        )
        output = self.model(
            normalize(wavs), mask_time_indices=mask, sampled_negative_indices=negatives
        )
        metrics = {
            "accuracy": self._accuracy(output, mask, negatives),
            "perplexity": output.codevector_perplexity.item(),
        }
        return output.loss / mask.sum(), metrics

    @torch.no_grad()
    def _accuracy(self, output, mask: Tensor, negatives: Tensor) -> float:
        """Tell how often the right one of the candidates is the most similar."""
        states = output.projected_states[mask]
        targets = output.projected_quantized_states
        wrong = targets.flatten(0, 1)[negatives[mask].long()]
        right = F.cosine_similarity(states, targets[mask], dim=-1)
        best_wrong = F.cosine_similarity(states[:, None], wrong, dim=-1).amax(dim=1)
        return (right > best_wrong).float().mean().item()


class MaskedPrediction(torch.nn.Module):
    """HuBERT's objective: predict the units of masked frames, and less so of visible ones.

    Visible frames are easier: they count a little, so that the extractor has something to
    learn from before the model can guess what is masked.

    Args:
        num_units: Number of units.
        visible_weight: What the visible frames' loss counts.
    """

    def __init__(self, num_units: int, visible_weight: float = 0.3):
        super().__init__()
        self.model = self._make_model()
        self.project = torch.nn.Linear(self.model.config.hidden_size, _UNIT_DIM)
        self.units = torch.nn.Parameter(torch.randn(num_units, _UNIT_DIM))
        self.visible_weight = visible_weight

    def _make_model(self) -> PreTrainedModel:
        return HubertModel(HubertConfig(**SIZES))

    def _augment(self, wavs: Tensor, rng: np.random.Generator) -> Tensor:
        return wavs

    def forward(
        self,
        wavs: Tensor,
        units: Tensor | None,
        progress: float,
        rng: np.random.Generator,
    ) -> tuple[Tensor, Metrics]:
        """Compute the loss.

        Args:
            wavs: (batch, samples)
            units: (batch, frames)
            progress: How much of the training is done, 0 to 1.
            rng: For what is random here; transformers' masking uses numpy's global one.

        Returns:
            The loss, a scalar, and what to report of the step.
        """
        mask = torch.from_numpy(draw_mask(*wavs.shape)).to(wavs.device)
        wavs = normalize(self._augment(wavs, rng))
        hidden = self.model(wavs, mask_time_indices=mask).last_hidden_state
        directions = F.normalize(self.project(hidden), dim=-1)
        logits = _LOGIT_SCALE * directions @ F.normalize(self.units, dim=-1).T
        masked_loss = F.cross_entropy(logits[mask], units[mask])
        visible_loss = F.cross_entropy(logits[~mask], units[~mask])
        correct = (logits.argmax(dim=-1) == units).float()
        metrics = {
            "accuracy": correct[mask].mean().item(),
            "visible_accuracy": correct[~mask].mean().item(),
            "masked_loss": masked_loss.item(),
        }
        return masked_loss + self.visible_weight * visible_loss, metrics


class MaskedDenoising(MaskedPrediction):
    """WavLM's objective: masked prediction where half of the windows have other speech or
    noise mixed in.

    The units stay those of the clean speech, so the model learns to tell the speaker in
    front from what is behind.
    """

    def _make_model(self) -> PreTrainedModel:
        return WavLMModel(WavLMConfig(**SIZES, num_buckets=80, max_bucket_distance=200))

    def _augment(self, wavs: Tensor, rng: np.random.Generator) -> Tensor:
        return mix(wavs, rng)


def mix(wavs: Tensor, rng: np.random.Generator, probability: float = 0.5) -> Tensor:
    """Mix other speech or noise into some windows, each for at most half of its length.

    Nine in ten get a part of another window of the batch, -5 to 5 dB below;
    the others white noise, -5 to 20 dB below.

    Args:
        wavs: (batch, samples)
        rng: Decides which windows, what and where.
        probability: Share of the windows that get something.

    Returns:
        (batch, samples), a copy
    """
    mixed, (batch_size, num_samples) = wavs.clone(), wavs.shape
    for index in np.flatnonzero(rng.random(batch_size) < probability):
        length = int(rng.integers(1, num_samples // 2 + 1))
        source, target = rng.integers(num_samples - length + 1, size=2)
        if batch_size > 1 and rng.random() < 0.9:
            other = (index + rng.integers(1, batch_size)) % batch_size
            sound, snr = wavs[other, source : source + length], rng.uniform(-5, 5)
        else:
            noise = rng.standard_normal(length, dtype=np.float32)
            sound, snr = torch.from_numpy(noise).to(wavs.device), rng.uniform(-5, 20)
        gain = (wavs[index].square().mean() / (sound.square().mean() + 1e-9)).sqrt()
        mixed[index, target : target + length] += gain * 10 ** (-snr / 20) * sound
    return mixed


OBJECTIVES: dict[str, type[torch.nn.Module]] = {
    "hubert": MaskedPrediction,
    "wav2vec2": ContrastiveTask,
    "wavlm": MaskedDenoising,
}


def make_objective(
    family: str, num_units: int, init_from: Path | None = None
) -> torch.nn.Module:
    """Make a model with its family's objective.

    Args:
        family: One of :data:`OBJECTIVES`.
        num_units: Number of units; wav2vec 2.0 has none.
        init_from: A finished model, whose weights the model starts with; None: fresh ones.
            What predicts the units is always fresh.

    Raises:
        EnsembleError: If the finished model is of another kind, or lacks weights.
    """
    kind = OBJECTIVES[family]
    objective = kind() if kind is ContrastiveTask else kind(num_units)
    if init_from is not None:
        objective.model = load_finished(type(objective.model), init_from)
    return objective


def load_finished(kind: type[PreTrainedModel], folder: Path) -> PreTrainedModel:
    """Load a model that pre-training has made.

    Raises:
        EnsembleError: If it is of another kind, or lacks weights.
    """
    found = AutoConfig.from_pretrained(folder).architectures
    if found != [kind.__name__]:
        raise EnsembleError(
            f"{folder}: expected a {kind.__name__}, as local/pretrain.py makes it; found "
            f"{', '.join(found or ['no architecture in config.json'])}"
        )
    model, loading = kind.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    check_nothing_missing(folder, loading["missing_keys"])
    return model
