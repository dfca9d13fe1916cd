"""What a packed configuration may say: names, and files of its own archive.

A model may come from anybody. Its configuration chooses among ESPnet's classes by name, and
some of these read more files, or pickles: only the others may be chosen here.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.upstream import UpstreamConf
from espnet_ensemble.upstream.checkpoints import is_published_id
from espnet_ensemble.upstream.registry import is_language

#: What a packed configuration calls the frontend: where the plugin is not loaded, it is
#: the end of ESPnet's message that there is no such frontend.
ENSEMBLE_WITH_ADVICE = "ensemble (pip install espnet-ensemble; import espnet_ensemble)"

#: What ESPnet's class choices, and options like them, may be. Those that are left out
#: (s3prl, fused, whisper, fairseq's encoders, …) load checkpoints that they are told.
CHOICES: dict[str, tuple[str | None, ...]] = {
    "frontend": ("ensemble", ENSEMBLE_WITH_ADVICE, "default", "sliding_window", None),
    "specaug": (None, "specaug"),
    "normalize": (None, "global_mvn", "utterance_mvn"),
    "model": ("espnet", "ensemble"),
    "preencoder": (None, "sinc", "linear"),
    "encoder": (
        "branchformer",
        "conformer",
        "contextual_block_conformer",
        "contextual_block_transformer",
        "e_branchformer",
        "identity",
        "longformer",
        "multiconv_conformer",
        "rnn",
        "transformer",
        "vgg_rnn",
    ),
    "postencoder": (None, "length_adaptor"),
    "decoder": (
        None,
        "dynamic_conv",
        "dynamic_conv2d",
        "lightweight_conv",
        "lightweight_conv2d",
        "rnn",
        "s4",
        "transducer",
        "transformer",
    ),
    "preprocessor": (None, "default", "multi"),
    "token_type": ("bpe", "char", "phn", "word"),
    "adapter": (None, "lora"),
    "lm": ("seq_rnn", "transformer"),
}


def is_ensemble(config: Mapping[str, Any]) -> bool:
    """Whether a configuration, packed or not, is of this plugin's frontend."""
    return config.get("frontend") in ("ensemble", ENSEMBLE_WITH_ADVICE)


def files_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The files that ESPnet reads where a model is used: option -> path.

    Example:
        >>> files_of({"bpemodel": "data/bpe.model", "normalize_conf": {}})
        {'bpemodel': 'data/bpe.model'}
    """
    found = {
        "bpemodel": config.get("bpemodel"),
        "non_linguistic_symbols": config.get("non_linguistic_symbols"),
        "normalize_conf.stats_file": _section(config, "normalize_conf").get(
            "stats_file"
        ),
    }
    return {option: path for option, path in found.items() if path is not None}


def check_config(config: Mapping[str, Any], where: str, names: Collection[str]) -> None:
    """Refuse a configuration that could run code, or reads what is not in its archive.

    Args:
        config: What YAML gives.
        where: Its name, for messages.
        names: Files and folders of the archive.

    Raises:
        EnsembleError: If a class is not one of :data:`CHOICES`, a file or an upstream is not
            in the archive, or the frontend's options are wrong. It tells all of these.
    """
    problems = [*_choices(config), *_files(config, names)]
    if is_ensemble(config):
        problems += _upstreams(config, names)
    if problems:
        raise EnsembleError("\n".join(f"{where}: {problem}" for problem in problems))


def _choices(config: Mapping[str, Any]) -> Iterator[str]:
    for key, allowed in CHOICES.items():
        value = config.get(key, allowed[0])
        if value not in allowed:
            known = ", ".join(str(name) for name in allowed)
            yield (
                f"{key}: expected one of {known}, found {value!r}; others may load code or "
                "files of their own: of an archive that you trust, unpack and load it with "
                "ESPnet alone"
            )
    tokens = config.get("token_list", [])
    if not isinstance(tokens, list) or not all(isinstance(t, str) for t in tokens):
        yield "token_list: expected a list of tokens"


def _files(config: Mapping[str, Any], names: Collection[str]) -> Iterator[str]:
    for option, path in files_of(config).items():
        if not isinstance(path, str) or path not in names:
            yield (
                f"{option}: {path!r} is not in the archive; pack the model again where "
                "that file is"
            )


def _upstreams(config: Mapping[str, Any], names: Collection[str]) -> Iterator[str]:
    section = _section(config, "frontend_conf")
    try:
        conf = FrontendConf.parse(section)
    except (EnsembleError, TypeError, AttributeError) as error:
        yield f"frontend_conf: {error}"
        return
    for option in ("download_dir", "feature_cache"):
        if getattr(conf, option) is not None:
            yield f"frontend_conf: {option}: found {getattr(conf, option)!r}, of a machine"
    for upstream in conf.upstreams:
        yield from check_packed_upstream(upstream, names)


def check_packed_upstream(
    conf: UpstreamConf, names: Collection[str], trust_remote_code: bool = False
) -> Iterator[str]:
    """Say what is wrong with an upstream that comes with somebody's model.

    Args:
        conf: It must be published, or come along.
        names: Files and folders that come along.
        trust_remote_code: Whether who loads it lets code of the hub run.
    """
    if conf.trust_remote_code and not trust_remote_code:
        yield (
            f"upstream {conf.name!r}: trust_remote_code: runs code of the hub (revision "
            f"{conf.revision!r}), which somebody's model must not ask for"
        )
    path = conf.path_or_url
    known = conf.name if path is None else path
    is_published = not _is_path(known) if path is None else _is_remote(path)
    if known not in names and not is_published:
        yield (
            f"upstream {known!r} is not in the archive; pack the model again with "
            "espnet-ensemble, where that upstream is"
        )
    # Of a model with code of its own, they are names of what that takes and gives.
    options = {} if conf.trust_remote_code else dict(conf.extra_conf or {})
    if path is None and is_language(options.get("language")):
        del options["language"]
    if not all(isinstance(x, (bool, int, float, type(None))) for x in options.values()):
        yield f"upstream {conf.name!r}: extra_conf: expected numbers, found {options!r}"


def _is_remote(path_or_url: str) -> bool:
    return is_published_id(path_or_url) or path_or_url.startswith("https://")


def _is_path(name: str) -> bool:
    """Whether a name can be nothing but a path: ids have one slash."""
    parts = name.split("/")
    return len(parts) > 2 or not {"", ".", ".."}.isdisjoint(parts)


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = config.get(key) or {}
    return section if isinstance(section, dict) else {}
