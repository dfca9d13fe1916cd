"""What a trained ensemble makes of its members: weights, and who gets which words right.

.. code-block:: none

    exp/asr_x/inspection/{index.html,inspection.json,*.png}
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import Linear, Module

from espnet_ensemble.analysis import html
from espnet_ensemble.analysis.charts import draw_bars
from espnet_ensemble.ensemble import Ensemble
from espnet_ensemble.files import write_text
from espnet_ensemble.integrations.espnet2.model import ESPnetCTCModel
from espnet_ensemble.recipes.ablation import contributions_rows
from espnet_ensemble.recipes.compare.comparison import Comparison
from espnet_ensemble.recipes.compare.report import heading, oracle_line


@dataclass(frozen=True)
class Weights:
    """How a model weighs its members.

    Attributes:
        layers: Member, where it has several layers -> hidden state -> its weight in their sum.
        members: Member -> its share: the softmax weight of ``fusion: weighted_sum``, or else
            the mean size of the weights that the first linear layer behind the fusion has for
            its features; none where neither is there.
        kind: What the shares of members are.
    """

    layers: dict[str, dict[int, float]]
    members: dict[str, float]
    kind: str


@dataclass(frozen=True)
class Words:
    """Words of the references, and which members alone recognise them.

    Attributes:
        total: How many there are.
        right: Member -> how many it gets right alone.
        only: Member -> how many it gets right, and no other does.
        none: How many no member gets right.
    """

    total: int
    right: dict[str, int]
    only: dict[str, int]
    none: int


def read_weights(model: ESPnetCTCModel) -> Weights:
    """Read how a model weighs its members.

    Args:
        model: A model with the frontend ``ensemble``.

    Raises:
        EnsembleError: If it has another frontend.
    """
    names, frontend = model.member_names, model.model.frontend
    layers = {
        name: dict(
            zip(upstream.layers, combine.weights.softmax(dim=0).tolist(), strict=True)
        )
        for name, upstream, combine in zip(
            names, frontend.upstreams, frontend.layers, strict=True
        )
        if hasattr(combine, "weights")
    }
    fused = getattr(frontend.fusion, "weights", None)
    if isinstance(fused, torch.Tensor) and len(fused) == len(names):
        shares, kind = fused.softmax(dim=0).tolist(), "weight in the fusion"
    else:
        shares = _input_shares(model.model, frontend)
        kind = "share of the first layer's weights"
    return Weights(layers, dict(zip(names, shares, strict=False)), kind)


def _input_shares(model: Module, frontend: Ensemble) -> list[float]:
    """Root mean square of the weights for each member's features, of what comes first."""
    sizes = frontend.projected_sizes
    inputs = [
        module
        for part in (getattr(model, "preencoder", None), model.encoder, model.ctc)
        if isinstance(part, Module)
        for module in part.modules()
        if isinstance(module, Linear) and module.in_features == sum(sizes)
    ]
    if not inputs or frontend.output_size() != sum(sizes):
        return []
    blocks = inputs[0].weight.detach().split(sizes, dim=1)
    norms = [float(block.square().mean().sqrt()) for block in blocks]
    return [norm / sum(norms) for norm in norms]


def count_words(alone: Comparison, members: Mapping[str, str]) -> Words:
    """Count who gets which words right.

    Args:
        alone: The decodings with each member alone.
        members: The name that a decoding has in the comparison -> its member.
    """
    names = [members[row.name] for row in alone.rows]
    right, only = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    total = none = 0
    for utterance in alone.utterances:
        for column in utterance.columns:
            if column.ref is None:
                continue
            total += 1
            knowing = [
                name
                for name, hyp in zip(names, column.hyps, strict=True)
                if hyp is not None and hyp.casefold() == column.ref.casefold()
            ]
            for name in knowing:
                right[name] += 1
            if len(knowing) == 1:
                only[knowing[0]] += 1
            none += not knowing
    return Words(total, right, only, none)


@dataclass(frozen=True)
class Inspected:
    """What was found on one dataset.

    Attributes:
        contributions: Decodings with all members, and with all but each.
        alone: Decodings with each alone; None: there is only one.
        words: What is right in these.
    """

    contributions: Comparison
    alone: Comparison | None
    words: Words | None


def write_inspection(
    weights: Weights,
    datasets: Sequence[Inspected],
    members: Sequence[str],
    folder: Path,
) -> Path:
    """Write ``index.html``, pictures and ``inspection.json``.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    if weights.members:
        draw_bars(folder / "members.png", {weights.kind: weights.members}, weights.kind)
        parts.append(html.picture("members.png", f"Members: {weights.kind}"))
    for name, layers in weights.layers.items():
        picture = f"layers_{name}.png"
        of_layers = {str(layer): weight for layer, weight in layers.items()}
        draw_bars(folder / picture, {name: of_layers}, "weight of the hidden state")
        parts.append(html.picture(picture, f"{name}: weights of its hidden states"))
    values: dict[str, Any] = {"weights": asdict(weights), "datasets": {}}
    for found in datasets:
        dataset = found.contributions.dataset
        titles, rows = contributions_rows(found.contributions, members)
        parts += [
            html.heading(heading(found.contributions)),
            html.paragraph("Members left out: their features are zero."),
            html.table(titles, rows),
        ]
        of_set: dict[str, Any] = {
            "subsets": {
                row.name: {"wer": row.wer, **asdict(row.interval), "p": row.p}
                for row in found.contributions.rows
            }
        }
        if found.alone is not None and found.words is not None:
            picture = f"words_{dataset.replace('/', '_')}.png"
            shares = {
                kind: {name: 100 * n / found.words.total for name, n in counts.items()}
                for kind, counts in (
                    ("right", found.words.right),
                    ("right, and of no other", found.words.only),
                )
            }
            draw_bars(folder / picture, shares, "words (%)")
            parts += [
                html.picture(picture, f"{dataset}: words that each member alone knows"),
                html.table(*_words_table(found.words)),
                html.paragraph(oracle_line(found.alone)),
            ]
            of_set |= {
                "words": asdict(found.words),
                "oracle": asdict(found.alone.oracle),
            }
        values["datasets"][dataset] = of_set
    write_text(folder / "inspection.json", json.dumps(values, indent=1) + "\n")
    write_text(folder / "index.html", html.page(f"{folder.parent.name}", parts))
    return folder / "index.html"


def _words_table(words: Words) -> tuple[list[str], list[list[str]]]:
    def share(count: int) -> str:
        return f"{100 * count / words.total:.1f} %"

    rows = [
        [name, share(words.right[name]), share(words.only[name])]
        for name in words.right
    ]
    rows.append(["none of them", share(words.none), ""])
    return ["member alone", "words right", "right, and of no other"], rows


def words_text(words: Words) -> str:
    """A line for a terminal.

    Example:
        >>> words_text(Words(10, {"a": 8, "b": 7}, {"a": 2, "b": 1}, 1))
        'Of 10 words, only a knows 2, only b 1, none 1.'
    """
    first, *others = words.only.items()
    parts = [f"only {first[0]} knows {first[1]}"]
    parts += [f"only {name} {count}" for name, count in others]
    return f"Of {words.total} words, {', '.join([*parts, f'none {words.none}'])}."
