"""What ESPnet's own frontends over pre-trained encoders are in terms of ``ensemble``.

``s3prl``, ``fused`` and ``huggingface`` are translated with the same meaning: an utterance
alone gets the same features, with the weights that a trained model has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import check_keys
from espnet_ensemble.frontend_conf import FrontendConf, parse_fs
from espnet_ensemble.layers import Layer
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.registry import UpstreamConf, check_upstream
from espnet_ensemble.upstream.s3prl_hub import HUGGINGFACE, hub_entries

#: Names of the frontends that can be translated.
STOCK_FRONTENDS = ("s3prl", "fused", "huggingface")
#: What the frontend is called in the weights of a model; the second, in ``enh_s2t``.
PREFIXES = ("frontend", "s2t_model.frontend")

_FS = 16000
_PADDING = (
    "padding: features of an utterance, and so the results, no longer depend on what it "
    "is batched with; the stock frontend's do. Of an utterance alone, as in ESPnet's "
    "decoding, they are the same"
)
_EVALUATION = (
    "frozen: upstreams are in evaluation mode always; in training, the stock frontend runs "
    "them with dropout and layer drop"
)
_CHECKPOINTS = (
    "checkpoints: they hold a fingerprint of the frozen upstreams in place of their weights, "
    "so what upstreams are loaded from must be there in decoding, too"
)
_TRAINED = (
    "frozen: false: freeze_param does not have {name}, so the stock frontend trains its "
    "upstream, and so does this one, without layer drop and masking. With frozen: true, "
    "checkpoints are small and features can be extracted once"
)
_STATISTICS = (
    "normalize: global_mvn has statistics of stock features of batches: before training "
    "anew, collect them again"
)
_LENGTHS = (
    "lengths: each utterance has its own number of frames; fused of ESPnet 202511 and before "
    "gives all of a batch that of the longest, so that padding is trained on"
)
_LAST_NORM = (
    "{name}: of models that have a norm after the last layer (large ones), the last hidden "
    "state is the normed one, as with transformers 4; with 5, S3PRL gives the one before"
)
_LAYER_WEIGHTS = (
    "freeze_param: frontend.layers: fused computes no gradients for the weights over layers, "
    "so they stay equal; take this out to train them"
)


@dataclass(frozen=True)
class Translation:
    """What becomes of a configuration.

    Attributes:
        stock: Name of the frontend that it had.
        config: The configuration with ``frontend: ensemble``.
        remarks: What changes, and why results will differ.
        names: Beginnings of the names of weights in the stock frontend -> in ours; None:
            they are left out.
    """

    stock: str
    config: dict[str, Any]
    remarks: tuple[str, ...]
    names: Mapping[str, str | None]

    @property
    def changes(self) -> dict[str, Any]:
        """What replaces the stock configuration's own."""
        keys = ("frontend", "frontend_conf", "freeze_param")
        return {key: self.config[key] for key in keys if key in self.config}

    def rename(self, name: str) -> str | None:
        """What a weight of the stock frontend is called in ours; None: left out.

        Args:
            name: Its name, without what is before the frontend's.

        Raises:
            EnsembleError: If the stock frontend has no such weight.
        """
        for stock, ours in self.names.items():
            if name == stock or name.startswith(f"{stock}."):
                return ours and ours + name[len(stock) :]
        raise EnsembleError(
            f"frontend.{name}: expected a weight of ESPnet's frontend, whose names begin "
            f"with {', '.join(self.names)}"
        )


def translate(config: Mapping[str, Any]) -> Translation:
    """Translate a configuration of ESPnet's training.

    Args:
        config: What YAML gives: a training configuration, or an experiment's
            ``config.yaml``.

    Raises:
        EnsembleError: If the frontend is another one, or does something that ``ensemble``
            does not. It says what.

    Example:
        >>> conf = {"frontend_conf": {"upstream": "wavlm_large"}, "multilayer_feature": True}
        >>> config = {"frontend": "s3prl", "frontend_conf": conf}
        >>> translate({**config, "freeze_param": ["frontend.upstream"]}).config
        {'frontend': 'ensemble', 'frontend_conf': {'upstreams': [{'name': 'wavlm_large', 'layer': 'weighted_sum'}]}, 'freeze_param': []}
    """
    name = config.get("frontend")
    if name not in STOCK_FRONTENDS:
        raise EnsembleError(
            f"frontend: expected {', '.join(STOCK_FRONTENDS)}, found {name!r}"
        )
    if config.get("use_adapter"):
        raise EnsembleError(
            "use_adapter: expected false, found true: adapters are put into the stock "
            "frontend's modules, which ensemble does not have"
        )
    conf = config.get("frontend_conf") or {}
    freeze = list(config.get("freeze_param") or [])
    stock = _TRANSLATORS[name](conf, freeze)
    frontend_conf = _shortest(stock.conf)
    freeze_param, remarks = _translate_freeze(stock, freeze)
    translated = {**config, "frontend": "ensemble", "frontend_conf": frontend_conf}
    if freeze_param or "freeze_param" in config:
        translated["freeze_param"] = freeze_param
    return Translation(
        name,
        translated,
        tuple([*stock.remarks, *_common_remarks(stock, config), *remarks]),
        stock.names,
    )


@dataclass(frozen=True)
class _Stock:
    """What a stock frontend is in terms of ours."""

    conf: FrontendConf
    names: dict[str, str | None]
    remarks: tuple[str, ...] = ()
    freeze_param: tuple[str, ...] = ()


def _translate_s3prl(conf: Mapping[str, Any], freeze: Sequence[str]) -> _Stock:
    known = ["fs", "frontend_conf", "download_dir", "multilayer_feature", "layer"]
    check_keys("frontend_conf", conf, ["frontend_conf"], known)
    _check_fs(conf)
    upstream, normalize = _s3prl_upstream(conf, conf.get("layer", -1))
    frozen = _is_frozen(freeze, "upstream", "upstream.upstream")
    names: dict[str, str | None] = {
        "featurizer": "layers.0" if upstream.layer == "weighted_sum" else None
    }
    if frozen:
        names["upstream"] = None
    else:
        names[_s3prl_weights(upstream.name)] = _our_weights(upstream.name)
    return _Stock(
        FrontendConf(
            (upstream,),
            normalize=normalize,
            frozen=frozen,
            download_dir=conf.get("download_dir"),
        ),
        names,
        () if frozen else (_TRAINED.format(name="frontend.upstream"),),
    )


def _translate_fused(conf: Mapping[str, Any], freeze: Sequence[str]) -> _Stock:
    known = ["align_method", "proj_dim", "fs"]
    check_keys("frontend_conf", conf, ["frontends"], known)
    _check_fs(conf)
    method = conf.get("align_method", "linear_projection")
    if method != "linear_projection":
        raise EnsembleError(
            f"align_method: expected linear_projection, found {method!r}"
        )
    parts, remarks = list(conf["frontends"]), [_LENGTHS]
    names: dict[str, str | None] = {}
    upstreams, normalize, folders = [], set(), set()
    for index, part in enumerate(parts):
        where = f"frontends[{index}]"
        _check_part(where, part)
        remarks += _ignored(where, part)
        upstream, norm = _s3prl_upstream(part, layer=-1)
        upstreams.append(upstream)
        normalize.add(norm)
        folders.add(part.get("download_dir"))
        weighted = upstream.layer == "weighted_sum"
        names |= {
            f"frontends.{index}.upstream": None,
            f"frontends.{index}.featurizer": f"layers.{index}" if weighted else None,
            f"projection_layers.{index}": f"fusion.projections.{index}",
        }
    if len(normalize) > 1 or len(folders - {None}) > 1:
        raise EnsembleError(
            "frontends: expected one normalize, and one download_dir, for all: ensemble has "
            "one for all upstreams"
        )
    layers = any(ours for stock, ours in names.items() if "featurizer" in stock)
    return _Stock(
        FrontendConf(
            tuple(upstreams),
            fusion="projection",
            fusion_conf={
                "proj_dim": conf.get("proj_dim", 100),
                "learned_upsampling": True,
            },
            normalize=normalize.pop(),
            download_dir=next(iter(folders - {None}), None),
        ),
        names,
        tuple([*remarks, *([_LAYER_WEIGHTS] if layers else [])]),
        ("frontend.layers",) if layers else (),
    )


def _translate_huggingface(conf: Mapping[str, Any], freeze: Sequence[str]) -> _Stock:
    check_keys(
        "frontend_conf", conf, ["model"], ["fs", "download_dir", "load_pretrained"]
    )
    if not conf.get("load_pretrained", True):
        raise EnsembleError(
            "load_pretrained: expected true, found false: ensemble loads pre-trained models"
        )
    # Who has none of these need not wait for transformers.
    from espnet_ensemble.upstream.huggingface import read_config

    model = conf["model"]
    name = model if "/" in model else f"./{model}"
    if getattr(read_config(name, conf.get("download_dir")), "add_adapter", False):
        raise EnsembleError(
            f"{model}: add_adapter: expected false, found true: ensemble takes hidden states "
            "of the encoder, without the adapter that shortens them"
        )
    frozen = _is_frozen(freeze, "encoder")
    return _Stock(
        FrontendConf(
            (UpstreamConf(name),),
            fs=_fs(conf),
            frozen=frozen,
            download_dir=conf.get("download_dir"),
        ),
        {"encoder": None if frozen else "upstreams.0.model"},
        (
            "lengths: huggingface of ESPnet 202511 counts samples, or none, where the "
            "model takes waveforms; 202611 and ensemble count frames",
            *(() if frozen else (_TRAINED.format(name="frontend.encoder"),)),
        ),
    )


_TRANSLATORS = {
    "s3prl": _translate_s3prl,
    "fused": _translate_fused,
    "huggingface": _translate_huggingface,
}


def _s3prl_upstream(conf: Mapping[str, Any], layer: int) -> tuple[UpstreamConf, str]:
    """The upstream, and how its hidden states are normalized."""
    part = conf.get("frontend_conf") or {}
    known = ["path_or_url", "normalize", "extra_conf", "tile_factor"]
    # ESPnet's defaults for this option are those of another frontend.
    given = {key: part[key] for key in ("upstream", *known) if key in part}
    check_keys("frontend_conf.frontend_conf", given, ["upstream"], known)
    name = given["upstream"]
    if name not in hub_entries():
        raise EnsembleError(f"upstream: expected a name of S3PRL's hub, found {name!r}")
    # With a layer of its own, the stock frontend does not tile.
    if layer == -1 and given.get("tile_factor", 1) != 1:
        raise EnsembleError(
            f"tile_factor: expected 1, found {given['tile_factor']}: the stock frontend "
            "repeats frames but not their number, which cuts utterances; train without it"
        )
    return (
        UpstreamConf(
            name,
            layer=_layer(conf, layer),
            path_or_url=given.get("path_or_url"),
            extra_conf=given.get("extra_conf"),
        ),
        "layer_norm" if given.get("normalize") else "none",
    )


def _layer(conf: Mapping[str, Any], layer: int) -> Layer:
    multilayer = conf.get("multilayer_feature") or False
    if layer == -1:
        return "weighted_sum" if multilayer else "last"
    if multilayer:
        raise EnsembleError(
            f"layer: expected -1, found {layer}: with multilayer_feature, ESPnet takes all"
        )
    return layer


def _check_part(where: str, part: Any) -> None:
    kind = part.get("frontend_type") if isinstance(part, dict) else part
    if kind != "s3prl":
        raise EnsembleError(
            f"{where}: frontend_type: expected s3prl, found {kind!r}: ensemble has upstreams "
            "only, and no filterbanks beside them"
        )


def _ignored(where: str, part: Mapping[str, Any]) -> Iterator[str]:
    known = ("frontend_type", "frontend_conf", "download_dir", "multilayer_feature")
    for key in part:
        if key not in known:
            yield f"{where}: {key}: left out, as fused does not look at it"


def _fs(conf: Mapping[str, Any]) -> int:
    fs = conf.get("fs", _FS)
    return parse_fs(fs) if isinstance(fs, str) else fs


def _check_fs(conf: Mapping[str, Any]) -> None:
    if _fs(conf) != _FS:
        raise EnsembleError(
            f"fs: expected 16k, found {conf['fs']}: the stock frontend takes samples at any "
            "rate for those at 16 kHz, ensemble resamples. Train anew, with this fs and "
            "frontend: ensemble"
        )


def _is_frozen(freeze: Sequence[str], *names: str) -> bool:
    """Whether ``freeze_param`` has all weights of the upstream."""
    return any(
        entry in (prefix, *(f"{prefix}.{name}" for name in names))
        for entry in freeze
        for prefix in PREFIXES
    )


def _s3prl_weights(name: str) -> str:
    """Where the stock frontend has the weights of an upstream of S3PRL."""
    return "upstream.upstream" + (".model" if _is_transformers(name) else "")


def _our_weights(name: str) -> str:
    part = "encoder.model" if _is_transformers(name) else "expert"
    return f"upstreams.0.{part}"


def _is_transformers(name: str) -> bool:
    return hub_entries()[name].package in HUGGINGFACE


def _translate_freeze(
    stock: _Stock, freeze: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The names that stay frozen, and what there is to say."""
    found: list[str] = []
    remarks = []
    for entry in freeze:
        prefix = next((p for p in PREFIXES if f"{entry}.".startswith(f"{p}.")), None)
        name = entry[len(prefix) + 1 :] if prefix else None
        if not name:
            found.append(entry)  # of other parts of the model, or all of the frontend
            continue
        ours = _frozen_names(stock.names, name)
        if ours is None:
            remarks.append(
                f"freeze_param: {entry}: left out: no weight of the stock frontend is "
                "called so, and it froze none"
            )
        else:
            found += [f"{prefix}.{part}" for part in ours]
    found += stock.freeze_param
    return list(dict.fromkeys(found)), remarks


def _frozen_names(names: Mapping[str, str | None], name: str) -> list[str] | None:
    """What an entry of ``freeze_param`` is in ours; None: it names nothing."""
    inside = [k for k in names if k == name or k.startswith(f"{name}.")]
    if inside:
        return [ours for k in inside if (ours := names[k])]
    for stock, ours in names.items():
        if name.startswith(f"{stock}."):
            return [ours + name[len(stock) :]] if ours else []
    return None


def _common_remarks(stock: _Stock, config: Mapping[str, Any]) -> Iterator[str]:
    yield _PADDING
    if stock.conf.frozen:
        yield _EVALUATION
        yield _CHECKPOINTS
    for upstream in stock.conf.upstreams:
        if upstream.name in hub_entries() and _is_transformers(upstream.name):
            yield _LAST_NORM.format(name=upstream.name)
        try:
            check_upstream(upstream, stock.conf.download_dir)
        except UpstreamError as error:
            yield f"{error} (seen from here, where training need not start)"
    if config.get("normalize") == "global_mvn":
        yield _STATISTICS
    loaded = [p for p in config.get("init_param") or [] if _loads_frontend(p)]
    if loaded:
        yield (
            f"init_param: {loaded[0]} has weights of a stock frontend: convert that "
            "checkpoint, too, and name the result"
        )


def _loads_frontend(init_param: str) -> bool:
    source = [*init_param.split(":"), ""][1]
    return not source or source.startswith(PREFIXES)


def _shortest(conf: FrontendConf) -> dict[str, Any]:
    """What YAML needs to say: what is not default."""
    defaults = FrontendConf(conf.upstreams).to_dict()
    found = {k: v for k, v in conf.to_dict().items() if v != defaults[k]}
    upstreams = [_shortest_upstream(upstream) for upstream in conf.upstreams]
    return {"upstreams": upstreams, **found}


def _shortest_upstream(conf: UpstreamConf) -> str | dict[str, Any]:
    changed = {f.name: f.default for f in fields(conf) if f.name != "name"}
    options = {k: v for k, v in asdict(conf).items() if v != changed.get(k, v)}
    return {"name": conf.name, **options} if options else conf.name
