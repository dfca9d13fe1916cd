"""Bundles of ESPnet3's stage ``pack_model`` that work on any machine.

ESPnet3 copies the experiment's folder as it is: its ``config.yaml`` names upstreams by where
they are on this machine, or by an id that may mean other weights tomorrow; and the files of
tokens and statistics, which may not be in the bundle.
"""

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import wrapt
from omegaconf import DictConfig, OmegaConf

from espnet_ensemble.files import PathLike, read_yaml, write_yaml
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2.contents import Contents, check_given
from espnet_ensemble.integrations.espnet2.manifest import MANIFEST, Manifest
from espnet_ensemble.integrations.espnet2.members import Member
from espnet_ensemble.integrations.espnet2.packed_config import (
    ENSEMBLE_WITH_ADVICE,
    files_of,
    is_ensemble,
)
from espnet_ensemble.integrations.espnet2.packing import find_fingerprints
from espnet_ensemble.upstream import UpstreamConf


def complete_bundles(system: ModuleType) -> None:
    """Let ``pack_model`` carry local upstreams and name published ones by revision.

    Args:
        system: :mod:`espnet3.systems.base.system`.
    """
    wrapt.wrap_function_wrapper(system, "BaseSystem.pack_model", _pack_model)


def allow_decoding(inference_model: ModuleType) -> None:
    """Let bundles decode with :class:`~.inference.CTCSpeech2Text` without being trusted.

    ESPnet3 builds what a bundle names only where that is its own; who has imported this
    package trusts it as well, and that class runs nothing of what a bundle holds.

    Args:
        inference_model: :mod:`espnet3.publication.inference_model`.
    """
    from espnet_ensemble.integrations.espnet3.inference import TARGETS

    vars(inference_model)["_ALLOWED_TARGET_PREFIXES"] += (TARGETS,)


def _pack_model(pack, system, args, kwargs):
    out_dir = pack(*args, **kwargs)
    training = system.training_config
    if is_ensemble(training.model):
        inference = system.inference_config
        weights = inference and OmegaConf.select(inference, "model.asr_model_file")
        complete_bundle(out_dir, training, weights)
    return out_dir


def complete_bundle(
    out_dir: PathLike, training: DictConfig, weights: PathLike | None
) -> None:
    """Add what another machine needs to a bundle, and name it so.

    Args:
        out_dir: The bundle.
        training: The training configuration that it was made with.
        weights: Those of the model that it decodes with; None: it does not say.

    Raises:
        EnsembleError: If an upstream is missing, or is not the one that the model was
            trained over.
    """
    out_dir = Path(out_dir)
    plain = OmegaConf.to_container(training.model.frontend_conf, resolve=True)
    conf = cast("dict[str, Any]", plain)
    packed = dict(conf)
    download_dir = packed.pop("download_dir", None)
    contents = Contents()
    members = [
        Member.add(UpstreamConf.parse(entry), contents, download_dir, bundle=False)
        for entry in conf["upstreams"]
    ]
    contents.check()
    packed["upstreams"] = [
        member.entry(entry)
        for entry, member in zip(conf["upstreams"], members, strict=True)
    ]
    fingerprints = find_fingerprints(weights, len(members))
    manifest = Manifest(
        fs=FrontendConf.parse(packed).fs,
        upstreams=tuple(
            member.describe(expected)
            for member, expected in zip(members, fingerprints, strict=True)
        ),
    )
    config_file = out_dir / _inside(Path(training.exp_dir), training) / "config.yaml"
    config = _portable(read_yaml(config_file), contents)
    for folder in contents.folders:  # of the same name, from a former state
        shutil.rmtree(out_dir / folder, ignore_errors=True)
    contents.lay_out(out_dir)
    named = {"frontend": ENSEMBLE_WITH_ADVICE, "frontend_conf": packed}
    write_yaml(config_file, {**config, **named})
    training_file = out_dir / "conf" / "training.yaml"
    content = read_yaml(training_file)
    write_yaml(training_file, {**content, "model": {**content["model"], **named}})
    write_yaml(out_dir / MANIFEST, manifest.to_dict())


def _inside(path: Path, training: DictConfig) -> Path:
    """A path in the recipe, as it is in the bundle."""
    root = Path(training.recipe_dir).resolve()
    return (root / path).resolve().relative_to(root)


def _portable(config: dict[str, Any], contents: Contents) -> dict[str, Any]:
    """What ESPnet's decoding reads, with the tokens in it and the files in the bundle."""
    for option, file in files_of(config).items():
        check_given([(option, file)])
        contents.add(file)
    renamed: dict[str, Any] = {
        key: contents.rename(config[key])
        for key in ("bpemodel", "non_linguistic_symbols", "normalize_conf")
        if key in config
    }
    tokens = config["token_list"]
    if isinstance(tokens, str):
        lines = Path(tokens).read_text(encoding="utf-8").splitlines()
        renamed["token_list"] = [line.rstrip() for line in lines]
    return {**config, **renamed}
