"""Each upstream of an experiment alone, trained alike, beside all of them together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from espnet_ensemble.analysis.bootstrap import format_p_value
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.compare.comparison import Comparison, compare
from espnet_ensemble.recipes.compare.systems import read_systems
from espnet_ensemble.recipes.decodings import common_datasets
from espnet_ensemble.recipes.training_config import TrainingConfig

#: In the experiment's folder: an experiment for each upstream.
MEMBERS = "members"
# What only several upstreams need.
_JOINT = ("fusion", "fusion_conf", "member_dropout", "member_warmup")


def member_frontends(config: TrainingConfig) -> dict[str, dict[str, Any]]:
    """Frontends of one upstream each, with the options that the ensemble has.

    Args:
        config: Of the ensemble.

    Returns:
        What each upstream is called -> ``frontend`` and ``frontend_conf``.

    Raises:
        EnsembleError: If the configuration has another frontend, or one upstream.

    Example:
        >>> conf = {"upstreams": ["up/wavlm", "up/hubert"], "member_warmup": {"num_batches": 9}}
        >>> config = TrainingConfig("train", {"frontend": "ensemble", "frontend_conf": conf})
        >>> for name, frontend in member_frontends(config).items():
        ...     print(name, frontend["frontend_conf"])
        wavlm {'upstreams': ['up/wavlm']}
        hubert {'upstreams': ['up/hubert']}
    """
    conf = config.frontend_conf()
    if conf is None or len(conf.upstreams) == 1:
        raise EnsembleError(
            f"{config.stem}: expected frontend: ensemble with several upstreams"
        )
    given: Mapping[str, Any] = config.content["frontend_conf"]
    shared = {key: value for key, value in given.items() if key not in _JOINT}
    return {
        name: {
            "frontend": "ensemble",
            "frontend_conf": {**shared, "upstreams": [entry]},
        }
        for name, entry in zip(conf.member_names, given["upstreams"], strict=True)
    }


def compare_members(exp_dir: Path, inference_tag: str) -> list[Comparison]:
    """Compare the members' experiments, in the folder of the ensemble's, with that.

    Args:
        exp_dir: The ensemble's experiment.
        inference_tag: Decoding of all.

    Returns:
        One for each dataset that all have decoded; the ensemble is the baseline.

    Raises:
        EnsembleError: If there is no member's experiment, or no dataset that all have.
    """
    alone = sorted((exp_dir / MEMBERS).glob(f"*/{inference_tag}"))
    if not alone:
        raise EnsembleError(
            f"{exp_dir / MEMBERS}: expected an experiment for each upstream, with "
            f"{inference_tag}, found none: asr.sh --compare_members true makes them"
        )
    decodings = [exp_dir / inference_tag, *alone]
    names = ["together", *(f"{decoding.parent.name} alone" for decoding in alone)]
    found = []
    for dataset in common_datasets(decodings):
        found.append(compare(dataset, read_systems(decodings, dataset), names=names))
    return found


def render_members(comparison: Comparison) -> str:
    """Lay out a comparison of members: a table, and the answer."""
    lines = [
        [
            row.name,
            f"{row.wer:.2f}",
            f"{row.interval.low:.2f} to {row.interval.high:.2f}",
            "" if row.p is None else format_p_value(row.p),
        ]
        for row in sorted(comparison.rows, key=lambda row: (row.p is None, -row.wer))
    ]
    titles = ("system", "WER", "95 %", "p")
    align = ("left", "right", "right", "right")
    table = tabulate(lines, titles, "github", disable_numparse=True, colalign=align)
    return f"{table}\n\n{_answer(comparison)}"


def _answer(comparison: Comparison) -> str:
    together = comparison.rows[comparison.baseline - 1]
    best = min((r for r in comparison.rows if r.p is not None), key=lambda r: r.wer)
    assert best.p is not None
    change = 100 * (together.wer - best.wer) / best.wer if best.wer else 0.0
    more = "more" if change > 0 else "fewer"
    p = format_p_value(best.p)
    return (
        f"{comparison.dataset}: together {abs(change):.0f} % {more} errors than the best "
        f"alone, {best.name.removesuffix(' alone')} (paired bootstrap: "
        f"p {p if p.startswith('<') else f'= {p}'})"
    )
