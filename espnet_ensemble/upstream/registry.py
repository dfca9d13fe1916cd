"""Which upstream a configuration means, what of it is local, and who loads it."""

import difflib
import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import check_keys
from espnet_ensemble.layers import Layer
from espnet_ensemble.upstream.catalogue import CATALOGUE
from espnet_ensemble.upstream.checkpoints import (
    CHECKPOINTS,
    TORCHAUDIO_BUNDLES,
    is_published_id,
)
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.s3prl_hub import hub_entries, is_installed

if TYPE_CHECKING:
    from espnet_ensemble.upstream.base import Upstream

#: Packages say under this name of ``[project.entry-points]`` which module registers what.
ENTRY_POINTS = "espnet_ensemble.upstreams"

_LANGUAGE = re.compile(r"[A-Za-z][\w-]*")
_COMMIT = re.compile("[0-9a-f]{40}")

#: Names that come with this package -> what makes them, imported where it is asked for. The
#: first two are S3PRL's, too, and give the same features. The last one needs ESPnet.
BUILT_IN = {
    "fbank": "espnet_ensemble.upstream.classic:load_classic",
    "mfcc": "espnet_ensemble.upstream.classic:load_classic",
    "espnet_ssl": "espnet_ensemble.integrations.espnet2.ssl_upstream:load_espnet_ssl",
}

Make = Callable[["UpstreamConf", str | None], "Upstream"]
_registered: dict[str, Make] = {}


def register_upstream(name: str) -> Callable[[Make], Make]:
    """Give an upstream of one's own a name that ``upstreams`` of ``frontend_conf`` takes.

    A module that does this has to be imported in every process. A package sees to that with
    an entry point of its own, which is imported where the name is asked for:

    .. code-block:: toml

        [project.entry-points."espnet_ensemble.upstreams"]
        frame_energy = "my_package.my_module"

    Args:
        name: The name: without a slash, none of S3PRL's hub, and not registered before.

    Returns:
        A decorator of what makes the upstream of its :class:`UpstreamConf`, and of the folder
        for downloads (None: any): a subclass of :class:`~.base.Upstream`, or a function.
        Its options are in ``extra_conf``, its checkpoint is ``path_or_url``.

    Raises:
        UpstreamError: If it cannot have that name.

    Example:
        >>> import torch
        >>> from espnet_ensemble import FrontendConf
        >>> from espnet_ensemble.layers import layer_indices
        >>> from espnet_ensemble.upstream import Upstream, register_upstream
        >>> from espnet_ensemble.upstream.fingerprint import fingerprint
        >>> @register_upstream("frame_energy")
        ... class FrameEnergy(Upstream):
        ...     def __init__(self, conf, download_dir):
        ...         options = {"hop_length": 320, **(conf.extra_conf or {})}
        ...         super().__init__(
        ...             name=conf.name,
        ...             fs=16000,
        ...             hop_length=options["hop_length"],
        ...             feature_size=1,
        ...             layers=layer_indices(conf.layer, num_layers=0),
        ...             fingerprint=fingerprint({}),
        ...         )
        ...
        ...     def forward(self, wavs, lengths):
        ...         hop = self.hop_length
        ...         wavs = torch.nn.functional.pad(wavs, (0, -wavs.size(1) % hop))
        ...         energy = wavs.unfold(1, hop, hop).square().mean(dim=2, keepdim=True)
        ...         return [energy], (lengths + hop - 1) // hop
        >>> ensemble = FrontendConf.parse({"upstreams": ["frame_energy"]}).build()
        >>> feats, feats_lens = ensemble(torch.rand(2, 800), torch.tensor([800, 500]))
        >>> feats.shape, feats_lens.tolist()
        (torch.Size([2, 3, 1]), [3, 2])
    """
    is_taken = name in BUILT_IN or name in _registered
    if "/" in name or is_taken or (is_installed() and name in hub_entries()):
        raise UpstreamError(
            f"register_upstream: expected a new name, without a slash, that S3PRL's hub does "
            f"not have; found {name!r}"
        )

    def register(make: Make) -> Make:
        _registered[name] = make
        return make

    return register


@lru_cache
def _import_entry_point(name: str) -> None:
    for entry_point in entry_points(group=ENTRY_POINTS, name=name):
        entry_point.load()


def _find_registered(name: str) -> Make | None:
    if "/" in name:
        return None
    if name in BUILT_IN:
        module, _, function = BUILT_IN[name].partition(":")
        return getattr(importlib.import_module(module), function)
    if name not in _registered:
        _import_entry_point(name)
    return _registered.get(name)


@dataclass(frozen=True)
class UpstreamConf:
    """One entry of ``upstreams`` in ``frontend_conf``.

    Attributes:
        name: A name of S3PRL's hub, or of :func:`register_upstream`; or, for transformers, a
            hub id (with a slash) or a local folder.
        layer: "last", an index, "weighted_sum" over all layers, or a list of indices for
            the weighted sum over those.
        path_or_url: Checkpoint, for the names that need one.
        extra_conf: Further arguments of the S3PRL name, or options of the registered one;
            for transformers, ``language`` of one with adapters, or with
            ``trust_remote_code`` those of :data:`~.remote_code.OPTIONS`.
        revision: Commit, tag or branch of a hub id; None: what its main branch has.
        trust_remote_code: Whether code in the repository may be run, which ``revision`` must
            then pin.
    """

    name: str
    layer: Layer = "last"
    path_or_url: str | None = None
    extra_conf: dict[str, Any] | None = None
    revision: str | None = None
    trust_remote_code: bool = False

    @classmethod
    def parse(cls, entry: str | dict[str, Any]) -> "UpstreamConf":
        """Read an entry as YAML gives it: a name, or a mapping.

        Raises:
            EnsembleError: If the entry has no name, or a key that does not exist.

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
            raise EnsembleError(
                f"upstreams: expected a name, or a mapping with name, found {entry!r}"
            )
        check_keys(f"upstreams: {entry}", entry, ["name"], known[1:])
        return cls(**entry)

    @property
    def uses_s3prl(self) -> bool:
        """Whether S3PRL loads it; if not, transformers does, or who registered the name.

        Raises:
            UpstreamError: If the name is neither of S3PRL's hub nor an id nor a folder.
        """
        if "/" in self.name or self.is_registered:
            return False
        if self._is_hub_name:
            return True
        if not os.path.isdir(self.name):
            raise UpstreamError(_unknown(self.name))
        return False

    @property
    def is_registered(self) -> bool:
        """Whether it is one of :func:`register_upstream`, or of :data:`BUILT_IN`."""
        return self.name in BUILT_IN or _find_registered(self.name) is not None

    @property
    def _is_hub_name(self) -> bool:
        # Without S3PRL, a folder is all that a name without a slash can be.
        if os.path.isdir(self.name) and not is_installed():
            return False
        return self.name in hub_entries()

    @property
    def local_option(self) -> str | None:
        """Which option, if any, names something on this machine.

        It is "name", "path_or_url", or None for a published checkpoint.

        Example:
            >>> UpstreamConf("wavlm_local", path_or_url="exp/wavlm.pt").local_option
            'path_or_url'
            >>> UpstreamConf("./exp/wavlm").local_option
            'name'
            >>> UpstreamConf("microsoft/wavlm-large").local_option is None
            True
        """
        if self.path_or_url is not None:
            is_published = is_published_id(self.path_or_url)
            is_remote = is_published or self.path_or_url.startswith("http")
            return None if is_remote else "path_or_url"
        if "/" not in self.name:
            return None if self.is_registered or self._is_hub_name else "name"
        is_path = self.name.startswith((".", "/")) or self.name.count("/") > 1
        return "name" if is_path or os.path.isdir(self.name) else None

    def absolute(self) -> "UpstreamConf":
        """The same, also in another working directory."""
        option = self.local_option
        if option is None:
            return self
        return replace(self, **{option: os.path.abspath(getattr(self, option))})


def load_upstream(conf: UpstreamConf, download_dir: str | None = None) -> "Upstream":
    """Load an upstream with the library that its name belongs to.

    Args:
        conf: What to load.
        download_dir: Where to keep what is downloaded; None: the library's default.

    Raises:
        UpstreamError: If there is no such upstream or it cannot be fetched or used.
        EnsembleError: If there is no such layer.
    """
    check_upstream(conf, download_dir)
    upstream = _load(conf, download_dir)
    upstream.load_again = partial(load_upstream, conf.absolute(), download_dir)
    for module in upstream.modules():
        # Then torch.ao's quantization leaves it as it is: WavLM's attention takes the
        # weights of its linear layers, which quantized ones do not have.
        vars(module)["qconfig"] = None
    return upstream


def _load(conf: UpstreamConf, download_dir: str | None) -> "Upstream":
    make = _find_registered(conf.name)
    if make is not None:
        return make(conf, download_dir)
    # Each loader is imported where it is used: transformers takes seconds, and so do
    # S3PRL's modules.
    if conf.uses_s3prl:
        from espnet_ensemble.upstream.s3prl import load_s3prl

        return load_s3prl(
            conf.name, conf.layer, conf.path_or_url, conf.extra_conf, download_dir
        )
    if conf.trust_remote_code:
        from espnet_ensemble.upstream.remote_code import load_remote_code

        return load_remote_code(
            conf.name, conf.layer, download_dir, conf.revision, conf.extra_conf
        )
    from espnet_ensemble.upstream.huggingface import load_huggingface

    language = (conf.extra_conf or {}).get("language")
    return load_huggingface(
        conf.name, conf.layer, download_dir, conf.revision, language
    )


def check_upstream(conf: UpstreamConf, download_dir: str | None = None) -> None:
    """Refuse an upstream that cannot be found, without loading or downloading anything.

    Args:
        conf: Which upstream.
        download_dir: Where downloaded ones are; None: the library's default.

    Raises:
        UpstreamError: If its name is unknown, what is local is not there, or an option is
            for others.
    """
    is_id = not (conf.local_option or conf.uses_s3prl or conf.is_registered)
    if conf.revision is not None and not is_id:
        raise UpstreamError(
            f"upstream {conf.name!r}: revision {conf.revision!r} is for ids of the Hugging "
            "Face hub; what is local, and names of S3PRL's hub or registered ones, have none"
        )
    if conf.trust_remote_code is not False:
        _check_trust(conf, is_id)
    if conf.uses_s3prl or conf.is_registered:
        path = conf.path_or_url or ""
        if conf.local_option == "path_or_url" and _is_missing(path, download_dir):
            raise UpstreamError(
                f"upstream {conf.name!r}: path_or_url not found: {path}{_close(path)}"
            )
        return
    if conf.path_or_url is not None:
        raise UpstreamError(
            f"upstream {conf.name!r}: path_or_url is for names of S3PRL's hub; here the id "
            "or folder is the name itself"
        )
    if not conf.trust_remote_code:
        where = f"upstream {conf.name!r}: extra_conf"
        check_keys(where, conf.extra_conf or {}, [], ["language"])
        language = (conf.extra_conf or {}).get("language")
        if language is not None and not is_language(language):
            raise UpstreamError(
                f"{where}: language: expected a name such as deu, found {language!r}"
            )
    if conf.local_option or _is_missing(conf.name, download_dir):
        if not os.path.isdir(conf.name):
            raise UpstreamError(
                f"upstream {conf.name!r}: there is no such folder{_close(conf.name)}"
            )


def is_language(name: Any) -> bool:
    """Whether something is what languages of adapters are called.

    Example:
        >>> is_language("azj-script_latin"), is_language("../x")
        (True, False)
    """
    return isinstance(name, str) and _LANGUAGE.fullmatch(name) is not None


def _check_trust(conf: UpstreamConf, is_id: bool) -> None:
    if conf.trust_remote_code is not True:
        raise UpstreamError(
            f"upstream {conf.name!r}: trust_remote_code: expected true or false, found "
            f"{conf.trust_remote_code!r}"
        )
    if conf.uses_s3prl or conf.is_registered:
        raise UpstreamError(
            f"upstream {conf.name!r}: trust_remote_code is for ids of the Hugging Face hub, "
            "and for folders"
        )
    if is_id and not _COMMIT.fullmatch(conf.revision or ""):
        raise UpstreamError(
            f"upstream {conf.name!r}: trust_remote_code: true runs code of this repository; "
            "expected revision, the commit (40 hexadecimal digits) whose code you have "
            f"read, found {conf.revision!r}; commits are listed on "
            f"https://huggingface.co/{conf.name}/commits/main"
        )


def _is_missing(path: str, download_dir: str | None) -> bool:
    """Whether a path leads nowhere that can be no id of the Hugging Face hub either."""
    if os.path.exists(path):
        return False
    if path.startswith((".", "/")) or path.count("/") != 1:
        return True
    # What lies in a folder that is here is meant to be there, too.
    return (
        os.path.isdir(os.path.dirname(path))
        and path not in [checkpoint.huggingface for checkpoint in CHECKPOINTS]
        and not _is_downloaded(path, download_dir)
    )


def _is_downloaded(hub_id: str, download_dir: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, "config.json", cache_dir=download_dir)
    return isinstance(found, str)


def _close(path: str) -> str:
    """What the user may have meant, for a message."""
    folder, name = os.path.split(path)
    if not os.path.isdir(folder or "."):
        return ""
    close = difflib.get_close_matches(name, os.listdir(folder or "."))
    paths = [os.path.join(folder, other) for other in close]
    return f". Close names: {', '.join(paths)}" if paths else ""


def _unknown(name: str) -> str:
    if name in TORCHAUDIO_BUNDLES:
        return (
            f"upstream {name!r} is a bundle of torchaudio; expected the id of the same "
            f"weights on the Hugging Face hub, {TORCHAUDIO_BUNDLES[name]}"
        )
    names = dict.fromkeys([*BUILT_IN, *_registered, *hub_entries()])
    close = difflib.get_close_matches(name, names, n=5)
    ids = [known.name for known in CATALOGUE]
    close += [i for i in ids if difflib.get_close_matches(name, [i.split("/")[1]])]
    close_names = f" Close names: {', '.join(close)}." if close else ""
    return (
        f"unknown upstream {name!r}: neither a name of S3PRL's hub, nor one of "
        f"{', '.join(BUILT_IN)}, nor registered, nor a folder."
        f"{close_names} For the Hugging Face hub, give the id with its owner "
        "(microsoft/wavlm-large)."
    )
