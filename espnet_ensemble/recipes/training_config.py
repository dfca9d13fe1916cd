"""Training configurations: another frontend in place of theirs, and names by upstreams."""

import argparse
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, check_keys, read_yaml, write_yaml
from espnet_ensemble.frontend_conf import FrontendConf, parse_fs
from espnet_ensemble.recipes.options import frontend_arguments


@dataclass(frozen=True)
class TrainingConfig:
    """What ``espnet2.bin.asr_train --config`` reads.

    Attributes:
        stem: Name of the file that it is from, without suffix; of a link, that of the file
            it leads to.
        content: Its keys and values.

    Example:
        >>> conf = {"upstreams": ["upstreams/wavlm"], "fusion": "sum"}
        >>> config = TrainingConfig("train_asr_ctc", {"frontend": "default"})
        >>> config.with_frontend({"frontend": "ensemble", "frontend_conf": conf}).name
        'train_asr_ctc_wavlm_sum'
    """

    stem: str
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: PathLike) -> "TrainingConfig":
        """Read a YAML file.

        Raises:
            EnsembleError: If there is none, or it has no keys and values.
        """
        # conf/train_asr.yaml is a link, for whoever knows no other name.
        return cls(Path(path).resolve().stem, read_yaml(path))

    def frontend_conf(self) -> FrontendConf | None:
        """What the configuration says of the frontend; None if that is not ``ensemble``.

        Raises:
            EnsembleError: If ``frontend_conf`` is wrong.
        """
        if self.content.get("frontend") != "ensemble":
            return None
        return FrontendConf.parse(self.content.get("frontend_conf") or {})

    @property
    def frontend_tag(self) -> str:
        """What tells experiments with this frontend from others; "" if not ``ensemble``.

        Raises:
            EnsembleError: If ``frontend_conf`` is wrong.
        """
        conf = self.frontend_conf()
        return conf.tag if conf else ""

    @property
    def name(self) -> str:
        """Name of the configuration, which experiments are called by: stem and frontend.

        Raises:
            EnsembleError: If ``frontend_conf`` is wrong.
        """
        return "_".join(filter(None, [self.stem, self.frontend_tag]))

    def with_frontend(self, frontend: Mapping[str, Any]) -> "TrainingConfig":
        """The same configuration with another frontend.

        Args:
            frontend: ``frontend`` and, where it has options, ``frontend_conf``.
        """
        content = {k: v for k, v in self.content.items() if k != "frontend_conf"}
        return replace(self, content={**content, **frontend})

    def with_upstreams(
        self, upstreams: Sequence[str | dict[str, Any]]
    ) -> "TrainingConfig":
        """The same configuration with other upstreams; the frontend's other options stay.

        A frontend other than ``ensemble`` gives way to it, with its options.

        Args:
            upstreams: Entries of ``upstreams`` in ``frontend_conf``.

        Example:
            >>> config = TrainingConfig("train", {"frontend": "default"})
            >>> config.with_upstreams(["wavlm_base"]).content["frontend_conf"]
            {'upstreams': ['wavlm_base']}
        """
        ours = self.content.get("frontend") == "ensemble"
        conf = (self.content.get("frontend_conf") or {}) if ours else {}
        changed = {**conf, "upstreams": list(upstreams)}
        content = {**self.content, "frontend": "ensemble", "frontend_conf": changed}
        return replace(self, content=content)

    @property
    def untagged(self) -> dict[str, Any]:
        """What is not default of the frontend, and :attr:`frontend_tag` leaves out.

        Raises:
            EnsembleError: If ``frontend_conf`` is wrong.
        """
        conf = self.frontend_conf()
        return conf.untagged if conf else {}

    @property
    def feats_tag(self) -> str:
        """What tells the folder of features on disk from others of the same upstreams.

        It is "" unless options decide them that the cache's own names leave out.

        Raises:
            EnsembleError: If ``frontend_conf`` is wrong.
        """
        conf = self.frontend_conf()
        members = [member.untagged for member in conf.members()] if conf else []
        # The same for one upstream and for several with the same options.
        left_out = {json.dumps(m, sort_keys=True, default=str) for m in members if m}
        return hash_tag({"members": sorted(left_out)} if left_out else {})

    def with_fs(self, fs: str) -> "TrainingConfig":
        """The same configuration for speech at another sample rate, if it is another.

        Args:
            fs: The sample rate, such as "16k".

        Raises:
            EnsembleError: If it is none, or ``frontend_conf`` is wrong.
        """
        conf = self.frontend_conf()
        if conf is None or conf.fs == parse_fs(fs):
            return self
        return self._with_frontend_conf({**self.content["frontend_conf"], "fs": fs})

    def with_arguments(self, words: Sequence[str]) -> "TrainingConfig":
        """The same configuration with what options of ``asr_train`` say of the frontend.

        Args:
            words: The options and their values; those about anything else stay out.

        Raises:
            EnsembleError: If ``frontend_conf`` is wrong.

        Example:
            >>> config = TrainingConfig("train", {"frontend": "ensemble"})
            >>> words = ["--max_epoch", "3", "--frontend_conf", "fusion=sum"]
            >>> config.with_arguments(words).content["frontend_conf"]
            {'fusion': 'sum'}
        """
        parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
        parser.add_argument("--frontend", default=self.content.get("frontend"))
        before = self.content.get("frontend_conf") or {}
        parser.add_argument(
            "--frontend_conf", action=NestedDictAction, default=deepcopy(before)
        )
        try:
            given = parser.parse_args(frontend_arguments(words))
        except (argparse.ArgumentError, yaml.YAMLError) as error:
            raise EnsembleError(f"--asr_args: {error}") from error
        if given.frontend != self.content.get("frontend"):
            content = {**self.content, "frontend": given.frontend}
            return replace(self, content=content)._with_frontend_conf(
                given.frontend_conf
            )
        if given.frontend_conf == before:
            return self
        return self._with_frontend_conf(given.frontend_conf)

    def _with_frontend_conf(self, conf: Mapping[str, Any]) -> "TrainingConfig":
        return replace(self, content={**self.content, "frontend_conf": conf})

    def write(self, folder: PathLike) -> Path:
        """Write the configuration, unless it is there as it is.

        A file that did not change keeps its time.

        Args:
            folder: Where to; it is made if it is not there.

        Returns:
            ``folder/<name>.yaml``, with a hash of what the name leaves out.
        """
        path = Path(folder, f"{self.name}{hash_tag(self.untagged)}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or read_yaml(path) != self.content:
            write_yaml(path, self.content)
        return path


def read_frontend(path: PathLike) -> dict[str, Any]:
    """Read a file of ``conf/frontends``.

    Returns:
        ``frontend`` and ``frontend_conf``.

    Raises:
        EnsembleError: If it is missing, is no YAML, or has other keys.
    """
    frontend = read_yaml(path)
    check_keys(str(path), frontend, ["frontend"], ["frontend_conf"])
    return frontend


def read_training_config(
    path: PathLike,
    frontend_config: PathLike | None = None,
    upstreams: Sequence[str] = (),
) -> TrainingConfig:
    """Read a training configuration, with another frontend where one is given.

    Args:
        path: The configuration.
        frontend_config: File with ``frontend`` and ``frontend_conf``.
        upstreams: Names in place of those of that file, or of the configuration.

    Raises:
        EnsembleError: If a file is missing or wrong. The message names it.
    """
    config = TrainingConfig.read(path)
    if frontend_config:
        config = config.with_frontend(read_frontend(frontend_config))
    if upstreams:
        config = config.with_upstreams(upstreams)
    try:
        config.frontend_conf()
    except EnsembleError as error:
        raise EnsembleError(f"{frontend_config or path}: {error}") from error
    return config


def hash_tag(untagged: Mapping[str, Any]) -> str:
    """What tells names apart that leave something out; "" if they leave out nothing.

    Example:
        >>> hash_tag({}), hash_tag({"fs": 8000})
        ('', '_f80636')
    """
    if not untagged:
        return ""
    text = json.dumps(untagged, sort_keys=True, default=str)
    return f"_{sha256(text.encode()).hexdigest()[:6]}"
