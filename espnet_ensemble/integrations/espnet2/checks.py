"""Whether ESPnet's training, as its options have it, can be from the feature cache."""

import argparse
from dataclasses import replace

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.extract import describe, member_confs
from espnet_ensemble.feature_cache.store import (
    INFO,
    CacheError,
    name_keys,
    read_combination,
    read_skipped,
)

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
    confs = member_confs(args.frontend_conf)
    # The storage is the cache's own business.
    infos = [describe(conf, storage="") for conf in confs]
    for split in ("train", "valid"):
        for path in paths[split]:
            _check_members(path, infos)
            _check_utterances(path, getattr(args, f"{split}_shape_file"))


def _check_members(path: str, infos: list) -> None:
    folders = read_combination(path)
    if len(folders) != len(infos):
        raise CacheError(
            f"{path}: expected the features of {len(infos)} upstreams (frontend_conf), "
            f"found those of {len(folders)}"
        )
    for folder, info in zip(folders, infos):
        theirs = info.read(folder / INFO)
        replace(info, storage=theirs.storage).check(folder / INFO)


def _check_utterances(path: str, shape_files: list[str]) -> None:
    cache = FeatureCache(path)
    for shape_file in shape_files[:1]:
        missing = sorted(set(read_table(shape_file)).difference(cache))
        if missing:
            skipped = read_skipped(read_combination(path)[0] / "skipped")
            reason = skipped.get(missing[0], "the extraction was of other data")
            raise CacheError(
                f"{path}: expected the utterances of {shape_file}, found no "
                f"{name_keys(missing)}: {reason}. Mend their audio and extract again, or "
                "take them out of the data directory"
            )
