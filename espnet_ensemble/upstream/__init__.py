"""Frozen SSL speech encoders, from S3PRL or transformers, behind one interface."""

import difflib
import os
from dataclasses import dataclass, fields
from typing import Any, Dict, Optional, Union

from espnet_ensemble.layers import Layer
from espnet_ensemble.upstream.base import Upstream, UpstreamError
from espnet_ensemble.upstream.names import CHECKPOINTS

__all__ = ["Upstream", "UpstreamConf", "UpstreamError", "load_upstream"]


@dataclass(frozen=True)
class UpstreamConf:
    """One entry of ``upstreams`` in ``frontend_conf``.

    Attributes:
        name: A name of S3PRL's hub; or, for transformers, a hub id (with a slash) or a
            local folder.
        layer: "last", an index, "weighted_sum" over all layers, or a list of indices for
            the weighted sum over those.
        path_or_url: Checkpoint, for the S3PRL names that need one.
        extra_conf: Further arguments of the S3PRL name.
    """

    name: str
    layer: Layer = "last"
    path_or_url: Optional[str] = None
    extra_conf: Optional[Dict[str, Any]] = None

    @classmethod
    def parse(cls, entry: Union[str, Dict[str, Any]]) -> "UpstreamConf":
        """Read an entry as YAML gives it: a name, or a mapping.

        Raises:
            ValueError: If the entry has no name, or a key that does not exist.

        Example:
            >>> UpstreamConf.parse("wavlm_base").layer
            'last'
            >>> UpstreamConf.parse({"name": "wavlm_base", "layer": 8}).layer
            8
        """
        if isinstance(entry, str):
            return cls(entry)
        known = [field.name for field in fields(cls)]
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise ValueError(
                f"upstreams: expected a name, or a mapping with name, got {entry!r}"
            )
        for key in entry:
            if key not in known:
                raise ValueError(
                    f"upstreams: unknown key {key!r} in {entry}; "
                    f"expected {', '.join(known)}"
                )
        return cls(**entry)


def load_upstream(conf: UpstreamConf, download_dir: Optional[str] = None) -> Upstream:
    """Load an upstream with the library that its name belongs to.

    Args:
        conf: What to load.
        download_dir: Where to keep what is downloaded; None: the library's default.

    Raises:
        UpstreamError: If there is no such upstream or it cannot be fetched or used.
        ValueError: If there is no such layer.
    """
    # Each loader is imported where it is used: transformers takes seconds, and so do
    # S3PRL's modules.
    if "/" not in conf.name:
        from espnet_ensemble.upstream.s3prl import hub_entries, load_s3prl

        if conf.name in hub_entries():
            return load_s3prl(
                conf.name, conf.layer, conf.path_or_url, conf.extra_conf, download_dir
            )
        if not os.path.isdir(conf.name):
            raise UpstreamError(_unknown(conf.name, list(hub_entries())))
    for option in ("path_or_url", "extra_conf"):
        if getattr(conf, option) is not None:
            raise UpstreamError(
                f"upstream {conf.name!r}: {option} is for names of S3PRL's hub; here the "
                "id or folder is the name itself"
            )
    is_path = conf.name.startswith((".", "/")) or conf.name.count("/") > 1
    if is_path and not os.path.isdir(conf.name):
        raise UpstreamError(f"upstream {conf.name!r}: there is no such folder")
    from espnet_ensemble.upstream.huggingface import load_huggingface

    return load_huggingface(conf.name, conf.layer, download_dir)


def _unknown(name: str, s3prl_names: list) -> str:
    ids = [checkpoint.huggingface for checkpoint in CHECKPOINTS]
    close = difflib.get_close_matches(name, s3prl_names, n=5)
    close += [i for i in ids if difflib.get_close_matches(name, [i.split("/")[1]])]
    close = f" Close names: {', '.join(close)}." if close else ""
    return (
        f"unknown upstream {name!r}: neither a name of S3PRL's hub nor a folder.{close} "
        "For the Hugging Face hub, give the id with its owner (microsoft/wavlm-large)."
    )
