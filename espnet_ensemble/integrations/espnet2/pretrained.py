"""A trained model, whatever it is given as: an experiment, an archive, a hub's id."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from espnet_ensemble.decoding.beam_search import (
    SEARCH_OPTIONS,
    BeamConf,
    BeamSearch,
    wants_beam,
)
from espnet_ensemble.decoding.decoder import BATCH_SECONDS, DecodeConf
from espnet_ensemble.decoding.long_audio import LongAudioConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, read_yaml, working_directory
from espnet_ensemble.integrations.espnet2.manifest import Manifest
from espnet_ensemble.integrations.espnet2.model import download_model, load_ctc_model
from espnet_ensemble.integrations.espnet2.packed_model import (
    META,
    check_unpacked_model,
    listed_files,
)
from espnet_ensemble.integrations.espnet2.training_lengths import mean_utt_seconds
from espnet_ensemble.serving.transcriber import Transcriber

_log = logging.getLogger(__name__)

#: The checkpoint that recipes decode with, unless they are told otherwise.
DEFAULT_CHECKPOINT = "valid.cer_ctc.ave.pth"
_FILE_OPTIONS = {"ngram_file", "lexicon", "hotwords"}
_PUBLISHED = re.compile(r"https?://\S+|[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class ModelFiles:
    """Where a trained model is, and how it decodes.

    Attributes:
        asr_train_config: Its ``config.yaml``.
        asr_model_file: Its weights.
        root: Folder that relative paths in the configuration, and in the options, are from.
        options: Those of ``decode`` that its transcripts were made with.
        decoding: Where these were found; None: nowhere, they are the default.
    """

    asr_train_config: Path
    asr_model_file: Path
    root: Path
    options: Mapping[str, Any]
    decoding: Path | None = None


def pretrained(
    model: "PathLike | ModelFiles",
    device: str | torch.device | None = None,
    dtype: str = "float32",
    conf: DecodeConf | None = None,
    **options: Any,
) -> Transcriber:
    """Load a trained model, to transcribe recordings with it.

    Of an experiment, it is the checkpoint that stage 12 has decoded with last, and the
    search that it did; both are logged.

    Args:
        model: An experiment's folder (``exp/asr_...``), an archive that stage 14 made, or
            a model's name on the Hugging Face hub or in ESPnet's model zoo; or what
            :func:`find_model` has found.
        device: Where it shall run, such as "cuda:0"; None: on a GPU if there is one.
        dtype: Type that it computes in, such as "bfloat16".
        conf: Sizes of batches, and how long audio is cut; None: what fits the device, and
            the utterances that the model was trained on.
        options: What the search shall do otherwise: options of ``decode``, such as
            ``ngram_file="lm.arpa"``, of
            :data:`espnet_ensemble.decoding.beam_search.SEARCH_OPTIONS`.

    Raises:
        EnsembleError: If there is no such model, or it cannot be used, or an option is wrong.
    """
    given = search_options(options)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    files = model if isinstance(model, ModelFiles) else find_model(model)
    with working_directory(files.root):
        loaded = load_ctc_model(
            files.asr_train_config, files.asr_model_file, device, dtype
        )
        loaded.vocabulary.to_text([])  # a SentencePiece model is read at its first use
        search = make_search(loaded, {**_defaults(files, given), **given})
    found = f"as {files.decoding} says" if files.decoding else "by default"
    kind = search.name if search else "greedy"
    _log.info("search: %s, %s", kind, "as asked for" if given else found)
    folder = files.asr_model_file.parent if isinstance(model, ModelFiles) else model
    name = Path(os.path.abspath(folder)).name
    return Transcriber(loaded, name, search, conf or _decode_conf(files, device))


def _decode_conf(files: ModelFiles, device: torch.device) -> DecodeConf:
    usual = LongAudioConf()
    seconds = mean_utt_seconds(files.asr_train_config) or usual.segment_seconds
    long_audio = LongAudioConf.of(seconds)
    return DecodeConf(BATCH_SECONDS[device.type], long_audio=long_audio)


def search_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What options of ``decode`` mean: a beam, if there are any.

    Args:
        options: Of :data:`espnet_ensemble.decoding.beam_search.SEARCH_OPTIONS`; None: not
            given.

    Raises:
        EnsembleError: If one is unknown or wrong.
    """
    unknown = sorted(set(options) - set(SEARCH_OPTIONS))
    if unknown:
        known = ", ".join(SEARCH_OPTIONS)
        raise EnsembleError(f"{unknown[0]}: expected one of {known}")
    given = {name: value for name, value in options.items() if value is not None}
    BeamConf.of(given)  # complains before the model is loaded
    files = {n: os.path.abspath(given[n]) for n in _FILE_OPTIONS & given.keys()}
    # All of them are about a beam.
    return {"search": "beam", **given, **files} if given else {}


def _defaults(files: ModelFiles, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model's own options, unless they are for a search that is not wanted."""
    return {} if given.get("search") == "greedy" else files.options


def make_search(model: Any, options: Mapping[str, Any]) -> BeamSearch | None:
    """Make what options of ``decode`` ask for.

    Args:
        model: A :class:`~espnet_ensemble.decoding.model.CTCModel`.
        options: Of :data:`espnet_ensemble.decoding.beam_search.SEARCH_OPTIONS`.

    Returns:
        A beam search, or None where the best path is asked for.

    Raises:
        EnsembleError: If an option is wrong.
    """
    if not wants_beam(options):
        return None
    vocabulary = model.vocabulary
    conf = BeamConf.of(options)
    return BeamSearch(vocabulary.tokens, conf, blank_id=vocabulary.blank_id)


def find_model(model: PathLike) -> ModelFiles:
    """Find the files of a trained model; fetch and unpack them where need be.

    Args:
        model: As :func:`pretrained` takes it.

    Raises:
        EnsembleError: If there is none.
    """
    folder = Path(os.path.abspath(model))
    if (folder / META).is_file():
        check_unpacked_model(folder)
        return _packed(listed_files(folder))
    if folder.is_dir():
        return _experiment(folder)
    if not folder.is_file() and not _PUBLISHED.fullmatch(os.fspath(model)):
        raise EnsembleError(
            f"{model}: expected an experiment's folder, an archive, or the id of a model on "
            "the Hugging Face hub (user/model), found nothing of that name"
        )
    return _packed(download_model(os.fspath(model)))


def _packed(files: Mapping[str, str]) -> ModelFiles:
    config, weights = (
        Path(files[name]) for name in ("asr_train_config", "asr_model_file")
    )
    root = next((x for x in config.parents if (x / META).is_file()), config.parent)
    manifest = Manifest.read(root)
    if manifest is None or manifest.decoding is None:
        return ModelFiles(config, weights, root, {})
    decoding = root / manifest.decoding
    options = _search_options(read_yaml(decoding))
    for name in _FILE_OPTIONS & options.keys():
        if root not in Path(os.path.abspath(root / options[name])).parents:
            raise EnsembleError(
                f"{decoding}: {name}: expected a file of the archive, found "
                f"{options[name]!r}"
            )
    return ModelFiles(config, weights, root, options, decoding)


def _search_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a decoding configuration that are about the search."""
    given = {name: config.get(name) for name in SEARCH_OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    BeamConf.of(given)
    return given


def _experiment(folder: Path) -> ModelFiles:
    config = folder / "config.yaml"
    if not config.is_file():
        raise EnsembleError(
            f"{folder}: expected config.yaml (an experiment, exp/asr_...) or meta.yaml (an "
            "unpacked archive), found neither"
        )
    root = _recipe(folder, read_yaml(config))
    for path in sorted(folder.rglob("decoding.yaml"), key=_time, reverse=True):
        decoding = read_yaml(path)
        weights = folder / Path(decoding.get("asr_model_file") or "").name
        # Others are no stage 12's, or try what the model does without some upstreams.
        if weights.is_file() and "members" not in decoding:
            options = _search_options(decoding.get("inference_config") or {})
            return ModelFiles(config, weights, root, options, path)
    return ModelFiles(config, _checkpoint(folder), root, {})


def _checkpoint(folder: Path) -> Path:
    averaged = sorted(folder.glob("valid*.ave.pth"))
    averaged += sorted(folder.glob("valid*.ave_*best.pth"))
    for path in (folder / DEFAULT_CHECKPOINT, *averaged):
        if path.is_file():
            return path
    raise EnsembleError(
        f"{folder}: expected a checkpoint such as {DEFAULT_CHECKPOINT} (stage 11 makes it), "
        "found none"
    )


def _recipe(folder: Path, config: Mapping[str, Any]) -> Path:
    """The folder that an experiment was started in, wherever that is now."""
    output_dir = Path(config.get("output_dir") or "")
    depth = len(output_dir.parts)
    if depth and folder.parts[-depth:] == output_dir.parts:
        return folder.parents[depth - 1]
    return Path.cwd()


def _time(path: Path) -> float:
    return path.stat().st_mtime
