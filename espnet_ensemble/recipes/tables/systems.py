"""Reads ``conf/tables``: the systems of a table, and the paper's word error rates."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike

Members = tuple[str, ...]
#: Evaluation set -> word error rate in percent; a set without one is left out.
Rates = dict[str, float]

_KEYS = (
    "title",
    "inference_config",
    "max_epoch",
    "corpora",
    "heads",
    "sizes",
    "claims",
    "systems",
)
_OPTIONAL = {"max_epoch"}


class TableError(EnsembleError):
    """A table of experiments, or what was asked of it, is not what it should be."""


@dataclass(frozen=True)
class Corpus:
    """What a system is trained and evaluated on.

    Attributes:
        name: Its key in the table.
        title: What a reader calls it.
        recipe: The recipe ``egs2/<recipe>/asr1``.
        train_set: Training set, one of the recipe's.
        hours: How much speech that is.
        sets: Evaluation sets, of the recipe's.
        lang: What tells its folders from those of another training set of the recipe.
    """

    name: str
    title: str
    recipe: str
    train_set: str
    hours: float
    sets: tuple[str, ...]
    lang: str | None = None


@dataclass(frozen=True)
class System:
    """One system: a cell of the table, with a word error rate for each evaluation set.

    Attributes:
        corpus: Training and evaluation sets.
        size: Size of its upstreams, such as "base".
        members: Families of its upstreams, such as ("wavlm", "hubert").
        upstreams: Checkpoints, as the frontend takes them, in the order of ``members``.
        head: What is trained: the recipe's ``conf/train_asr_<head>.yaml``.
        max_epoch: Epochs of training; None: as many as that file says.
        inference_config: How it is decoded.
        paper: The paper's word error rates.
    """

    corpus: Corpus
    size: str
    members: Members
    upstreams: tuple[str, ...]
    head: str
    max_epoch: int | None
    inference_config: str
    paper: Rates

    @property
    def combination(self) -> str:
        """Its members as the table writes them: "wavlm+hubert"."""
        return "+".join(self.members)

    @property
    def group(self) -> tuple[str, str, str]:
        """What systems have in common that differ in their members only."""
        return self.corpus.name, self.size, self.head

    def __str__(self) -> str:
        return f"{self.corpus.name} {self.size} {self.combination} {self.head}"


@dataclass(frozen=True)
class Claims:
    """What the paper says of the systems of a group.

    Attributes:
        best: The combination with the lowest word error rate.
        gain: How much lower it is, about, than that of its best member, in percent of
            that; None: nothing is said.
        last: The single upstream with the highest; None: nothing is said.
    """

    best: Members
    gain: float | None = None
    last: str | None = None


@dataclass(frozen=True)
class ExperimentTable:
    """A table of the paper.

    Attributes:
        name: Such as "table2".
        title: What it is about.
        heads: Head -> what a reader calls it.
        claims: What the paper says of it.
        systems: In the table's order.
    """

    name: str
    title: str
    heads: dict[str, str]
    claims: Claims
    systems: list[System]


def read_experiment_table(path: PathLike) -> ExperimentTable:
    """Read a file of ``conf/tables``.

    Raises:
        TableError: If it is missing or no YAML, or a key or a number is wrong.
    """
    path = Path(path)
    try:
        conf = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TableError(f"{path}: {error}") from error
    _check_keys(path, conf)
    try:
        corpora = {
            name: Corpus(name, **{**corpus, "sets": tuple(corpus["sets"])})
            for name, corpus in conf["corpora"].items()
        }
        claims = Claims(**{**conf["claims"], "best": _members(conf["claims"]["best"])})
    except (TypeError, KeyError, AttributeError) as error:
        raise TableError(f"{path}: corpora or claims: {error}") from error
    systems = [
        _system(path, conf, corpora, keys, rates)
        for keys, rates in _leaves(path, conf["systems"])
    ]
    return ExperimentTable(path.stem, conf["title"], conf["heads"], claims, systems)


def select(systems: list[System], **wanted: str | None) -> list[System]:
    """Those systems that have what is wanted.

    Args:
        wanted: Any of corpus, size, upstreams (``wavlm+hubert``, in any order) and head;
            None: all.

    Raises:
        TableError: If none has it.
    """
    for key, value in wanted.items():
        if value is None:
            continue
        known = {_value(system, key): None for system in systems}
        found = [s for s in systems if _same(key, _value(s, key), value)]
        if not found:
            raise TableError(
                f"--{key} {value}: expected one of {', '.join(known)} (with the other "
                "options given)"
            )
        systems = found
    return systems


def _value(system: System, key: str) -> str:
    return {
        "corpus": system.corpus.name,
        "size": system.size,
        "upstreams": system.combination,
        "head": system.head,
    }[key]


def _same(key: str, value: str, wanted: str) -> bool:
    if key == "upstreams":
        return sorted(_members(value)) == sorted(_members(wanted))
    return value == wanted


def _members(combination: str) -> Members:
    return tuple(name.strip() for name in combination.split("+"))


def _check_keys(path: Path, conf: Any) -> None:
    if not isinstance(conf, dict):
        raise TableError(f"{path}: expected keys and values, found {conf!r}")
    wrong = sorted(set(conf) - set(_KEYS)) + sorted(set(_KEYS) - _OPTIONAL - set(conf))
    if wrong:
        raise TableError(
            f"{path}: {wrong[0]}: unknown or missing; expected {', '.join(_KEYS)}"
        )


def _leaves(path: Path, tree: Any, keys: tuple[str, ...] = ()):
    """Go through corpus, size, upstreams and head, down to the word error rates."""
    if len(keys) == 4:
        yield keys, tree
        return
    if not isinstance(tree, dict):
        where = ".".join(("systems", *keys))
        raise TableError(f"{path}: {where}: expected keys and values, found {tree!r}")
    for key, branch in tree.items():
        yield from _leaves(path, branch, (*keys, key))


def _system(path: Path, conf: dict, corpora: dict, keys: tuple, rates: Any) -> System:
    where = f"{path}: systems.{'.'.join(keys)}"
    corpus, size, combination, head = keys
    members = _members(combination)
    for key, known in (
        (corpus, corpora),
        (size, conf["sizes"]),
        *((member, conf["sizes"].get(size, {})) for member in members),
        (head, conf["heads"]),
    ):
        if key not in known:
            raise TableError(f"{where}: {key}: expected one of {', '.join(known)}")
    sets = corpora[corpus].sets
    if (
        not isinstance(rates, list)
        or len(rates) != len(sets)
        or not all(rate is None or type(rate) in (int, float) for rate in rates)
    ):
        raise TableError(
            f"{where}: expected a number or null for each of {', '.join(sets)}, found "
            f"{rates!r}"
        )
    return System(
        corpus=corpora[corpus],
        size=size,
        members=members,
        upstreams=tuple(conf["sizes"][size][member] for member in members),
        head=head,
        max_epoch=conf.get("max_epoch"),
        inference_config=conf["inference_config"],
        paper={name: rate for name, rate in zip(sets, rates) if rate is not None},
    )
