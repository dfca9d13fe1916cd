#!/usr/bin/env python3
"""Put a frontend into a training configuration, and name the result by its upstreams."""

import argparse
import os
from pathlib import Path
from typing import Any

import yaml

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.frontend_conf import FrontendConf


class ConfigError(EnsembleError):
    """A configuration file is not what it should be."""


def set_frontend(
    config: dict[str, Any],
    frontend_config: dict[str, Any] | None = None,
    upstreams: list[str] | None = None,
) -> dict[str, Any]:
    """Swap the frontend of a training configuration.

    Args:
        config: As ``espnet2.bin.asr_train --config`` reads it.
        frontend_config: ``frontend`` and ``frontend_conf`` in place of its own.
        upstreams: Names in place of those in ``frontend_conf``; its other options stay.

    Returns:
        A copy.

    Example:
        >>> set_frontend({"frontend": "default"}, upstreams=["wavlm_base"])
        {'frontend': 'ensemble', 'frontend_conf': {'upstreams': ['wavlm_base']}}
    """
    config = dict(config)
    if frontend_config is not None:
        config.pop("frontend_conf", None)
        config.update(frontend_config)
    if upstreams:
        # Another frontend's options mean nothing to this one.
        ours = config.get("frontend") == "ensemble"
        conf = (config.get("frontend_conf") or {}) if ours else {}
        config["frontend"] = "ensemble"
        config["frontend_conf"] = {**conf, "upstreams": list(upstreams)}
    return config


def frontend_tag(config: dict[str, Any]) -> str:
    """What tells experiments with this frontend from those with others, for folder names.

    Returns:
        The upstreams' names and what is not default of the rest; "" for other frontends.

    Raises:
        ValueError: If an entry of ``upstreams`` is wrong.

    Example:
        >>> upstreams = ["upstreams/wavlm", {"name": "facebook/hubert-base", "layer": 8}]
        >>> frontend_tag(
        ...     {
        ...         "frontend": "ensemble",
        ...         "frontend_conf": {"upstreams": upstreams, "fusion": "sum"},
        ...     }
        ... )
        'wavlm_hubert-base-layer8_sum'
    """
    if config.get("frontend") != "ensemble":
        return ""
    return FrontendConf.parse(config.get("frontend_conf") or {}).tag


def read_config(path: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: If there is no such file, or it holds something else.
    """
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: expected keys and values, found {config!r}")
    return config


def make_config(args: argparse.Namespace) -> Path:
    """Write the configuration.

    Returns:
        The file: ``<name of asr_config>_<tag of the frontend>.yaml``.

    Raises:
        ConfigError: If a file is wrong.
    """
    frontend = None
    if args.frontend_config:
        frontend = read_config(args.frontend_config)
        if "frontend" not in frontend or set(frontend) - {"frontend", "frontend_conf"}:
            raise ConfigError(
                f"{args.frontend_config}: expected the keys frontend and frontend_conf, "
                f"found {', '.join(frontend)}"
            )
    config = set_frontend(read_config(args.asr_config), frontend, args.upstreams)
    try:
        tag = frontend_tag(config)
    except ValueError as error:
        source = args.frontend_config or args.asr_config
        raise ConfigError(f"{source}: {error}") from error
    name = "_".join(filter(None, [Path(args.asr_config).stem, tag]))
    path = Path(args.output_dir, f"{name}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config, sort_keys=False)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    return path


def get_parser() -> argparse.ArgumentParser:
    """Options of ``train_config``."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_ensemble.bin.train_config", description=__doc__
    )
    parser.add_argument("--asr_config", required=True, help="training configuration")
    parser.add_argument(
        "--frontend_config", help="file with frontend and frontend_conf to use instead"
    )
    parser.add_argument(
        "--upstreams",
        type=str.split,
        help="names of upstreams to use instead, separated by spaces",
    )
    parser.add_argument("--output_dir", required=True, help="where to write the result")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Write the configuration, and print its path."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    try:
        print(make_config(args))
    except ConfigError as error:
        parser.exit(1, f"train_config: {error}\n")


if __name__ == "__main__":
    main()
