"""The results of a table: in Markdown, and as a chart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from espnet_ensemble.files import atomic_write, write_text
from espnet_ensemble.recipes.tables.comparison import (
    Means,
    check_claims,
    mean_rate,
    relative_gain,
)
from espnet_ensemble.recipes.tables.experiments import Experiment, Variant
from espnet_ensemble.recipes.tables.states import read_state
from espnet_ensemble.recipes.tables.systems import ExperimentTable, Rates, System

Group = tuple[str, str, str]


@dataclass(frozen=True)
class SystemResult:
    """A system with its word error rates.

    Attributes:
        system: The system, with the paper's rates.
        ours: Our rates.
        max_epoch: Epochs that its training has.
    """

    system: System
    ours: Rates
    max_epoch: int

    def rates(self, source: str) -> Rates:
        """The rates of the paper, or ours.

        Args:
            source: "paper" or "ours".
        """
        return self.system.paper if source == "paper" else self.ours


@dataclass(frozen=True)
class TableReport:
    """What there is to report of a table.

    Attributes:
        table: The table.
        results: Of all its systems.
        variant: How the systems differ from the paper's.
    """

    table: ExperimentTable
    results: Sequence[SystemResult]
    variant: Variant

    @property
    def name(self) -> str:
        """What the files are called, without suffix, such as "table2_layer8"."""
        return "_".join(filter(None, [self.table.name, self.variant.name]))

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose numbers there are: the paper's, where it gives some, and ours."""
        return ("paper", "ours") if self.table.is_published else ("ours",)

    def groups(self) -> dict[Group, list[SystemResult]]:
        """The results by what they have in common: corpus, size and head."""
        groups: dict[Group, list[SystemResult]] = {}
        for result in self.results:
            groups.setdefault(result.system.group, []).append(result)
        return groups

    def titles(self, group: Group) -> list[str]:
        """What a reader calls corpus, size and head of a group."""
        corpus = self.groups()[group][0].system.corpus
        return [corpus.title, group[1], self.table.heads[group[2]]]


def collect(root: Path, table: ExperimentTable, variant: Variant) -> TableReport:
    """Read the results of all systems of a table.

    Args:
        root: The checkout in which they were run.
        table: The table.
        variant: How the systems differ from the paper's.

    Raises:
        EnsembleError: If a configuration or a result cannot be read.
    """
    results = []
    for system in table.systems:
        experiment = Experiment(root, system, variant)
        rates = read_state(experiment).rates
        results.append(SystemResult(system, rates, experiment.max_epoch))
    return TableReport(table, results, variant)


def write_report(report: TableReport, folder: Path) -> list[Path]:
    """Write ``<name>.md`` and ``<name>.png``.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text, chart = folder / f"{report.name}.md", folder / f"{report.name}.png"
    draw(report, chart)
    write_text(text, render(report, chart.name))
    return [text, chart]


def render(report: TableReport, chart: str) -> str:
    """The text of the Markdown file.

    Args:
        report: What to tell.
        chart: The picture, relative to the file.
    """
    table = report.table
    options = f" {report.variant.options}".rstrip()
    run = f"espnet-ensemble table --table {table.label}{options}"
    parts = [f"# Table {table.label}{options}: {table.title}"]
    parts.append(_WHAT if table.is_published else _WHAT_OURS)
    if options and table.is_published:
        parts.append("The paper's numbers are of its own systems, without the options.")
    parts.append(
        f"Made by `{run} --collect`. Below each title is what runs its systems; with "
        f"`--upstreams {table.systems[-1].combination}` it runs one of them."
    )
    parts.append(f"![Mean word error rates of all systems]({chart})")
    for group, results in report.groups().items():
        parts += [f"## {', '.join(report.titles(group))}", _training(results, run)]
        parts.append(_group_table(results, report.sources))
    if table.claims:
        parts += ["## The paper's claims", _CLAIMS, claims_table(report)]
    return "\n\n".join(parts) + "\n"


_WHAT = """\
Word error rates in percent, without a language model: the paper's, and ours. Ours are
empty where nobody has run the system, the paper's where its cell is empty. Gain: how much
lower the mean over the sets is than that of the best single member, in percent of it."""
_WHAT_OURS = """\
Word error rates in percent, without a language model; empty where nobody has run the
system. Gain: how much lower the mean over the sets is than that of the best single member,
in percent of it."""
_CLAIMS = """\
On the means over the sets. "About" so many percent is half as much at least."""


def summary(report: TableReport) -> str:
    """What matters in short: the paper's claims; without any, the tables of all groups."""
    if report.table.claims:
        return claims_table(report)
    parts = []
    for group, results in report.groups().items():
        parts += [", ".join(report.titles(group))]
        parts += [_group_table(results, report.sources)]
    return "\n\n".join(parts)


def claims_table(report: TableReport) -> str:
    """Whether the paper's claims hold, by the numbers that there are."""
    claims = report.table.claims
    if claims is None:
        return ""
    lines = []
    for group, results in report.groups().items():
        combinations = [result.system.families for result in results]
        verdicts = [
            check_claims(claims, _means(results, source), combinations)
            for source in report.sources
        ]
        for claim in verdicts[0]:
            cells = [verdict[claim] for verdict in verdicts]
            lines.append([*report.titles(group), claim, *cells])
    titles = {"paper": "the paper's numbers", "ours": "ours"}
    headers = ["corpus", "size", "head", "claim"]
    headers += [titles[source] for source in report.sources]
    return tabulate(lines, headers, "github")


def draw(report: TableReport, path: Path) -> None:
    """Draw a bar for the mean word error rate of each system: the paper's and ours.

    Args:
        report: What to draw.
        path: The picture, PNG.
    """
    # Takes seconds: who only lists systems need not wait.
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = len(report.table.heads)
    groups = report.groups()
    lines = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(8 * columns, 4 * lines),
        layout="constrained",
        squeeze=False,
    )
    for panel, (group, results) in zip(axes.flat, groups.items(), strict=False):
        panel.set_title(", ".join(report.titles(group)))
        _draw_group(panel, results, report.sources)
    with atomic_write(path) as part:
        figure.savefig(part, dpi=100, format="png")
    plt.close(figure)


def _draw_group(panel, results: list[SystemResult], sources: tuple[str, ...]) -> None:
    """Draw the bars of a group on matplotlib's axes."""
    width = 0.8 / len(sources)
    for number, source in enumerate(sources):
        means, shift = _means(results, source), number - (len(sources) - 1) / 2
        heights = {
            place + shift * width: means[result.system.families]
            for place, result in enumerate(results)
            if result.system.families in means
        }
        bars = panel.bar(list(heights), list(heights.values()), width, label=source)
        panel.bar_label(bars, fmt="%.1f", fontsize=8)
    names = [result.system.combination.replace("+", "\n+ ") for result in results]
    panel.set_xticks(range(len(results)), names)
    panel.set_xlim(-0.6, len(results) - 0.4)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("word error rate (%), mean over the sets")
    if len(sources) > 1:
        panel.legend()


def _training(results: list[SystemResult], run: str) -> str:
    """How a group is trained, and what runs it."""
    system = results[0].system
    name, size, head = system.group
    return (
        f"Trained on {system.corpus.train_set} ({system.corpus.hours:g} h) for "
        f"{results[0].max_epoch} epochs: "
        f"`{run} --corpus {name} --size {size} --head {head} --run`"
    )


def _means(results: list[SystemResult], source: str) -> Means:
    """Those means over the evaluation sets that are known."""
    means = {}
    for result in results:
        mean = mean_rate(result.system, result.rates(source))
        if mean is not None:
            means[result.system.families] = mean
    return means


def _group_table(results: list[SystemResult], sources: tuple[str, ...]) -> str:
    """A row for each combination."""
    sets = results[0].system.corpus.sets
    means = [_means(results, source) for source in sources]
    lines = []
    for result in results:
        line = [result.system.combination]
        for name in sets:
            line += [_cell(result.rates(source).get(name)) for source in sources]
        line += [_cell(relative_gain(m, result.system.families), "+.1f") for m in means]
        lines.append(line)
    headers = ["upstreams"]
    for name in (*sets, "gain"):
        headers += [name] if len(sources) == 1 else [f"{name}: paper", "ours"]
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(lines, headers, "github", colalign=align, disable_numparse=True)


def _cell(number: float | None, style: str = ".2f") -> str:
    return "" if number is None else format(number, style)
