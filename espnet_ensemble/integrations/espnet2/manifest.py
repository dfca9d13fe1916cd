"""``ensemble.yaml`` of a model zoo archive: its upstreams, its decoding, its versions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, check_keys, read_yaml
from espnet_ensemble.version import __version__

#: What it is called in an archive.
MANIFEST = "ensemble.yaml"
#: How it is laid out. A later version of the package may write a higher one.
FORMAT = 1
# Other libraries that decide what upstreams compute, by the names of pip.
_LIBRARIES = ("transformers", "s3prl", "espnet-s3prl")


@dataclass(frozen=True)
class PackedUpstream:
    """What an archive says about one upstream.

    Attributes:
        name: As the packed ``frontend_conf`` names it: what is to be downloaded, or a file
            or folder of the archive.
        bundled: Whether it is in the archive.
        source: Hub id or S3PRL's name of a published one; None: it was made locally.
        revision: Commit of the hub id; None: it is not known, or there is none.
        fingerprint: Hash of its weights, hexadecimal; None: they train with the model, and
            are in its weights.
        licence: What its card states; None: it is not known.
    """

    name: str
    bundled: bool
    source: str | None = None
    revision: str | None = None
    fingerprint: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The content of ``ensemble.yaml``.

    Attributes:
        fs: Sample rate of the speech that the model takes, in Hz.
        upstreams: In the order of ``frontend_conf``.
        decoding: The decoding configuration in the archive; None: there is none.
        versions: Of the libraries that it was packed with.
        format: How the file is laid out, :data:`FORMAT`.

    Example:
        >>> manifest = Manifest(16000, (PackedUpstream("a/b", bundled=False),))
        >>> Manifest.parse(manifest.to_dict(), "ensemble.yaml") == manifest
        True
    """

    fs: int
    upstreams: tuple[PackedUpstream, ...]
    decoding: str | None = None
    versions: Mapping[str, str] = field(default_factory=lambda: _versions())
    format: int = FORMAT

    @classmethod
    def read(cls, folder: PathLike) -> "Manifest | None":
        """Read that of an unpacked model.

        Returns:
            What it says; None where there is none, as of an experiment, or of a model that
            ESPnet alone has packed.

        Raises:
            EnsembleError: If it is of another format.
        """
        path = Path(folder, MANIFEST)
        return cls.parse(read_yaml(path), str(path)) if path.is_file() else None

    @classmethod
    def parse(cls, content: Mapping[str, Any], where: str) -> "Manifest":
        """Read what YAML gives.

        Args:
            content: The mapping.
            where: Of what, for messages.

        Raises:
            EnsembleError: If it is of another format, or something is missing.
        """
        if content.get("format") != FORMAT:
            raise EnsembleError(_other_format(content, where))
        check_keys(where, content, [f.name for f in fields(cls)])
        entries = content["upstreams"]
        if not isinstance(entries, list) or not isinstance(content["fs"], int):
            raise EnsembleError(f"{where}: expected fs and a list of upstreams")
        upstreams = [_parse_upstream(entry, where) for entry in entries]
        return cls(**{**content, "upstreams": tuple(upstreams)})

    def to_dict(self) -> dict[str, Any]:
        """What YAML holds."""
        upstreams = [asdict(upstream) for upstream in self.upstreams]
        return {**asdict(self), "upstreams": upstreams, "versions": dict(self.versions)}


def _parse_upstream(entry: Any, where: str) -> PackedUpstream:
    if not isinstance(entry, dict):
        raise EnsembleError(
            f"{where}: upstreams: expected keys and values, found {entry!r}"
        )
    check_keys(f"{where}: upstreams", entry, [f.name for f in fields(PackedUpstream)])
    for key, value in entry.items():
        if not isinstance(value, (str, bool, type(None))):
            raise EnsembleError(f"{where}: upstreams: {key}: found {value!r}")
    return PackedUpstream(**entry)


def _other_format(content: Mapping[str, Any], where: str) -> str:
    versions = content.get("versions")
    made_by = versions.get("espnet-ensemble") if isinstance(versions, dict) else None
    return (
        f"{where}: expected format {FORMAT}, which espnet-ensemble {__version__} reads, "
        f"found {content.get('format')!r}, written by espnet-ensemble "
        f"{made_by or 'of an unknown version'}; install that one or a later one"
    )


def _versions() -> dict[str, str]:
    found = {"espnet-ensemble": __version__}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
