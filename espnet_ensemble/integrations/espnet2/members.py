"""The upstreams of a model that is packed: as this machine loads them, and as others do."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2.contents import Contents
from espnet_ensemble.integrations.espnet2.manifest import PackedUpstream
from espnet_ensemble.upstream import UpstreamConf, UpstreamError, load_upstream
from espnet_ensemble.upstream.origin import (
    find_licence,
    find_snapshot,
    hub_id,
    local_copy,
)
from espnet_ensemble.upstream.registry import BUILT_IN


@dataclass(frozen=True)
class Member:
    """An upstream of a model that is packed.

    Attributes:
        conf: As this machine loads it.
        packed: As the archive names it.
        bundled: Whether it is in the archive.
        download_dir: Where this machine keeps downloads; None: the library's default.
    """

    conf: UpstreamConf
    packed: UpstreamConf
    bundled: bool
    download_dir: str | None

    @classmethod
    def add(
        cls,
        conf: UpstreamConf,
        contents: Contents,
        download_dir: str | None,
        bundle: bool,
    ) -> "Member":
        """Name an upstream for other machines, and add what they cannot download.

        Args:
            conf: As this machine loads it.
            contents: Where its files are added.
            download_dir: Where this machine keeps downloads.
            bundle: Whether to add published ones, too.

        Raises:
            UpstreamError: If it is to be added, and cannot be loaded here, or is a file of
                which loading needs another.
        """
        option = conf.local_option
        if option is None and conf.name in BUILT_IN:
            return cls(conf, conf, False, download_dir)  # there is nothing to carry
        if option is not None:
            path = getattr(conf, option)
            if conf.name == "espnet_ssl" and Path(path).is_file():
                raise UpstreamError(
                    f"upstream {path}: it cannot be handed on without its config.yaml; for "
                    "path_or_url, give a folder that has both, and no other .pth"
                )
            name = contents.add_upstream(path)
            return cls(conf, _located(conf, name), True, download_dir)
        if bundle:
            load_upstream(conf, download_dir)  # downloads what is not here yet
        snapshot = find_snapshot(conf, download_dir)
        if snapshot is not None and not conf.uses_s3prl:
            conf = replace(conf, revision=snapshot.name)
        if not bundle:
            return cls(conf, conf, False, download_dir)
        copy = local_copy(conf, download_dir)
        path = copy.path_or_url or copy.name
        name = contents.add_upstream(path, Path(hub_id(conf) or path).name)
        return cls(conf, _located(copy, name), True, download_dir)

    def entry(self, given: str | dict[str, Any]) -> str | dict[str, Any]:
        """The entry of ``upstreams``, changed as little as can be.

        Args:
            given: The entry that was trained with.
        """
        entry = {"name": given} if isinstance(given, str) else dict(given)
        for key in ("name", "path_or_url", "revision"):
            entry[key] = getattr(self.packed, key)
            if entry[key] is None:
                del entry[key]
        return entry if isinstance(given, dict) or len(entry) > 1 else entry["name"]

    def describe(self, fingerprint: str | None) -> PackedUpstream:
        """What the manifest says of it.

        Args:
            fingerprint: Of the weights that the model was trained over, hexadecimal; None:
                they are in the model's own.

        Raises:
            EnsembleError: If those that are packed are others.
        """
        if self.bundled and fingerprint is not None:
            self._check(fingerprint)
        source = None
        if self.conf.local_option is None:
            source = hub_id(self.conf) or self.conf.path_or_url or self.conf.name
        snapshot = find_snapshot(self.conf, self.download_dir)
        return PackedUpstream(
            name=(self.bundled and self.packed.path_or_url) or self.packed.name,
            bundled=self.bundled,
            source=source,
            revision=snapshot.name if snapshot else self.conf.revision,
            fingerprint=fingerprint,
            licence=find_licence(self.conf, self.download_dir),
        )

    def _check(self, expected: str) -> None:
        found = load_upstream(self.conf, self.download_dir).fingerprint.hex()
        if found != expected:
            raise EnsembleError(
                f"upstream {self.conf.name!r} has other weights (fingerprint "
                f"{found[:16]}) than the one that the model was trained over "
                f"({expected[:16]}); bring those back"
            )


def _located(conf: UpstreamConf, path: str) -> UpstreamConf:
    """The same upstream, from another place."""
    if conf.path_or_url is None:
        return replace(conf, name=path)
    return replace(conf, path_or_url=path)
