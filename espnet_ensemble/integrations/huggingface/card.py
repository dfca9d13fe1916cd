"""The model card of an ensemble that transformers loads."""

from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2 import card
from espnet_ensemble.integrations.espnet2.manifest import Manifest


def encoder_card(
    name: str, conf: FrontendConf, manifest: Manifest, size: int, hop_ms: float
) -> str:
    """Write the model card, as the Hugging Face hub takes it.

    Args:
        name: What users call the model.
        conf: Its configuration.
        manifest: What is to be said of its upstreams.
        size: Features per frame.
        hop_ms: Milliseconds from one frame to the next.

    Returns:
        Markdown, with the hub's YAML at its beginning.
    """
    head = {
        "tags": ["espnet-ensemble", "audio", "speech"],
        "library_name": "transformers",
        "pipeline_tag": "feature-extraction",
    }
    what = (
        f"An encoder of speech: {card.summary(conf)}, {size} features every {hop_ms:g} ms, of "
        f"one channel at {manifest.fs} Hz. Features of an utterance do not depend on what it "
        "is batched with."
    )
    parts = [
        card.front_matter(head, manifest),
        f"# {name}",
        what,
        "## Use",
        _use(name, manifest.fs),
        "## Upstreams",
        card.upstream_table(conf, manifest),
        "## How it was made",
        f"The whole configuration is `frontend_conf` in `config.json`.\n\n"
        f"{card.versions(manifest)}",
    ]
    return "\n\n".join(parts) + "\n"


def _use(name: str, fs: int) -> str:
    return f"""\
With ESPnet-Ensemble installed (`pip install espnet-ensemble`, or `pip install .` in a checkout
of it):

```python
import torch
import espnet_ensemble
from transformers import AutoModel

model = AutoModel.from_pretrained("{name}")
speech = torch.zeros(2, {2 * fs})  # waveforms in [-1, 1] at {fs} Hz, padded at the end
mask = torch.ones(2, {2 * fs})  # 0 at the padding
output = model(speech, mask)
features, their_mask = output.last_hidden_state, output.attention_mask
```"""
