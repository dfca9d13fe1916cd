"""Data sets, decoded one after the other, and what is written of each."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from espnet_ensemble.decoding.decoder import Decoded, Decoder, Failed
from espnet_ensemble.decoding.model import CTCModel
from espnet_ensemble.decoding.posteriors import PosteriorWriter
from espnet_ensemble.decoding.results import Summary, write_results, write_summary
from espnet_ensemble.decoding.sources import (
    AudioFiles,
    CachedFeatures,
    Source,
    read_keys,
)
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.files import PathLike, remove_unfinished
from espnet_ensemble.frames import FrameGrid

_log = logging.getLogger(__name__)

#: In the folder of the transcripts: the posteriors, where they are kept.
POSTERIORS = "posteriors"


@dataclass(frozen=True)
class DataSet:
    """What is decoded, and where its transcripts go.

    Attributes:
        path: A ``wav.scp``, or a ``members.yaml`` of the feature cache.
        kind: ESPnet's name of the data type: "sound" or "feature_cache".
        output_dir: Folder for the transcripts.
        key_file: Names the utterances to decode; None: all.

    Raises:
        EnsembleError: If the type is another one.
    """

    path: str
    kind: str
    output_dir: str
    key_file: str | None = None

    def __post_init__(self):
        if self.kind not in ("sound", "feature_cache"):
            raise EnsembleError(
                f"{self.path}: expected the type sound or feature_cache, found "
                f"{self.kind!r}"
            )

    def open(self, model: CTCModel) -> Source:
        """Open its speech for a model.

        Raises:
            EnsembleError: If it cannot be read.
        """
        utt_ids = read_keys(self.key_file) if self.key_file else None
        if self.kind == "sound":
            return AudioFiles(self.path, model.fs, utt_ids)
        cache = FeatureCache(self.path)
        return CachedFeatures(cache, _frames_per_second(cache), utt_ids)


def decode_set(
    decoder: Decoder, model: CTCModel, data: DataSet, settings: Mapping[str, Any]
) -> Summary:
    """Decode a data set, and write what was found.

    Args:
        decoder: Decodes it.
        model: The decoder's.
        data: The data set. In its ``output_dir`` there will be what
            :func:`~espnet_ensemble.decoding.results.write_results` writes,
            ``decoding.yaml`` and, if the decoder keeps them, ``posteriors/``.
        settings: What ``decoding.yaml`` shall say besides.

    Returns:
        How it went.

    Raises:
        EnsembleError: If the set cannot be read, or as
            :meth:`espnet_ensemble.decoding.decoder.Decoder.decode` says.
    """
    output_dir = Path(data.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    remove_unfinished(output_dir)
    source = data.open(model)
    begin = time.perf_counter()
    results = _with_progress(decoder.decode(source), source, data.output_dir)
    if decoder.keeps_posteriors:
        results = _keep(results, output_dir / POSTERIORS, model)
    found = list(_logged(results, model))
    summary = Summary.of(found, time.perf_counter() - begin)
    write_results(output_dir, found, model.vocabulary)
    write_summary(output_dir, summary, settings)
    return summary


def _frames_per_second(cache: FeatureCache) -> float:
    features = [member.info.features for member in cache.members]
    grid = FrameGrid.common([x.hop_length for x in features])
    return features[0].fs / grid.hop_length


def _with_progress(
    results: Iterator[Decoded | Failed], source: Source, name: PathLike
) -> Iterator[Decoded | Failed]:
    with tqdm(
        total=sum(source.lengths.values()) / source.items_per_second,
        desc=str(name),
        unit=" s",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of speech "
        "[{elapsed}<{remaining}, {rate_noinv_fmt}]",
        disable=None,
    ) as progress:
        for result in results:
            yield result
            progress.update(source.lengths[result.utt_id] / source.items_per_second)


def _keep(
    results: Iterator[Decoded | Failed], folder: Path, model: CTCModel
) -> Iterator[Decoded | Failed]:
    tokens, seconds = model.vocabulary.tokens, model.frame_seconds
    with PosteriorWriter(folder, tokens, seconds) as writer:
        for result in results:
            if isinstance(result, Decoded) and result.log_probs is not None:
                writer.write(result.utt_id, result.log_probs)
                result = replace(result, log_probs=None)
            yield result


def _logged(
    results: Iterator[Decoded | Failed], model: CTCModel
) -> Iterator[Decoded | Failed]:
    for result in results:
        if isinstance(result, Decoded):
            text = model.vocabulary.to_text(result.hypotheses[0].token_ids)
            _log.info("%s: best hypo: %s", result.utt_id, text)
        yield result


def check_output_dirs(sets: Sequence[DataSet]) -> None:
    """Refuse that one set's transcripts replace another's.

    Raises:
        EnsembleError: If two sets have one folder.
    """
    folders = [Path(data.output_dir).absolute() for data in sets]
    for data, folder in zip(sets, folders, strict=True):
        if folders.count(folder) > 1:
            raise EnsembleError(
                f"--output_dir {data.output_dir}: expected one for each data set"
            )
