"""Where a published upstream comes from, and where its files are on this machine."""

import importlib
from dataclasses import replace
from pathlib import Path

import yaml
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.registry import UpstreamConf
from espnet_ensemble.upstream.s3prl_hub import hub_entries


def hub_id(conf: UpstreamConf) -> str | None:
    """The id on the Hugging Face hub that an entry names; None if it names none.

    Example:
        >>> hub_id(UpstreamConf("microsoft/wavlm-large"))
        'microsoft/wavlm-large'
        >>> hub_id(UpstreamConf("./exp/wavlm")) is None
        True
    """
    if conf.local_option is not None or conf.is_registered:
        return None
    if not conf.uses_s3prl:
        return conf.name
    is_url = conf.path_or_url is not None and conf.path_or_url.startswith("http")
    return None if is_url else conf.path_or_url


def find_snapshot(conf: UpstreamConf, download_dir: str | None = None) -> Path | None:
    """Find what has been downloaded of an id of the Hugging Face hub.

    Args:
        conf: The upstream.
        download_dir: Where downloads are; None: the library's default.

    Returns:
        Its folder, which is called as the commit is; None if it is no id of the hub, or not
        here.
    """
    name = hub_id(conf)
    if name is None:
        return None
    # S3PRL lets transformers download to its own place.
    cache_dir = None if conf.uses_s3prl else download_dir
    found = try_to_load_from_cache(
        name, "config.json", cache_dir=cache_dir, revision=conf.revision
    )
    return Path(found).parent if isinstance(found, str) else None


def find_licence(conf: UpstreamConf, download_dir: str | None = None) -> str | None:
    """Read the licence that an upstream's card states.

    The card of a hub id is downloaded where that can be.

    Args:
        conf: The upstream.
        download_dir: Where downloads are; None: the library's default.

    Returns:
        Such as "mit"; None if no card states one.
    """
    name = hub_id(conf)
    if name is None:
        folder = Path(conf.path_or_url or conf.name)
        return _licence(folder / "README.md") if conf.local_option else None
    try:
        card = hf_hub_download(
            name,
            "README.md",
            revision=conf.revision,
            cache_dir=None if conf.uses_s3prl else download_dir,
        )
    except (HfHubHTTPError, OSError, ValueError):  # no network, or no card
        return None
    return _licence(Path(card))


def _licence(card: Path) -> str | None:
    """What the YAML at the beginning of a card says."""
    if not card.is_file():
        return None
    head, *rest = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    if head.strip() or len(rest) != 2:
        return None
    try:
        content = yaml.safe_load(rest[0])
    except yaml.YAMLError:
        return None
    licence = content.get("license") if isinstance(content, dict) else None
    return str(licence) if licence else None


def local_copy(conf: UpstreamConf, download_dir: str | None = None) -> UpstreamConf:
    """Name the files of a published upstream that loading it has downloaded.

    Args:
        conf: The upstream. It has been loaded on this machine.
        download_dir: Where downloads are; None: the library's default.

    Returns:
        The same upstream, loaded from those files.

    Raises:
        UpstreamError: If they are not here, or S3PRL has no name that takes them.
    """
    if conf.local_option is not None:
        return conf
    if conf.is_registered:
        raise UpstreamError(
            f"upstream {conf.name!r}: a registered upstream is code, which no archive carries; "
            "pack without bundling"
        )
    snapshot = find_snapshot(conf, download_dir)
    if snapshot is not None and conf.uses_s3prl:
        return replace(conf, path_or_url=str(snapshot))
    if snapshot is not None:
        return replace(conf, name=str(snapshot), revision=None)
    if conf.uses_s3prl and hub_id(conf) is None:
        path = _download_path(conf, download_dir)
        if path.is_file():
            return replace(conf, name=_name_for_files(conf.name), path_or_url=str(path))
    raise UpstreamError(
        f"upstream {conf.name!r}: its files are not on this machine; load it once, where "
        "there is a network"
    )


def _download_path(conf: UpstreamConf, download_dir: str | None) -> Path:
    """Where S3PRL has put the checkpoint; of several addresses, it loads the last."""
    url = conf.path_or_url or next(iter(hub_entries()[conf.name].urls[::-1]), "")
    download = importlib.import_module("s3prl.util.download")
    if download_dir is not None:
        download.set_dir(download_dir)
    return Path(download.urls_to_filepaths(url, download=False))


def _name_for_files(name: str) -> str:
    """The name of S3PRL's hub that loads a file of the same kind."""
    package = hub_entries()[name].package
    for ending in ("local", "custom"):
        for other, entry in hub_entries().items():
            if entry.package == package and other.endswith(f"_{ending}"):
                return other
    raise UpstreamError(
        f"upstream {name!r}: S3PRL has no name that loads its file; it cannot be carried "
        "in an archive (pack without bundling)"
    )
