"""The results of a table on disk: a page in Markdown, and its charts."""

from pathlib import Path

from espnet_ensemble.files import write_text
from espnet_ensemble.recipes.tables.report import TableReport, render


def write_report(report: TableReport, folder: Path) -> list[Path]:
    """Write ``<name>.md``, ``<name>.png`` and, if anything has trained, its curves.

    Returns:
        The files.
    """
    # Takes seconds: who only lists systems need not wait.
    from espnet_ensemble.recipes.tables.charts import draw_curves, draw_rates

    folder.mkdir(parents=True, exist_ok=True)
    charts = [folder / f"{report.name}.png"]
    draw_rates(report, charts[0])
    if any(run.epochs for result in report.results for run in result.runs):
        charts.append(folder / f"{report.name}_curves.png")
        draw_curves(report, charts[1])
    text = folder / f"{report.name}.md"
    write_text(text, render(report, [chart.name for chart in charts]))
    return [text, *charts]
