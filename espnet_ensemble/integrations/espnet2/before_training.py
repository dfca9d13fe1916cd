"""What is done before ESPnet trains, whichever of its trainers does.

ESPnet has no place for it that a class, or a data type, could fill: what it makes of these knows
either the options or the data, and here, both and the model are compared.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import DEFAULT_STORAGE
from espnet_ensemble.feature_cache.dataset import combination_path
from espnet_ensemble.feature_cache.extract import ExtractConf, extract_sets
from espnet_ensemble.feature_cache.identity import check_frozen
from espnet_ensemble.feature_cache.workers import Workers
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2.checks import (
    check_options,
    check_training,
    check_upstreams,
    features_of,
)
from espnet_ensemble.integrations.espnet2.packed_config import is_ensemble
from espnet_ensemble.integrations.espnet2.resuming import check_resumed

_DATA = tuple(f"{split}_data_path_and_name_and_type" for split in ("train", "valid"))


def check(args: argparse.Namespace) -> None:
    """Refuse options that cannot be meant, before the model is built.

    Args:
        args: Options of ``espnet2.bin.asr_train``, or of another task's.

    Raises:
        EnsembleError: If an experiment would go on with other settings, or features are
            not those of the waveform that is meant.
    """
    check_resumed(args)
    check_training(args)
    cache_dir = _cache_dir(args)
    if cache_dir is None:
        return
    options = {**vars(args), **(getattr(args, "preprocessor_conf", None) or {})}
    check_options(cache_dir, options)
    check_frozen(FrontendConf.parse(args.frontend_conf))
    if args.multiple_iterator:
        raise CacheError(
            "feature_cache: expected one set for training, found several "
            "(--multiple_iterator); leave out --num_splits_asr, as features are not held "
            "in memory"
        )
    for option in _DATA:
        _find_speech(getattr(args, option, None) or [], option)


def prepare(args: argparse.Namespace, model: Module) -> None:
    """Let a model train from features, where its configuration says so.

    With ``feature_cache`` in ``frontend_conf``, those of the training and validation sets take the
    place of their audio; what is missing is extracted first.

    Args:
        args: As :func:`check` has passed them. The data are changed.
        model: The model that they make, so that no upstream is loaded for this alone.

    Raises:
        CacheError: If features are not those of the upstreams, or cannot be extracted.
    """
    cache_dir = _cache_dir(args)
    if cache_dir is not None:
        _read_features(args, cache_dir, model)
        check_training(args)
    check_upstreams(args, model)


def _cache_dir(args: argparse.Namespace) -> Path | None:
    if not is_ensemble(vars(args)) or args.collect_stats:
        return None
    cache_dir = args.frontend_conf.get("feature_cache")
    return None if cache_dir is None else Path(cache_dir)


def _read_features(args: argparse.Namespace, cache_dir: Path, model: Module) -> None:
    places = {
        option: _find_speech(getattr(args, option, None) or [], option)
        for option in _DATA
    }
    wav_scps = {option: getattr(args, option)[at][0] for option, at in places.items()}
    data_dirs = {option: Path(path).parent for option, path in wav_scps.items()}
    names = [f"{f.tag}-{DEFAULT_STORAGE}" for f in features_of(model)]
    found = {
        option: combination_path(cache_dir, names, data_dir.absolute().name)
        for option, data_dir in data_dirs.items()
    }
    if not all(path.exists() for path in found.values()):
        _extract(args.frontend_conf, set(data_dirs.values()), cache_dir, args.ngpu)
    for option, at in places.items():
        sources = list(getattr(args, option))
        sources[at] = (str(found[option]), "speech", "feature_cache")
        setattr(args, option, sources)


def _extract(
    frontend_conf: Mapping[str, Any], data_dirs: set[Path], cache_dir: Path, ngpu: int
) -> None:
    """With several processes that train, the first one extracts, and the others wait."""
    nj = len(os.sched_getaffinity(0))
    workers = Workers(nj, torch.cuda.device_count() if ngpu else 0)
    conf = ExtractConf(workers=workers)
    extract_sets(sorted(data_dirs), frontend_conf, cache_dir, conf)


def _find_speech(sources: list[tuple[str, str, str]], option: str) -> int:
    """The place of the audio among the data of ESPnet's option."""
    for place, (path, name, kind) in enumerate(sources):
        if name == "speech" and kind == "sound" and Path(path).name == "wav.scp":
            return place
    raise CacheError(
        f"--{option}: feature_cache needs the audio of a data directory, "
        f"DIR/wav.scp,speech,sound; found {sources}"
    )
