"""The results of a table, and their page in Markdown."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

from tabulate import tabulate

from espnet_ensemble.analysis.bootstrap import format_p_value
from espnet_ensemble.recipes.tables.comparison import (
    Group,
    Means,
    best_member,
    check_claims,
    mean_rate,
    relative_gain,
)
from espnet_ensemble.recipes.tables.experiments import Experiment, Setup
from espnet_ensemble.recipes.tables.measures import (
    Measures,
    read_measures,
    sets_without_posteriors,
)
from espnet_ensemble.recipes.tables.rivals import RIVALS, combined_rates
from espnet_ensemble.recipes.tables.significance import half_width, paired_p_value
from espnet_ensemble.recipes.tables.systems import (
    ExperimentTable,
    Families,
    Rates,
    System,
)
from espnet_ensemble.recipes.tables.variants import LAST_EPOCH


@dataclass(frozen=True)
class SystemResult:
    """A system with its error rates.

    Attributes:
        system: The system, with the paper's rates.
        experiments: One for each seed.
        runs: What each of them came to.
        head_title: What a reader calls its downstream model.
        method: How the outputs of its single members are combined; "": it is a system of
            its own, on fused features.
    """

    system: System
    experiments: Sequence[Experiment]
    runs: Sequence[Measures]
    head_title: str
    method: str = ""

    def rates(self, source: str) -> Rates:
        """Word error rates of the paper, or ours, the mean over the seeds that have it.

        Args:
            source: "paper" or "ours".
        """
        return self.system.paper if source == "paper" else self.mean_over_seeds("wer")

    def mean_over_seeds(self, metric: str) -> Rates:
        """Our rates of each set.

        Args:
            metric: "wer" or "cer".
        """
        found = [getattr(run, metric) for run in self.runs]
        known = {
            name: [rates[name] for rates in found if name in rates]
            for name in self.system.corpus.sets
        }
        return {name: fmean(rates) for name, rates in known.items() if rates}

    @property
    def means_of_seeds(self) -> list[float]:
        """The mean word error rate over the test sets of each seed that has them."""
        means = [mean_rate(self.system, run.wer) for run in self.runs]
        return [mean for mean in means if mean is not None]

    @property
    def label(self) -> str:
        """Its combination, and whether it is beside the paper's systems."""
        if self.method:
            return f"{self.system.combination} ({self.method})"
        control = " (control)" if self.system.part == "control" else ""
        return self.system.combination + control


@dataclass(frozen=True)
class TableReport:
    """What there is to report of a table.

    Attributes:
        table: The table.
        results: Of all its systems.
        setup: How they are made.
        seeds: Of their trainings.
    """

    table: ExperimentTable
    results: Sequence[SystemResult]
    setup: Setup
    seeds: Sequence[int]

    @property
    def name(self) -> str:
        """What the files are called, without suffix, such as "table2_layer8"."""
        return "_".join(filter(None, [self.table.name, self.setup.name]))

    @property
    def options(self) -> str:
        """The options of ``espnet-ensemble table`` that make these systems."""
        words = [f"--table {self.table.label}", self.setup.options]
        if list(self.seeds) != [0]:
            words.append(f"--seeds {','.join(map(str, self.seeds))}")
        return " ".join(filter(None, words))

    @property
    def command(self) -> str:
        """The command that makes these systems, without what it is to do."""
        return f"espnet-ensemble table {self.options}"

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose numbers there are: the paper's, where it gives some, and ours."""
        return ("paper", "ours") if self.table.is_published else ("ours",)

    @cached_property
    def groups(self) -> dict[Group, list[SystemResult]]:
        """The results by what they have in common: corpus, size and head."""
        groups: dict[Group, list[SystemResult]] = {}
        for result in self.results:
            groups.setdefault(result.system.group, []).append(result)
        return groups

    def means(self, group: Group, source: str) -> Means:
        """Those means over the test sets that are known, of fused features."""
        means = {}
        for result in self.groups[group]:
            if result.method:
                continue
            mean = mean_rate(result.system, result.rates(source))
            if mean is not None:
                means[result.system.families] = mean
        return means

    def title(self, group: Group) -> str:
        """What a reader calls corpus, size and head of a group."""
        first = self.groups[group][0]
        part = {"paper": "", "reading": " (another reading)", "control": " (control)"}
        is_paper = any(r.system.part == "paper" for r in self.groups[group])
        note = "" if is_paper else part[first.system.part]
        return f"{first.system.corpus.title}, {group[1]}, {first.head_title}{note}"


def collect(
    root: Path, table: ExperimentTable, setup: Setup, seeds: Sequence[int]
) -> TableReport:
    """Read the results of all systems of a table, controls and other readings included.

    Args:
        root: The checkout in which they were run.
        table: The table.
        setup: How the systems are made.
        seeds: Of their trainings.

    Raises:
        EnsembleError: If a configuration or a result cannot be read.
    """
    results = []
    for system in table.systems:
        experiments = [Experiment(root, system, replace(setup, seed=s)) for s in seeds]
        runs = [read_measures(experiment) for experiment in experiments]
        title = experiments[0].head_title
        results.append(SystemResult(system, experiments, runs, title))
    return TableReport(table, [*results, *_rivals(results)], setup, seeds)


def _rivals(results: Sequence[SystemResult]) -> Iterator[SystemResult]:
    """Outputs of single systems, combined, in place of the paper's fused features."""
    single = {(r.system.group, r.system.families): r for r in results}
    for result in results:
        system = result.system
        members = [single.get((system.group, (family,))) for family in system.families]
        if system.part != "paper" or len(members) == 1 or None in members:
            continue
        # The best goes first: it has the last word where votes are equal.
        known = sorted((m for m in members if m is not None), key=_valid_cer)
        trained = [member.experiments for member in known]
        for rival in RIVALS:
            rates = [combined_rates(rival, same) for same in zip(*trained, strict=True)]
            if any(rates):
                runs = [
                    replace(run, wer=wer, cer={}, parameters="", epochs=[])
                    for run, wer in zip(result.runs, rates, strict=True)
                ]
                control = replace(system, part="control", paper={})
                title, method = result.head_title, rival.title
                yield SystemResult(control, result.experiments, runs, title, method)


def _valid_cer(result: SystemResult) -> float:
    """The lowest character error rate of the validation set."""
    return min((e.valid_cer for run in result.runs for e in run.epochs), default=1.0)


def render(report: TableReport, charts: Sequence[str]) -> str:
    """The text of the Markdown file.

    Args:
        report: What to tell.
        charts: The pictures, relative to the file: rates, and learning curves if any.
    """
    run = report.command
    variant = report.results[0].experiments[0].variant
    options = report.options.partition(" ")[2]
    parts = [f"# Table {options}: {report.table.title}"]
    parts.append(
        f"Variant `{variant.name}`: {variant.title}. See [paper.md](../paper.md)."
    )
    parts.append(_WHAT_PAPER if report.table.is_published else _WHAT)
    if any(result.system.doubtful for result in report.results):
        parts.append("A question mark follows a number that looks like a misprint.")
    parts.append(
        f"Made by `{run} --collect`. Below each title is what runs its systems; with "
        f"`--upstreams {report.table.systems[0].combination}` it runs one of them."
    )
    for chart, what in zip(charts, _PICTURES, strict=False):
        parts.append(f"![{what}]({chart})")
    for group in report.groups:
        parts += [f"## {report.title(group)}", _training(report, group, run)]
        parts += filter(
            None,
            [
                rates_table(report, group),
                _without_posteriors(report, group),
                costs_table(report, group),
            ],
        )
    if report.table.claims:
        parts += ["## The paper's claims", claims_table(report)]
    return "\n\n".join(parts) + "\n"


_PICTURES = ("Mean word error rates of all systems", "Learning curves of all systems")
_WHAT = """\
Word error rates in percent, without a language model; empty where nobody has run the
system. Systems are compared by sets that choose nothing: one that chooses the epoch which is
decoded (below each title) favours its own numbers. Test mean: over the other sets; with several
seeds, plus and minus half of its 95 % interval over them. Gain: how much lower the test mean is
than that of the best single member, in percent of it. p: how likely a difference of the two test
means at least as clear is without any: a paired bootstrap over the same utterances, drawn from
each test set by itself, 10000 draws."""
_WHAT_PAPER = f"The paper's numbers, and ours. {_WHAT}"


def summary(report: TableReport) -> str:
    """What matters in short: the paper's claims; without any, the tables of all groups.

    And what is missing though its systems have run.
    """
    parts = [claims_table(report)] if report.table.claims else []
    for group in report.groups:
        if not report.table.claims:
            parts += [report.title(group), rates_table(report, group)]
        parts += filter(None, [_without_posteriors(report, group)])
    return "\n\n".join(parts)


def claims_table(report: TableReport) -> str:
    """Whether the paper's claims hold, by the paper's numbers and by ours.

    Other readings of the paper have the same numbers of it, and are here as soon as there
    are any of ours.
    """
    claims = report.table.claims
    if claims is None:
        return ""
    groups = {group: list(_claimed(report, group)) for group in report.groups}
    groups = {
        group: combinations for group, combinations in groups.items() if combinations
    }
    verdicts = [
        check_claims(claims, groups, {g: report.means(g, source) for g in groups})
        for source in report.sources
    ]
    lines = [
        [first.corpus, first.size, first.head, first.claim, *(v.answer for v in same)]
        for same in zip(*verdicts, strict=True)
        for first in same[:1]
    ]
    titles = {"paper": "the paper's numbers", "ours": "ours"}
    headers = ["corpus", "size", "head", "claim"]
    headers += [titles[source] for source in report.sources]
    return tabulate(lines, headers, "github")


def _claimed(report: TableReport, group: Group) -> Iterator[Families]:
    """The combinations of a group that the paper speaks of."""
    has_ours = bool(report.means(group, "ours"))
    for result in report.groups[group]:
        part = result.system.part
        if part == "paper" or (part == "reading" and has_ours):
            yield result.system.families


def _training(report: TableReport, group: Group, run: str) -> str:
    """How a group is trained, and what runs it."""
    result = report.groups[group][0]
    system = result.system
    name, size, head = group
    parts = {r.system.part for r in report.groups[group]}
    part = "all" if len(parts) > 1 else system.part
    run += "" if part == "paper" else f" --part {part}"
    valid = " and ".join(system.corpus.valid_sets)
    experiment = result.experiments[0]
    chosen = f", one chosen by {valid}" if valid else ""
    if experiment.variant.asr_model == LAST_EPOCH:
        chosen = ", the last one decoded"
    return (
        f"Trained on {system.corpus.train_set} ({system.corpus.hours:g} h) for "
        f"{experiment.max_epoch} epochs{chosen}: "
        f"`{run} --corpus {name} --size {size} --head {head} --run`"
    )


def _without_posteriors(report: TableReport, group: Group) -> str:
    """What runs the systems of a group whose posteriors are missing; "": none."""
    found = [
        result.system.combination
        for result in report.groups[group]
        if not result.method and any(map(sets_without_posteriors, result.experiments))
    ]
    if not found:
        return ""
    corpus, size, head = group
    return (
        f"The mean of posteriors is missing, as {', '.join(found)} did not keep them. This "
        f"decodes again what did not: `{report.command} --corpus {corpus} --size {size} "
        f"--head {head} --run`"
    )


def rates_table(report: TableReport, group: Group) -> str:
    """Word error rates of a group: a row for each combination."""
    results, sources = report.groups[group], report.sources
    sets = results[0].system.corpus.sets
    fused = {source: report.means(group, source) for source in sources}
    lines = []
    for result in results:
        means = {
            source: _means_with(result, fused[source], source) for source in sources
        }
        families = result.system.families
        line = [result.label]
        for name in sets:
            line += [_rate(result, source, name) for source in sources]
        line += [_mean(result, source, means[source]) for source in sources]
        line += [_cell(relative_gain(means[s], families), "+.1f") for s in sources]
        line.append(_p_value(report, group, result))
        lines.append(line)
    headers = ["upstreams"]
    for name in (*sets, "test mean", "gain"):
        headers += [name] if len(sources) == 1 else [f"{name}: paper", "ours"]
    return _markdown(lines, [*headers, "p"])


def costs_table(report: TableReport, group: Group) -> str:
    """What else is known of a group's systems that have been trained; "" if none has."""
    results = [r for r in report.groups[group] if any(run.epochs for run in r.runs)]
    if not results:
        return ""
    sets = results[0].system.corpus.sets
    lines = []
    for result in results:
        cers = result.mean_over_seeds("cer")
        line = [result.label, *(_cell(cers.get(name)) for name in sets)]
        line.append(next((r.parameters for r in result.runs if r.parameters), ""))
        line.append(_minutes(result, lambda run: run.train_seconds))
        line.append(_minutes(result, lambda run: run.decode_seconds))
        lines.append(line)
    headers = ["upstreams", *(f"{name}: CER" for name in sets), "parameters trained"]
    return _markdown(lines, [*headers, "training, min", "decoding, min"])


def _markdown(lines: list[list[str]], headers: list[str]) -> str:
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(lines, headers, "github", colalign=align, disable_numparse=True)


def _means_with(result: SystemResult, means: Means, source: str) -> Means:
    """Means of a group, in which a vote takes the place of the system on fused features."""
    if not result.method:
        return means
    others = {f: mean for f, mean in means.items() if f != result.system.families}
    own = mean_rate(result.system, result.rates(source))
    return others if own is None else {**others, result.system.families: own}


def _rate(result: SystemResult, source: str, name: str) -> str:
    doubt = "?" if source == "paper" and name in result.system.doubtful else ""
    return _cell(result.rates(source).get(name)) + doubt


def _mean(result: SystemResult, source: str, means: Means) -> str:
    """The mean, and over how many seeds it is, with half the interval."""
    mean = _cell(means.get(result.system.families))
    seeds = result.means_of_seeds if source == "ours" else []
    if len(seeds) < 2:
        return mean
    return f"{mean} ± {half_width(seeds):.2f} ({len(seeds)} seeds)"


def _p_value(report: TableReport, group: Group, result: SystemResult) -> str:
    """Of the system and the best of its members; "" where there is nothing to compare."""
    member = best_member(report.means(group, "ours"), result.system.families)
    if member is None or result.method or not result.means_of_seeds:
        return ""
    (single,) = [r for r in report.groups[group] if r.system.families == member]
    p = paired_p_value(result.experiments, single.experiments)
    if p is None:
        return ""
    return format_p_value(p)


def _minutes(result: SystemResult, seconds: Callable[[Measures], float | None]) -> str:
    """Mean over the seeds."""
    known = [s for s in map(seconds, result.runs) if s is not None]
    return f"{fmean(known) / 60:.1f}" if known else ""


def _cell(number: float | None, style: str = ".2f") -> str:
    return "" if number is None else format(number, style)
