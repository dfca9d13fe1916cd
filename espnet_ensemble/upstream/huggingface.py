"""Upstreams from transformers: a hub id or a local folder."""

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import transformers
from huggingface_hub.utils import enable_progress_bars
from transformers import AutoConfig, AutoFeatureExtractor, PretrainedConfig
from transformers.utils import logging

from espnet_ensemble.layers import Layer, layer_indices
from espnet_ensemble.upstream.adapters import load_adapter
from espnet_ensemble.upstream.base import Upstream
from espnet_ensemble.upstream.checkpoint_files import check_index
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.families import FAMILIES, UNSUPPORTED
from espnet_ensemble.upstream.unreadable import UNREADABLE, unreadable

# Parts of a checkpoint that hidden states do not need: SpecAugment and layer drop belong
# to pre-training, the adapter subsamples what the last layer gives.
_INFERENCE = dict(
    apply_spec_augment=False,
    mask_time_prob=0.0,
    mask_feature_prob=0.0,
    layerdrop=0.0,
    encoder_layerdrop=0.0,
    speech_encoder_layerdrop=0.0,
    add_adapter=False,
    use_cache=False,
    # Granite Speech Plus puts hidden states beside the last one.
    cat_hidden_layers=None,
)


def load_huggingface(
    name: str,
    layer: Layer = "last",
    cache_dir: str | None = None,
    revision: str | None = None,
    language: str | None = None,
) -> Upstream:
    """Load an upstream with transformers.

    A checkpoint that was fine-tuned with a head (CTC, classification) loads without it.

    Args:
        name: Hub id (``microsoft/wavlm-large``) or local folder.
        layer: See :func:`espnet_ensemble.layers.layer_indices`.
        cache_dir: Where transformers keeps what it downloads; None: its default.
        revision: Commit, tag or branch of a hub id; None: its main branch.
        language: Of a checkpoint with adapters of languages (MMS), which to use; None: the
            one that its weights have.

    Raises:
        UpstreamError: If the checkpoint is not found or reachable, is of another family,
            lacks weights, or that language, or lacks its ``preprocessor_config.json``; or if its index of
            weights names files outside of its folder.
        EnsembleError: If there is no such layer.
    """
    if os.path.isdir(name):
        check_index(name)
    fetch = partial(_fetch, name=name, cache_dir=cache_dir, revision=revision)
    checkpoint = read_config(name, cache_dir, revision)
    family = FAMILIES[checkpoint.model_type]
    config = family.encoder_config(checkpoint)
    layers = layer_indices(layer, getattr(config, family.num_layers))
    extractor = fetch(AutoFeatureExtractor)
    set_for_inference(config)
    try:
        encoder = family.encoder_class()
    except (ImportError, AttributeError) as e:
        raise _unknown_to_transformers(name, checkpoint.model_type) from e
    renamed = {f"^{family.weights}": ""} if family.weights else None
    with quiet():
        model, loading = fetch(
            encoder,
            config=family.loaded_config(checkpoint),
            dtype=torch.float32,
            output_loading_info=True,
            key_mapping=renamed,
        )
    if missing := sorted(loading["missing_keys"]):
        more = f" and {len(missing) - 9} more" if len(missing) > 9 else ""
        raise UpstreamError(
            f"upstream {name!r} lacks weights, which would be random: "
            f"{', '.join(missing[:9])}{more}"
        )
    model = family.set_up(model, extractor)
    if language is not None:
        load_adapter(name, model, language, cache_dir, revision)
    return family.build(name, model.eval(), extractor, layers)


def set_for_inference(config: PretrainedConfig) -> None:
    """Switch off, in an encoder's configuration, what hidden states do not need."""
    for option, value in _INFERENCE.items():
        if hasattr(config, option):
            setattr(config, option, value)


def _unsupported(name: str, model_type: str) -> UpstreamError:
    close = difflib.get_close_matches(model_type, FAMILIES, n=1)
    nearest, why = UNSUPPORTED.get(model_type, (next(iter(close), None), ""))
    advice = f" The nearest of these is {nearest!r}." if nearest else ""
    return UpstreamError(
        f"upstream {name!r} is a {model_type!r} model{why and f' ({why})'}; expected one "
        f"of {', '.join(FAMILIES)}.{advice}"
    )


def _unknown_to_transformers(name: str, model_type: str) -> UpstreamError:
    known = "is supported from a newer one on: pip install --upgrade transformers"
    if model_type not in FAMILIES:
        known = f"is none of the supported families {', '.join(FAMILIES)}"
    return UpstreamError(
        f"upstream {name!r} is a {model_type!r} model, which transformers "
        f"{transformers.__version__} does not have; it {known}"
    )


def read_config(
    name: str, cache_dir: str | None = None, revision: str | None = None
) -> PretrainedConfig:
    """Read what a checkpoint says of its architecture; download that where need be.

    Args:
        name: As of :func:`load_huggingface`, and so are the others.

    Raises:
        UpstreamError: If it is not found or reachable, or of another family.
    """
    config = _fetch(AutoConfig, name, cache_dir, revision=revision)
    if config.model_type not in FAMILIES:
        raise _unsupported(name, config.model_type)
    return config


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from reporting the head that is left out at each loading.

    And from a progress bar for the second that reading weights takes, which would mix with
    the bars of who loads. That of a download stays.
    """
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if has_bars:
        logging.disable_progress_bar()  # the hub's, too
        enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _fetch(auto_class, name: str, cache_dir: str | None, **kwargs):
    # Without trust_remote_code, transformers would ask whether to run a repository's code.
    kwargs["trust_remote_code"] = False
    try:
        return auto_class.from_pretrained(name, cache_dir=cache_dir, **kwargs)
    except UNREADABLE as e:
        raise unreadable(name, e) from e
    except (OSError, ValueError) as e:
        if "does not recognize this architecture" in str(e):
            model_type = str(e).partition("`")[2].partition("`")[0]
            raise _unknown_to_transformers(name, model_type) from e
        if "trust_remote_code" in str(e):
            raise UpstreamError(
                f"upstream {name!r} needs code of its own; expected a model of one of the "
                f"families {', '.join(FAMILIES)}, or, for code that you have read and trust, "
                "trust_remote_code: true and revision, the commit, in frontend_conf"
            ) from e
        raise UpstreamError(f"upstream {name!r}: {e}\n{_advice(name)}") from e


def _advice(name: str) -> str:
    if os.path.isdir(name):
        return (
            "A folder needs config.json, preprocessor_config.json and model.safetensors, as "
            "written by save_pretrained() of the model and of its feature extractor."
        )
    return (
        f"Without access to the hub, run `hf download {name} --local-dir DIR` on a machine "
        "that has it, copy DIR here, and give the folder instead of the id."
    )
