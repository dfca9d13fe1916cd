"""Whether ESPnet's training, as its options have it, can be from the feature cache."""

import argparse

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.errors import name_keys
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.identity import FeatureIdentity
from espnet_ensemble.feature_cache.member import Member
from espnet_ensemble.frontend_conf import FrontendConf

# ESPnet's options that change the waveform each time that it is read.
WAVEFORM_OPTIONS = (
    "rir_scp",
    "noise_scp",
    "speech_volume_normalize",
    "data_aug_effects",
    "force_single_channel",
)


def check_training(args: argparse.Namespace) -> None:
    """Refuse training from features that are not those of the waveform that is meant.

    Args:
        args: Options of ``espnet2.bin.asr_train``. Without data of the type
            ``feature_cache``, nothing is checked.

    Raises:
        CacheError: If the upstreams have other weights or layers than those whose features
            the cache holds, an option needs the waveform, or an utterance is missing.
    """
    paths = {
        split: [
            path
            for path, _, kind in getattr(args, f"{split}_data_path_and_name_and_type")
            if kind == "feature_cache"
        ]
        for split in ("train", "valid")
    }
    if not any(paths.values()):
        return
    first = [*paths["train"], *paths["valid"]][0]
    if args.frontend != "ensemble":
        raise CacheError(
            f"{first}: features of upstreams are for the frontend ensemble, "
            f"found {args.frontend}"
        )
    options = {**vars(args), **(getattr(args, "preprocessor_conf", None) or {})}
    for option in WAVEFORM_OPTIONS:
        if options.get(option):
            raise CacheError(
                f"{option} needs the waveform in each epoch, but {first} holds features "
                "that were computed once. Train from audio; or make copies of the data "
                "with the change, as stage 2 of asr.sh does for the speed, and extract "
                "theirs"
            )
    frontends = FrontendConf.parse(args.frontend_conf).members()
    features = [FeatureIdentity.load(frontend) for frontend in frontends]
    for split in ("train", "valid"):
        for path in paths[split]:
            cache = FeatureCache(path)
            _check_members(path, cache.members, features)
            for shape_file in getattr(args, f"{split}_shape_file")[:1]:
                _check_utterances(path, cache, shape_file)


def _check_members(
    path: str, members: list[Member], features: list[FeatureIdentity]
) -> None:
    if len(members) != len(features):
        raise CacheError(
            f"{path}: expected the features of {len(features)} upstreams "
            f"(frontend_conf), found those of {len(members)}"
        )
    for member, expected in zip(members, features, strict=True):
        member.check(expected)


def _check_utterances(path: str, cache: FeatureCache, shape_file: str) -> None:
    missing = sorted(set(read_table(shape_file)).difference(cache))
    if missing:
        skipped = cache.members[0].skipped()
        reason = skipped.get(missing[0], "the extraction was of other data")
        raise CacheError(
            f"{path}: expected the utterances of {shape_file}, found no "
            f"{name_keys(missing)}: {reason}. Mend their audio and extract again, or "
            "take them out of the data directory"
        )
