"""The frontend ``ensemble``: an :class:`~espnet_ensemble.ensemble.Ensemble` for ESPnet."""

from collections.abc import Sequence
from typing import Any

from espnet2.asr.frontend.abs_frontend import AbsFrontend
from torch import Tensor

from espnet_ensemble.ensemble import Ensemble, check_batch, read_lengths
from espnet_ensemble.frames import padding_mask
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.upstream.registry import load_upstream


class EnsembleFrontend(Ensemble, AbsFrontend):
    """An ensemble that is made of what a YAML file says, and also takes features.

    What it computes, and what frozen means, is in
    :class:`espnet_ensemble.ensemble.Ensemble`.

    Args:
        upstreams: For each upstream its name, or a mapping with ``name`` and the other
            options of :class:`~espnet_ensemble.upstream.registry.UpstreamConf`.
        fusion: How to combine them, one of ``espnet_ensemble.fusion.FUSIONS``.
        fusion_conf: Options of the fusion.
        normalize: What brings every hidden state to one scale first, one of
            ``espnet_ensemble.normalization.NORMALIZATIONS``.
        feature_mask: Options of :class:`~espnet_ensemble.masking.BandMask`, which hides some
            of each upstream's features in training; None: all are seen.
        member_dropout: Probability of hiding a whole upstream of an utterance in training;
            one stays in any case.
        member_warmup: Options of :class:`~espnet_ensemble.masking.MemberWarmup`, which hides
            all upstreams but one in the first batches of training.
        frame_rate: Frames per second that all upstreams are brought to; None: the lowest
            common multiple of theirs, by repetition.
        fs: Sample rate of the speech, in Hz (or "16k"). Speech at another rate than the
            upstreams' is resampled.
        frozen: Whether upstreams keep their weights. False makes them ordinary
            submodules that train with the model.
        dtype: Type that frozen upstreams compute in: float32, bfloat16, float16. The
            features are float32 in any case.
        download_dir: Where to keep downloaded checkpoints; None: the default of S3PRL
            or transformers.
        feature_cache: Folder of features that training takes in place of the audio, see
            :mod:`.before_training`; the frontend itself takes both.

    Attributes:
        conf: What the options mean.

    Raises:
        EnsembleError: If an option is wrong; :class:`~espnet_ensemble.upstream.errors.UpstreamError`,
            one of its subclasses, if an upstream cannot be loaded.

    Example:
        >>> frontend = EnsembleFrontend(upstreams=[getfixture("tiny_wavlm")])
        >>> speech, speech_lengths = torch.rand(2, 16000), torch.tensor([16000, 8000])
        >>> feats, feats_lens = frontend(speech, speech_lengths)
        >>> feats.shape, feats_lens.tolist()
        (torch.Size([2, 49, 32]), [49, 24])
    """

    def __init__(
        self,
        upstreams: Sequence[str | dict[str, Any]],
        fusion: str = "concat",
        fusion_conf: dict[str, Any] | None = None,
        normalize: str = "none",
        feature_mask: dict[str, Any] | None = None,
        member_dropout: float = 0.0,
        member_warmup: dict[str, Any] | None = None,
        frame_rate: float | None = None,
        fs: int | str = 16000,
        frozen: bool = True,
        dtype: str = "float32",
        download_dir: str | None = None,
        feature_cache: str | None = None,
    ):
        conf = FrontendConf.parse(
            {
                "upstreams": upstreams,
                "fusion": fusion,
                "fusion_conf": fusion_conf,
                "normalize": normalize,
                "feature_mask": feature_mask,
                "member_dropout": member_dropout,
                "member_warmup": member_warmup,
                "frame_rate": frame_rate,
                "fs": fs,
                "frozen": frozen,
                "dtype": dtype,
                "download_dir": download_dir,
                "feature_cache": feature_cache,
            }
        )
        super().__init__(**conf.load_parts())
        self.conf = conf

    def forward(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the fused features of speech, or fuse features computed before.

        Args:
            speech: Waveforms in [-1, 1], (batch, samples), padded at the end; or the
                features of all upstreams, (batch, frames, features), which go straight to
                fusion: what the feature cache holds.
            speech_lengths: Samples, or frames, of each utterance, (batch,).

        Returns:
            Features, (batch, frames, output_size), zero at the padding, and the number of
            frames of each utterance, (batch,).

        Raises:
            ValueError: If a shape or a length is wrong, or a sample is not finite.
        """
        if speech.dim() != 3:
            return super().forward(speech, speech_lengths)
        if speech.size(2) != self.total_size:
            raise ValueError(
                "speech: expected mono waveforms, (batch, samples), or the upstreams' "
                f"features, (batch, frames, {self.total_size}); found "
                f"{tuple(speech.shape)}. Of multi-channel speech, choose one channel."
            )
        check_batch(speech, speech_lengths)
        read_lengths(speech, speech_lengths)
        # What is there must not reach gradients: 0 times NaN is NaN.
        padding = padding_mask(speech_lengths, speech.size(1), speech.device)
        hidden_states = self.split(speech.masked_fill(padding.unsqueeze(-1), 0))
        lens = self.fused_lens(speech_lengths)
        return self.fuse(hidden_states, speech_lengths), lens

    @property
    def member_names(self) -> list[str]:
        """What a user calls each upstream; no two are alike."""
        return self.conf.member_names

    def reload_pretrained_parameters(self) -> None:
        """Give trainable upstreams their weights back; ESPnet calls this after ``init``."""
        if self.frozen:
            return
        for upstream, conf in zip(self.upstreams, self.conf.upstreams, strict=True):
            source = load_upstream(conf, self.conf.download_dir)
            upstream.load_state_dict(source.state_dict())
