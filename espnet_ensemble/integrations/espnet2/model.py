"""Trained CTC models: ESPnet's, as decoding takes them."""

import logging
from argparse import Namespace
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import humanfriendly
import torch
from espnet2.tasks.asr import ASRTask
from espnet2.text.build_tokenizer import build_tokenizer
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.decoding.vocabulary import Vocabulary
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, read_yaml
from espnet_ensemble.frames import batch_to_device, to_device
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2.packed_config import is_ensemble
from espnet_ensemble.integrations.espnet2.packed_model import weights_in
from espnet_ensemble.integrations.espnet2.unpacking import fetch_model

#: What people call them -> torch's.
DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
# What a decoder begins and ends with.
_UNSPOKEN = ("<sos/eos>", "<sos>", "<eos>", "<s>", "</s>")
# Finite, so that a probability of 0 times its logarithm is 0.
_NEVER = -1e4
# Frames that encoders subsample by 1, 2, 3, 4, 6 or 8 without a rest.
_PROBE_FRAMES = 96
# Between the same frames, computed in another order.
_TOLERANCE = 1e-4


class ESPnetCTCModel:
    """A :class:`~espnet_ensemble.decoding.model.CTCModel` around ESPnet's.

    Args:
        model: An ``ESPnetASRModel`` with nothing but CTC, in evaluation mode.
        vocabulary: What its outputs stand for.
        fs: Sample rate of the speech that it takes, in Hz.
        config: The options that it was trained with.
    """

    def __init__(self, model: Any, vocabulary: Vocabulary, fs: int, config: Namespace):
        self.model = model
        self.vocabulary = vocabulary
        self.fs = fs
        self.config = config

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._weight.device

    @torch.inference_mode()
    def log_probs(
        self, speech: Tensor, speech_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute posteriors, as any :class:`~espnet_ensemble.decoding.model.CTCModel`."""
        encoded, lengths = self.model.encode(
            batch_to_device(speech, self.device).to(self._weight.dtype),
            to_device(speech_lengths, self.device),
        )
        if isinstance(encoded, tuple):  # with what layers in the middle give
            encoded = encoded[0]
        log_probs = self.model.ctc.log_softmax(encoded).float()
        return log_probs.index_fill_(2, self._unspoken, _NEVER), lengths

    @cached_property
    def _unspoken(self) -> Tensor:
        """Tokens that no text has: of a decoder, which shares the token list."""
        found = [i for i, x in enumerate(self.vocabulary.tokens) if x in _UNSPOKEN]
        return torch.tensor(found, dtype=torch.long).to(self.device)

    @cached_property
    def frame_seconds(self) -> float:
        """Seconds from one frame of posteriors to the next: counted, in two lengths."""
        probes, hop_length = self._probes()
        longer, short = (int(self.log_probs(x[None], _length(x))[1]) for x in probes)
        hops = len(probes[0]) - len(probes[1])
        return hops * hop_length / (longer - short) / self.fs

    @cached_property
    def takes_padding(self) -> bool:
        """Whether a batch changes nothing: seen with a long and a short noise."""
        probes, _ = self._probes()
        lengths = torch.cat([_length(x) for x in probes])
        together, num_frames = self.log_probs(
            pad_sequence(probes, batch_first=True), lengths
        )
        alone, (expected,) = self.log_probs(probes[1][None], lengths[1:])
        found = together[1, : num_frames[1]]
        return bool(num_frames[1] == expected) and torch.allclose(
            found, alone[0, :expected], atol=self._tolerance
        )

    @property
    def member_names(self) -> list[str]:
        """What its frontend's upstreams are called.

        Raises:
            EnsembleError: If its frontend is not ``ensemble``.
        """
        return self._frontend_conf.member_names

    def select_members(self, names: Iterable[str]) -> None:
        """Use some upstreams of the frontend from now on; the others' features are zero.

        Args:
            names: Some of :attr:`member_names`.

        Raises:
            EnsembleError: If there is none of a name, or the frontend is not ``ensemble``.
        """
        self.model.frontend.select(self._frontend_conf.find_members(names))

    @property
    def _frontend_conf(self) -> FrontendConf:
        if not is_ensemble(vars(self.config)):
            raise EnsembleError(
                f"members: expected the frontend ensemble, found {self.config.frontend}"
            )
        return FrontendConf.parse(self.config.frontend_conf)

    @property
    def _weight(self) -> Tensor:
        return self.model.ctc.ctc_lo.weight

    @property
    def _tolerance(self) -> float:
        # Of types with fewer digits: an epsilon for each of some hundred sums.
        return max(_TOLERANCE, 100 * torch.finfo(self._weight.dtype).eps)

    def _probes(self) -> tuple[list[Tensor], int]:
        """A long and a short noise, and how many samples an item of them is.

        They are features where the frontend takes some: upstreams need not run. ESPnet's
        RNN encoders take the longest first.
        """
        frontend = self.model.frontend
        num_features = getattr(frontend, "total_size", None)
        generator = torch.Generator().manual_seed(0)
        lengths = [2 * _PROBE_FRAMES, _PROBE_FRAMES]
        if num_features is not None:
            shapes: list[tuple[int, ...]] = [(n, num_features) for n in lengths]
            hop_length = frontend.extracted_hop_length
        else:
            hop = int(getattr(frontend, "hop_length", 320))
            shapes, hop_length = [(n * hop,) for n in lengths], 1
        return [torch.randn(s, generator=generator) for s in shapes], hop_length


def load_ctc_model(
    asr_train_config: PathLike | None,
    asr_model_file: PathLike,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    token_type: str | None = None,
    bpemodel: PathLike | None = None,
) -> ESPnetCTCModel:
    """Load a trained model of ESPnet's ASR task.

    Args:
        asr_train_config: Its ``config.yaml``; None: the one beside the weights.
        asr_model_file: Its weights.
        device: Where it shall run, such as "cuda:0".
        dtype: Type that it computes in, one of :data:`DTYPES`. Frozen upstreams compute in
            the one that ``frontend_conf`` says.
        token_type: What tokens are; None: what it was trained with.
        bpemodel: SentencePiece model that joins them; None: what it was trained with.

    Raises:
        EnsembleError: If a file is missing or not what it should be, the weights are not
            of this model, or the model has more than CTC.
    """
    model_file = Path(asr_model_file)
    config = Path(asr_train_config or model_file.parent / "config.yaml")
    for path in (config, model_file):
        if not path.is_file():
            raise EnsembleError(f"{path}: expected a file, found none")
    model, args = ASRTask.build_model_from_file(config)
    _check_ctc_only(model, config)
    _load_weights(model, model_file)
    model = model.to(device=device, dtype=DTYPES[dtype]).eval()
    vocabulary = _vocabulary(model, args, token_type, bpemodel)
    return ESPnetCTCModel(model, vocabulary, _sample_rate(model, args), args)


def read_vocabulary(asr_train_config: PathLike) -> Vocabulary:
    """Read what the outputs of a trained model stand for, without the model.

    Args:
        asr_train_config: Its ``config.yaml``.

    Raises:
        EnsembleError: If that is missing, or none of ESPnet's ASR task.
    """
    config = read_yaml(asr_train_config)
    tokens, token_type = config.get("token_list"), config.get("token_type")
    if not (isinstance(tokens, list) and isinstance(token_type, str)):
        raise EnsembleError(
            f"{asr_train_config}: expected token_list and token_type, as ESPnet's ASR "
            "task writes them"
        )
    return _make_vocabulary(tokens, token_type, config.get("bpemodel"))


def download_model(model_tag: str) -> dict[str, str]:
    """Fetch a packed model from ESPnet's model zoo, or unpack a local archive.

    Args:
        model_tag: Its name, URL or path.

    Returns:
        ``asr_train_config`` and ``asr_model_file``: paths.

    Raises:
        EnsembleError: If there is none, or it is refused, see
            :func:`~.unpacking.fetch_model`.
    """
    files = fetch_model(model_tag)
    return {name: files[name] for name in ("asr_train_config", "asr_model_file")}


def _length(item: Tensor) -> Tensor:
    return torch.tensor([len(item)])


def _check_ctc_only(model: Any, config: Path) -> None:
    more = [
        name
        for name in ("decoder", "joint_network", "mlm")
        if getattr(model, name, None) is not None
    ]
    if more or getattr(model, "ctc", None) is None:
        found = f"with {more[0]}" if more else "without CTC"
        raise EnsembleError(
            f"{config}: expected a model with nothing but CTC, found one {found}; "
            "espnet2.bin.asr_inference decodes it (asr.sh: --use_espnet_inference true)"
        )


def _load_weights(model: Module, path: Path) -> None:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(weights_in(weights))
    except Exception as error:  # torch's, pickle's and zipfile's are many
        found = " ".join(str(error).split())
        raise EnsembleError(
            f"{path}: not the weights of this model: {found}"
        ) from error
    logging.getLogger(__name__).info("weights: %s", path)


def _vocabulary(
    model: Any, args: Namespace, token_type: str | None, bpemodel: PathLike | None
) -> Vocabulary:
    return _make_vocabulary(
        model.token_list,
        token_type or args.token_type,
        bpemodel or args.bpemodel,
        model.blank_id,
    )


def _make_vocabulary(
    tokens: Sequence[str],
    token_type: str,
    bpemodel: PathLike | None,
    blank_id: int = 0,
) -> Vocabulary:
    tokenizer = build_tokenizer(token_type=token_type, bpemodel=bpemodel)
    return Vocabulary(
        tokens=tuple(tokens),
        join=tokenizer.tokens2text,
        blank_id=blank_id,
        word_boundary={"char": "<space>", "bpe": "▁"}.get(token_type),
    )


def _sample_rate(model: Any, args: Namespace) -> int:
    """Of the frontend; of those that do not say, what its configuration says."""
    fs = getattr(model.frontend, "fs", None) or (args.frontend_conf or {}).get("fs")
    return humanfriendly.parse_size(str(fs or 16000))
