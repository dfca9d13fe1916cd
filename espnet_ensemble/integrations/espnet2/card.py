"""What model cards of the Hugging Face hub say of an ensemble, whoever writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2.manifest import Manifest, PackedUpstream


def front_matter(head: dict[str, Any], manifest: Manifest) -> str:
    """The hub's YAML at the beginning of a card.

    Args:
        head: Its keys, but for ``base_model``.
        manifest: What names the upstreams.
    """
    ids = [u.source for u in manifest.upstreams if u.source and "/" in u.source]
    ids = [source for source in ids if not source.startswith("http")]
    if ids:
        head = {**head, "base_model": list(dict.fromkeys(ids))}
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---"


def summary(conf: FrontendConf) -> str:
    """Such as "2 frozen self-supervised upstreams (fusion: concat)"."""
    frozen = "frozen" if conf.frozen else "trained"
    options = [] if conf.normalize == "none" else [f"normalisation: {conf.normalize}"]
    options += [f"{key}: {value}" for key, value in conf.fusion_conf.items()]
    fusion = ", ".join([conf.fusion, *options])
    number = len(conf.upstreams)
    noun = "upstream" if number == 1 else "upstreams"
    return f"{number} {frozen} self-supervised {noun} (fusion: {fusion})"


def upstream_table(conf: FrontendConf, manifest: Manifest) -> str:
    """A table of the upstreams: revision, licence, fingerprint of each."""
    rows = [
        [
            _link(packed),
            upstream.layer,
            (packed.revision or "-")[:12],
            packed.licence or "not stated",
            (packed.fingerprint or "in the model")[:16],
            packed.name if packed.bundled else "no",
        ]
        for packed, upstream in zip(manifest.upstreams, conf.upstreams, strict=True)
    ]
    headers = ["upstream", "layer", "revision", "licence", "fingerprint", "included"]
    note = (
        "Weights are recognised by their fingerprint: over others, the model is not loaded. "
        "What is not included is downloaded when the model is loaded first; it has a licence "
        "of its own."
    )
    return f"{table(rows, headers)}\n\n{note}"


def versions(manifest: Manifest) -> str:
    """A list of the libraries that a model was made with."""
    return "\n".join(
        f"- {name}: {number}" for name, number in manifest.versions.items()
    )


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """A table in Markdown."""
    return tabulate(
        [[str(cell) for cell in row] for row in rows],
        headers,
        tablefmt="github",
        disable_numparse=True,
    )


def _link(upstream: PackedUpstream) -> str:
    source = upstream.source
    if source is None:
        return f"{Path(upstream.name).name} (made for this model)"
    is_id = "/" in source and not source.startswith("http")
    return f"[{source}](https://huggingface.co/{source})" if is_id else source
