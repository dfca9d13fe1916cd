"""An analysis as files: a page with pictures, values, configurations."""

import json
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from tabulate import tabulate

from espnet_ensemble.analysis import html
from espnet_ensemble.analysis.charts import draw_gains, draw_heat_map, draw_probes
from espnet_ensemble.analysis.study import Choice, Study
from espnet_ensemble.files import write_text, write_yaml

_TITLES = (
    "members",
    "CER",
    "95 %",
    "gain, %",
    "95 %",
    "parameters",
    "speech s/s",
    "cache, MB/h",
)
#: Picture -> what it shows.
_PICTURES = {
    "probes.png": "What each layer knows: character error rates of linear probes, with 95 % "
    "intervals.",
    "gain.png": "What combinations gain over the best layer alone, against their size.",
    "cka.png": "How alike layers are: linear CKA.",
    "svcca.png": "How alike layers are: SVCCA.",
    "prediction.png": "How well the best layer of each upstream (row) predicts that of each other "
    "(column): R² of a ridge regression, cross-validated.",
}


def choices_table(study: Study, number: int | None = None) -> str:
    """Lay out the ranked combinations for a terminal.

    Args:
        study: What was found.
        number: How many to show, at most; None: all.
    """
    rows = [_cells(study, choice) for choice in study.choices[:number]]
    align = ("left", *["right"] * (len(_TITLES) - 1))
    return tabulate(rows, _TITLES, "github", colalign=align, disable_numparse=True)


def write_report(study: Study, folder: Path) -> list[Path]:
    """Write ``index.html``, pictures, ``analysis.json`` and configurations.

    Args:
        study: What was found.
        folder: Where.

    Returns:
        Of each budget, from one member on, the file with the best ``frontend_conf``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw_probes(study, folder / "probes.png")
    draw_gains(study, folder / "gain.png")
    alike, predicted = study.similarities, study.predictions
    draw_heat_map(folder / "cka.png", alike.cka, alike.labels, "linear CKA")
    draw_heat_map(folder / "svcca.png", alike.svcca, alike.labels, "SVCCA")
    draw_heat_map(
        folder / "prediction.png",
        predicted.r2,
        predicted.labels,
        "R² of ridge regression",
        ("from", "to"),
    )
    write_text(folder / "analysis.json", json.dumps(_values(study), indent=1) + "\n")
    paths = []
    for number in range(1, max(len(c.members) for c in study.choices) + 1):
        path = folder / f"frontend_{number}.yaml"
        write_yaml(path, study.frontend_config(study.best_within(number)))
        paths.append(path)
    write_text(folder / "index.html", render_page(study))
    return paths


def render_page(study: Study) -> str:
    """The page; the pictures are beside it."""
    hours = study.sample.samples / study.frontend.fs / 3600
    about = (
        f"{hours:.2f} hours of speech: {len(study.sample.train)} utterances to learn from, "
        f"{len(study.sample.test)} held out. Gains are against the best layer alone, in percent "
        "of its errors. Probes are linear: a recogniser with encoder layers makes more of "
        "features that lie deeper, and can rank them otherwise."
    )
    rows = [_cells(study, choice) for choice in study.choices]
    parts = [
        html.paragraph(about),
        html.heading("Combinations, the best first"),
        html.table(_TITLES, rows),
        html.heading("The best of each budget"),
    ]
    for number in range(1, max(len(c.members) for c in study.choices) + 1):
        choice = study.best_within(number)
        name = f"frontend_{number}.yaml"
        parts.append(
            f'<p>Up to {number}: {escape(_name(study, choice))}, <a href="{name}">'
            f"{name}</a></p>"
        )
    parts += [html.picture(name, text) for name, text in _PICTURES.items()]
    titles = ("layer", "CER", "95 %", "CTC loss for each character")
    parts += [html.heading("All layers"), html.table(titles, _layer_rows(study))]
    return html.page("Choosing upstreams", parts)


def _name(study: Study, choice: Choice) -> str:
    return " + ".join(study.layers[i].label for i in choice.members)


def _cells(study: Study, choice: Choice) -> list[str]:
    span, gain, cost = choice.probe.interval, choice.gain, choice.cost
    return [
        _name(study, choice),
        f"{choice.probe.cer:.2f}",
        f"{span.low:.2f} to {span.high:.2f}",
        f"{gain.percent:+.1f}",
        f"{gain.interval.low:+.1f} to {gain.interval.high:+.1f}",
        f"{cost.parameters / 1e6:.1f} M",
        f"{cost.speed:.0f}",
        f"{cost.cache_mb:.0f}",
    ]


def _layer_rows(study: Study) -> list[list[str]]:
    rows = []
    for layer, probe in zip(study.layers, study.probes, strict=True):
        span = probe.interval
        rows.append(
            [
                layer.label,
                f"{probe.cer:.2f}",
                f"{span.low:.2f} to {span.high:.2f}",
                f"{probe.loss:.3f}",
            ]
        )
    return rows


def _values(study: Study) -> dict[str, Any]:
    return {
        "utterances": {
            "train": len(study.sample.train),
            "test": len(study.sample.test),
        },
        "layers": [
            {"name": layer.label, "cer": probe.cer, "loss": probe.loss}
            for layer, probe in zip(study.layers, study.probes, strict=True)
        ],
        "choices": [
            {
                "members": [study.layers[i].label for i in choice.members],
                "cer": choice.probe.cer,
                "gain": asdict(choice.gain),
                **asdict(choice.cost),
            }
            for choice in study.choices
        ],
        "similarities": study.similarities.to_dict(),
        "predictions": study.predictions.to_dict(),
    }
