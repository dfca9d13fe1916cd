"""A trained model, by whatever name it has: an experiment, an archive, a hub's id."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from espnet_ensemble.decoding.beam_search import BeamConf, BeamSearch
from espnet_ensemble.decoding.decoder import DecodeConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, read_yaml, working_directory
from espnet_ensemble.integrations.espnet2.model import download_model, load_ctc_model
from espnet_ensemble.serving.transcriber import BATCH_SECONDS, Transcriber

_log = logging.getLogger(__name__)

#: The checkpoint that recipes decode with, unless they are told otherwise.
DEFAULT_CHECKPOINT = "valid.cer_ctc.ave.pth"


@dataclass(frozen=True)
class ModelFiles:
    """Where a trained model is.

    Attributes:
        asr_train_config: Its ``config.yaml``.
        asr_model_file: Its weights.
        root: Folder that paths in the configuration are relative to.
    """

    asr_train_config: Path
    asr_model_file: Path
    root: Path


def pretrained(
    model: PathLike,
    device: str | torch.device | None = None,
    dtype: str = "float32",
    beam: BeamConf | None = None,
    conf: DecodeConf | None = None,
) -> Transcriber:
    """Load a trained model, to transcribe recordings with it.

    Args:
        model: An experiment's folder (``exp/asr_...``), an archive that stage 14 made, or
            a model's name on the Hugging Face hub or in ESPnet's model zoo.
        device: Where it shall run, such as "cuda:0"; None: on a GPU if there is one.
        dtype: Type that it computes in, such as "bfloat16".
        beam: A beam search to find transcripts with; None: the best path.
        conf: Sizes of batches and windows; None: what fits the device.

    Raises:
        EnsembleError: If there is no such model, or it cannot be used.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    files = find_model(model)
    with working_directory(files.root):
        loaded = load_ctc_model(
            files.asr_train_config, files.asr_model_file, device, dtype
        )
    search = None
    if beam is not None:
        vocabulary = loaded.vocabulary
        search = BeamSearch(vocabulary.tokens, beam, blank_id=vocabulary.blank_id)
    conf = conf or DecodeConf(batch_seconds=BATCH_SECONDS[device.type])
    return Transcriber(loaded, Path(model).name, search, conf)


def find_model(model: PathLike) -> ModelFiles:
    """Find the files of a model, or fetch them.

    Args:
        model: As :func:`pretrained` takes it.

    Raises:
        EnsembleError: If there is none.
    """
    folder = Path(model)
    if (folder / "config.yaml").is_file():
        return _of_experiment(folder.absolute())
    files = download_model(os.fspath(model))
    config, weights = (
        Path(files[name]).absolute() for name in ("asr_train_config", "asr_model_file")
    )
    return ModelFiles(config, weights, config.parent)


def _of_experiment(folder: Path) -> ModelFiles:
    config = folder / "config.yaml"
    weights = folder / DEFAULT_CHECKPOINT
    if not weights.is_file():
        found = sorted(folder.glob("valid.*ave*.pth"))
        if not found:
            raise EnsembleError(
                f"{folder}: expected a checkpoint such as {DEFAULT_CHECKPOINT} (stage 11 "
                "makes it), found none"
            )
        weights = found[0]
    return ModelFiles(config, weights, _root(folder, read_yaml(config)))


def _root(folder: Path, config: dict) -> Path:
    """The recipe's folder, from which training was started."""
    output_dir = Path(config.get("output_dir") or "")
    depth = len(output_dir.parts)
    if not output_dir.is_absolute() and folder.parts[-depth:] == output_dir.parts:
        return folder.parents[depth - 1]
    return Path.cwd()
