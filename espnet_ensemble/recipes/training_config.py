"""Training configurations: another frontend in place of theirs, and names by upstreams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, check_keys, read_yaml, write_yaml
from espnet_ensemble.frontend_conf import FrontendConf


@dataclass(frozen=True)
class TrainingConfig:
    """What ``espnet2.bin.asr_train --config`` reads.

    Attributes:
        stem: Name of the file that it is from, without suffix.
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
        return cls(Path(path).stem, read_yaml(path))

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

    def write(self, folder: PathLike) -> Path:
        """Write the configuration, unless it is there as it is.

        A file that did not change keeps its time.

        Args:
            folder: Where to; it is made if it is not there.

        Returns:
            ``folder/<name>.yaml``.
        """
        path = Path(folder, f"{self.name}.yaml")
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
