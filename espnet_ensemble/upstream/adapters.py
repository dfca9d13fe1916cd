"""Adapters of languages, which MMS checkpoints have beside their weights."""

from typing import Any

from safetensors.torch import load_file
from transformers.utils import cached_file

from espnet_ensemble.upstream.errors import UpstreamError


def load_adapter(
    name: str,
    model: Any,
    language: str,
    cache_dir: str | None = None,
    revision: str | None = None,
) -> None:
    """Give a model the adapters of a language.

    They are those of ``Wav2Vec2ForCTC.load_adapter``; the CTC layer that comes with them is
    left out, as those of other checkpoints are.

    Args:
        name: Hub id or folder.
        model: The encoder, in place.
        language: Such as "deu", as the files ``adapter.<language>.safetensors`` have it.
        cache_dir: Where transformers keeps what it downloads; None: its default.
        revision: Commit, tag or branch of a hub id.

    Raises:
        UpstreamError: If the model takes no adapters, or there are none of that language.
    """
    expected = {
        f"{path}.{key}"
        for path, module in model.named_modules()
        if path.endswith(".adapter_layer")
        for key in module.state_dict()
    }
    if not expected:
        raise UpstreamError(
            f"upstream {name!r}: language: {language!r}: expected a checkpoint with adapters "
            "(adapter_attn_dim in config.json, such as facebook/mms-1b-all), found none"
        )
    file = f"adapter.{language}.safetensors"
    try:
        path = cached_file(name, file, cache_dir=cache_dir, revision=revision)
    except OSError as error:
        raise UpstreamError(
            f"upstream {name!r}: language: expected {file}, found none: {error}"
        ) from error
    found = {
        key.removeprefix("wav2vec2."): value
        for key, value in load_file(str(path)).items()
        if not key.startswith("lm_head.")
    }
    if found.keys() != expected:
        different = sorted(found.keys() ^ expected)[0]
        raise UpstreamError(
            f"upstream {name!r}: {file}: expected the adapters of all layers; {different} is "
            f"{'missing' if different in expected else 'of no layer'}"
        )
    model.load_state_dict(found, strict=False)
