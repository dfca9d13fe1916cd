"""Whether training and decoding can be from the feature cache that options name."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch.nn import Module

from espnet_ensemble.data.streams import SortedRows, Stream, join, keys_of
from espnet_ensemble.data.tables import read_rows
from espnet_ensemble.errors import name_keys
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.dataset import (
    FeatureCache,
    combination_path,
    read_combination,
)
from espnet_ensemble.feature_cache.identity import (
    AudioStates,
    FeatureIdentity,
    check_frozen,
)
from espnet_ensemble.feature_cache.member import Member
from espnet_ensemble.files import PathLike
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend
from espnet_ensemble.integrations.espnet2.packed_config import is_ensemble
from espnet_ensemble.upstream.base import Upstream

# ESPnet's options that change the waveform each time that it is read.
WAVEFORM_OPTIONS = (
    "rir_scp",
    "noise_scp",
    "speech_volume_normalize",
    "data_aug_effects",
    "force_single_channel",
)
# Audio files that are looked at together.
_AT_ONCE = 50_000


def check_training(args: argparse.Namespace) -> None:
    """Refuse training from features that are not those of the waveform that is meant.

    Args:
        args: Options of ``espnet2.bin.asr_train``. Without data of the type
            ``feature_cache``, nothing is checked.

    Raises:
        CacheError: If an option needs the waveform, an utterance is missing, or the audio
            has changed since.
    """
    sources = list(_cached_sources(args))
    if not sources:
        return
    first = sources[0].path
    if args.frontend != "ensemble":
        raise CacheError(other_frontend(first, args.frontend))
    options = {**vars(args), **(getattr(args, "preprocessor_conf", None) or {})}
    check_options(first, options)
    check_frozen(FrontendConf.parse(args.frontend_conf))
    for source in sources:
        cache = FeatureCache(source.path)
        utt_ids: Iterable[str] = cache
        if source.shape_file is not None:
            utt_ids = Stream(_listed, source.shape_file)
            check_utterances(cache, source.path, source.shape_file, utt_ids)
        check_audio(cache, utt_ids)


def check_options(path: PathLike, options: Mapping[str, Any]) -> None:
    """Refuse options that change the waveform in each epoch.

    Args:
        path: The ``members.yaml`` of the features, or the folder that they are in.
        options: Of ESPnet's preprocessor.

    Raises:
        CacheError: If there is one.
    """
    for option in WAVEFORM_OPTIONS:
        if options.get(option):
            raise CacheError(
                f"{option} needs the waveform in each epoch, but {path} holds features "
                "that were computed once. Train from audio; or make copies of the data "
                "with the change, as stage 2 of asr.sh does for the speed, and extract "
                "theirs"
            )


def check_upstreams(args: argparse.Namespace, model: Module) -> None:
    """Refuse to train a model from features that are not those of its upstreams.

    Args:
        args: As :func:`check_training` has passed them.
        model: The model that they make, so that no upstream is loaded for this alone.

    Raises:
        CacheError: If the cache holds others.
    """
    sources = list(_cached_sources(args))
    if not sources:
        return
    check_features([source.path for source in sources], model)


def check_features(paths: Iterable[PathLike], model: Module) -> None:
    """Refuse features that are not those of a model's upstreams.

    Args:
        paths: The ``members.yaml`` of the features.
        model: A model with the frontend ``ensemble``.

    Raises:
        CacheError: If they are not.
    """
    whole, parts = features_of(model), layers_of(model)
    for path in map(Path, paths):
        members = [Member.open(folder) for folder in read_combination(path).members]
        _check_members(path, members, _as_stored(members, whole, parts), whole)


def _as_stored(
    members: list[Member],
    whole: list[FeatureIdentity],
    parts: list[list[FeatureIdentity]],
) -> list[FeatureIdentity]:
    """Of each upstream one, or one for each layer, as the members have it."""
    expected: list[FeatureIdentity] = []
    for of_all, of_layers in zip(whole, parts, strict=True):
        found = members[len(expected) :][: len(of_layers)]
        layers = [member.info.features.layers for member in found]
        is_apart = layers == [features.layers for features in of_layers]
        expected += of_layers if is_apart else [of_all]
    return expected


@dataclass(frozen=True)
class _Source:
    """Cached features that training or validation is from.

    Attributes:
        path: The ``members.yaml``.
        shape_file: Lists the utterances that are used; None: all.
    """

    path: Path
    shape_file: str | None


def _cached_sources(args: argparse.Namespace) -> Iterator[_Source]:
    for split in ("train", "valid"):
        shape_file = next(iter(getattr(args, f"{split}_shape_file")), None)
        for path, _, kind in getattr(args, f"{split}_data_path_and_name_and_type"):
            if kind != "feature_cache":
                continue
            if split == "train" and args.multiple_iterator:
                # Each part reads what its own shape files list.
                for part in sorted(Path(path).glob("split.*")):
                    yield _Source(part, shape_file and str(Path(shape_file, part.name)))
            else:
                yield _Source(Path(path), shape_file)


def check_decoding(path: PathLike, config: argparse.Namespace, model: Module) -> None:
    """Refuse to decode features that are not those of a model's upstreams.

    Args:
        path: The ``members.yaml`` of the features.
        config: The options that the model was trained with.
        model: The model.

    Raises:
        CacheError: If the cache holds others.
    """
    if not is_ensemble(vars(config)):
        raise CacheError(other_frontend(path, config.frontend))
    check_features([path], model)


def other_frontend(path: PathLike, frontend: str) -> str:
    """Say that features are of no use to a frontend."""
    return (
        f"{path}: features of upstreams are for the frontend ensemble, found {frontend}"
    )


def features_of(model: Module) -> list[FeatureIdentity]:
    """What the features of a model's upstreams are.

    Args:
        model: A model with the frontend ``ensemble``.
    """
    return [
        FeatureIdentity.of(upstream, conf) for upstream, conf in _upstreams_of(model)
    ]


def layers_of(model: Module) -> list[list[FeatureIdentity]]:
    """What the features of each layer of a model's upstreams are by themselves.

    Args:
        model: A model with the frontend ``ensemble``.
    """
    return [
        FeatureIdentity.of_layers(upstream, conf)
        for upstream, conf in _upstreams_of(model)
    ]


def _upstreams_of(model: Module) -> Iterator[tuple[Upstream, FrontendConf]]:
    """The upstreams of a model, each with a frontend that has it alone."""
    (frontend,) = (m for m in model.modules() if isinstance(m, EnsembleFrontend))
    return zip(frontend.upstreams, frontend.conf.members(), strict=True)


def _check_members(
    path: Path,
    members: list[Member],
    expected: list[FeatureIdentity],
    whole: list[FeatureIdentity],
) -> None:
    difference = _difference(members, expected)
    if difference is None:
        return
    cache_dir, storage = path.parents[3], members[0].info.storage
    names = [f"{features.tag}-{storage}" for features in whole]
    right = combination_path(cache_dir, names, path.parent.name)
    advice = f"those of this frontend_conf are in {right}"
    if right == path or not right.exists():
        advice = "extract those of this frontend_conf, and train from what that prints"
    raise CacheError(f"{path}: {difference}; {advice}")


def _difference(members: list[Member], expected: list[FeatureIdentity]) -> str | None:
    if len(members) != len(expected):
        return (
            f"expected the features of {len(expected)} upstreams (frontend_conf), found "
            f"those of {len(members)}"
        )
    found = [member.info.features for member in members]
    if _are_permuted(found, expected):
        names = ", ".join(features.tag for features in expected)
        return (
            f"expected features in the order of frontend_conf, {names}; found another"
        )
    for member, features in zip(members, expected, strict=True):
        difference = features.difference(member.info.features)
        if difference:
            return f"{features.upstream}: {member.name}: {difference}"
    return None


def _are_permuted(
    found: list[FeatureIdentity], expected: list[FeatureIdentity]
) -> bool:
    ours, theirs = (
        [(features.fingerprint, features.layers) for features in each]
        for each in (expected, found)
    )
    return ours != theirs and sorted(ours) == sorted(theirs)


def check_utterances(
    cache: FeatureCache, path: PathLike, table: PathLike, utt_ids: Iterable[str]
) -> None:
    """Refuse to train on utterances that have no features.

    Args:
        cache: The features.
        path: Their ``members.yaml``.
        table: What lists the utterances.
        utt_ids: The utterances.

    Raises:
        CacheError: If some have none. It says why.
    """
    missing = sorted(utt_id for utt_id in utt_ids if utt_id not in cache)
    if missing:
        skipped = cache.members[0].skipped()
        reason = skipped.get(missing[0], "the extraction was of other data")
        raise CacheError(
            f"{path}: expected the utterances of {table}, found no "
            f"{name_keys(missing)}: {reason}. Mend their audio and extract again, or "
            "take them out of the data directory"
        )


def check_audio(cache: FeatureCache, utt_ids: Iterable[str]) -> None:
    """Compare features with audio, as far as it is there: a cache may be without.

    Raises:
        CacheError: If the audio has changed since.
    """
    wav_scp = cache.data_dir and cache.data_dir / "wav.scp"
    if not wav_scp or not wav_scp.exists():
        return
    rows = join(SortedRows(read_rows(wav_scp)), SortedRows(utt_ids))
    while part := dict(islice(rows, _AT_ONCE)):
        cache.check_audio(AudioStates(part))


def _listed(shape_file: PathLike) -> Iterator[str]:
    return filter(None, keys_of(read_rows(shape_file)))
