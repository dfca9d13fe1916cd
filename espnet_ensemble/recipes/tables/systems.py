"""Reads ``conf/tables``: the systems of a table, and the paper's word error rates."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, check_keys, read_yaml
from espnet_ensemble.layers import Layer

#: Families of a system's upstreams, such as ("wavlm", "hubert").
Families = tuple[str, ...]
#: Evaluation set -> word error rate in percent; a set without one is left out.
Rates = dict[str, float]

#: Keys of a table's file -> what a system there is: one of the paper; one by another
#: reading of what it says; or one that a reviewer asks for beside them.
PARTS = {"systems": "paper", "readings": "reading", "controls": "control"}


@dataclass(frozen=True)
class CorpusConf:
    """An entry of ``corpora``: what a system is trained and evaluated on.

    Attributes:
        name: Its key in the table.
        title: What a reader calls it.
        recipe: The recipe ``egs2/<recipe>/asr1``.
        train_set: Training set, one of the recipe's.
        hours: How much speech that is.
        sets: Evaluation sets, of the recipe's.
        valid_sets: Those of them that choose the epoch which is decoded.
        lang: What tells its folders from those of another training set of the recipe.
        asr_conf: What its amount of speech changes in training configurations.
    """

    name: str
    title: str
    recipe: str
    train_set: str
    hours: float
    sets: tuple[str, ...]
    valid_sets: tuple[str, ...] = ()
    lang: str | None = None
    asr_conf: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unseen_sets(self) -> tuple[str, ...]:
        """Evaluation sets that choose nothing: what systems are compared by."""
        return tuple(name for name in self.sets if name not in self.valid_sets)

    @classmethod
    def parse(cls, where: str, name: str, conf: Any) -> "CorpusConf":
        """Read an entry of ``corpora``.

        Args:
            where: What the entry is called in messages.
            name: Its key.
            conf: What YAML gives.

        Raises:
            EnsembleError: If a key is missing or unknown, or no set is left to compare by.
        """
        required = ["title", "recipe", "train_set", "hours", "sets"]
        optional = ["valid_sets", "lang", "asr_conf"]
        check_keys(where, _mapping(where, conf), required, optional)
        sets, valid = tuple(conf["sets"]), tuple(conf.get("valid_sets", ()))
        corpus = cls(name, **{**conf, "sets": sets, "valid_sets": valid})
        if not set(valid) <= set(sets) or not corpus.unseen_sets:
            raise EnsembleError(
                f"{where}: valid_sets: expected some of {', '.join(sets)}, not all, found "
                f"{', '.join(valid)}"
            )
        return corpus


@dataclass(frozen=True)
class Head:
    """An entry of ``heads``: a downstream model, which is trained on features.

    Attributes:
        name: Its key in the table; ``conf/train_asr_<name>.yaml`` of the recipe has it.
        title: What a reader calls it.
        layer: Of every upstream, as ``frontend_conf`` takes it.
    """

    name: str
    title: str
    layer: Layer = "last"

    @classmethod
    def parse(cls, where: str, name: str, conf: Any) -> "Head":
        """Read an entry of ``heads``: a title, or keys and values.

        Raises:
            EnsembleError: If a key is missing or unknown.
        """
        if isinstance(conf, str):
            return cls(name, conf)
        check_keys(where, _mapping(where, conf), ["title"], ["layer"])
        return cls(name, **conf)


@dataclass(frozen=True)
class System:
    """One system: a cell of the table, with a word error rate for each evaluation set.

    Attributes:
        corpus: Training and evaluation sets.
        size: Size of its upstreams, such as "base".
        families: Those of its upstreams, such as ("wavlm", "hubert").
        upstreams: Checkpoints, as the frontend takes them, in the order of ``families``.
        head: The downstream model, which is trained on their features: encoder and CTC
            layer.
        max_epoch: Epochs of training; None: as many as the head's configuration says.
        inference_config: How it is decoded.
        paper: The paper's word error rates; empty where it gives none.
        doubtful: Sets whose rate in the paper looks like a misprint.
        part: "paper", "reading" or "control".
        random: Those of its upstreams that have random weights -> the checkpoint whose
            architecture they have.
        save_posteriors: Whether its decoding keeps posteriors: for their mean with those of
            other single upstreams.
        first: That of ``families`` which is said to be the best alone; the first one where
            nothing is said.
    """

    corpus: CorpusConf
    size: str
    families: Families
    upstreams: tuple[str, ...]
    head: Head
    max_epoch: int | None
    inference_config: str
    paper: Rates
    doubtful: frozenset[str] = frozenset()
    part: str = "paper"
    random: Mapping[str, str] = field(default_factory=dict)
    save_posteriors: bool = False
    first: str = ""

    @property
    def combination(self) -> str:
        """Its families as the table writes them: "wavlm+hubert"."""
        return "+".join(self.families)

    @property
    def group(self) -> tuple[str, str, str]:
        """What systems have in common that differ in their families only."""
        return self.corpus.name, self.size, self.head.name

    def __str__(self) -> str:
        return f"{self.corpus.name} {self.size} {self.combination} {self.head.name}"


@dataclass(frozen=True)
class Claims:
    """What the paper says of a table's systems.

    Attributes:
        best: The combination with the lowest word error rate of a group.
        gain: How much lower it is, about, than that of its best member, in percent of
            that; None: nothing is said.
        order: Single upstreams, from the lowest rate to the highest.
        hurts: An upstream that makes worse what it joins; None: nothing is said.
        larger: Two sizes; every system is better with the second.
        gain_grows: Whether the gain is larger with the second of these sizes.
        encoder: Two heads; the second, with encoder layers, is far better.
    """

    best: Families
    gain: float | None = None
    order: Families = ()
    hurts: str | None = None
    larger: tuple[str, ...] = ()
    gain_grows: bool = False
    encoder: tuple[str, ...] = ()

    @classmethod
    def parse(cls, where: str, conf: Any) -> "Claims":
        """Read what YAML gives.

        Raises:
            EnsembleError: If a key is missing or unknown.
        """
        optional = ["gain", "order", "hurts", "larger", "gain_grows", "encoder"]
        check_keys(where, _mapping(where, conf), ["best"], optional)
        lists = {k: tuple(v) for k, v in conf.items() if isinstance(v, list)}
        return cls(**{**conf, **lists, "best": _families(conf["best"])})


@dataclass(frozen=True)
class ExperimentTable:
    """A table of experiments, such as one of the paper's.

    Attributes:
        name: Of its file, without suffix, such as "table2".
        title: What it is about.
        systems: In the table's order, part by part.
        claims: What the paper says of it; None: nothing.
    """

    name: str
    title: str
    systems: tuple[System, ...]
    claims: Claims | None = None

    @property
    def label(self) -> str:
        """What ``--table`` takes: "2" for table2, "mini_synth" for mini_synth."""
        return self.name.removeprefix("table")

    @property
    def is_published(self) -> bool:
        """Whether there are numbers of the paper to compare with."""
        return any(system.paper for system in self.systems)


def find_experiment_table(root: Path, name: str) -> Path:
    """The file of a table in the checkout ``root``.

    Args:
        name: Such as "2" or "table2" for ``conf/tables/table2.yaml``, or "mini_synth".

    Raises:
        EnsembleError: If there is none.
    """
    files = sorted((root / "conf" / "tables").glob("*.yaml"))
    tables = {path.stem.removeprefix("table"): path for path in files}
    path = tables.get(name.removeprefix("table"))
    if path is None:
        raise EnsembleError(f"--table {name}: expected one of {', '.join(tables)}")
    return path


def read_experiment_table(path: PathLike) -> ExperimentTable:
    """Read a file of ``conf/tables``.

    Raises:
        EnsembleError: If it is missing or no YAML, or a key or a number is wrong.
    """
    path = Path(path)
    conf = read_yaml(path)
    required = ["title", "inference_config", "corpora", "heads", "sizes", "systems"]
    optional = ["max_epoch", "save_posteriors", "claims", "readings", "controls"]
    check_keys(str(path), conf, required, optional)
    keeps = conf.get("save_posteriors", False)
    if not isinstance(keeps, bool):
        raise EnsembleError(
            f"{path}: save_posteriors: expected true or false, found {keeps!r}"
        )
    for key in ("corpora", "heads", "sizes"):
        _mapping(f"{path}: {key}", conf[key])
    corpora = {
        name: CorpusConf.parse(f"{path}: corpora.{name}", name, corpus)
        for name, corpus in conf["corpora"].items()
    }
    heads = {
        name: Head.parse(f"{path}: heads.{name}", name, head)
        for name, head in conf["heads"].items()
    }
    claims = conf.get("claims")
    claims = None if claims is None else Claims.parse(f"{path}: claims", claims)
    order = claims.order if claims else ()
    systems = tuple(
        _system(path, conf, corpora, heads, order, part, keys, rates)
        for part in PARTS
        for keys, rates in _leaves(path, conf.get(part, {}), (part,))
    )
    return ExperimentTable(path.stem, conf["title"], systems, claims)


def select(systems: Sequence[System], **wanted: str | None) -> Sequence[System]:
    """Those systems that have what is wanted.

    Args:
        wanted: Any of part, corpus, size, upstreams (``wavlm+hubert``, in any order) and
            head; None: all.

    Raises:
        EnsembleError: If none has it.
    """
    for key, value in wanted.items():
        if value is None:
            continue
        known = {_value(system, key): None for system in systems}
        found = [s for s in systems if _same(key, _value(s, key), value)]
        if not found:
            raise EnsembleError(
                f"--{key} {value}: expected one of {', '.join(known)} (with the other "
                "options given)"
            )
        systems = found
    return systems


def _value(system: System, key: str) -> str:
    return {
        "part": system.part,
        "corpus": system.corpus.name,
        "size": system.size,
        "upstreams": system.combination,
        "head": system.head.name,
    }[key]


def _same(key: str, value: str, wanted: str) -> bool:
    if key == "upstreams":
        return sorted(_families(value)) == sorted(_families(wanted))
    return value == wanted


def _families(combination: str) -> Families:
    return tuple(name.strip() for name in combination.split("+"))


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EnsembleError(f"{where}: expected keys and values, found {value!r}")
    return value


def _leaves(
    path: Path, tree: Any, keys: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Go through corpus, size, upstreams and head, down to the word error rates."""
    if len(keys) == 5:
        yield keys[1:], tree
        return
    for key, branch in _mapping(f"{path}: {'.'.join(keys)}", tree).items():
        yield from _leaves(path, branch, (*keys, key))


def _system(
    path: Path,
    conf: dict,
    corpora: dict[str, CorpusConf],
    heads: dict[str, Head],
    order: Families,
    part: str,
    keys: tuple[str, ...],
    rates: Any,
) -> System:
    where = f"{path}: {'.'.join((part, *keys))}"
    corpus, size, combination, head = keys
    families = _families(combination)
    checkpoints = conf["sizes"].get(size, {})
    for key, known in (
        (corpus, corpora),
        (size, conf["sizes"]),
        *((family, checkpoints) for family in families),
        (head, heads),
    ):
        if key not in known:
            raise EnsembleError(f"{where}: {key}: expected one of {', '.join(known)}")
    upstreams = [_upstream(where, checkpoints[family]) for family in families]
    paper, doubtful = _rates(where, corpora[corpus].sets, rates)
    return System(
        corpus=corpora[corpus],
        size=size,
        families=families,
        upstreams=tuple(name for name, _ in upstreams),
        head=heads[head],
        max_epoch=_max_epoch(path, conf, size),
        inference_config=conf["inference_config"],
        paper=paper,
        doubtful=doubtful,
        part=PARTS[part],
        random={name: source for name, source in upstreams if source},
        # Nobody takes the mean of others.
        save_posteriors=part == "systems"
        and len(families) == 1
        and conf.get("save_posteriors", False),
        first=next((family for family in order if family in families), families[0]),
    )


def _max_epoch(path: Path, conf: dict, size: str) -> int | None:
    """Epochs of training: of all systems, or by the size of their upstreams."""
    given = conf.get("max_epoch")
    by_size = given if isinstance(given, dict) else dict.fromkeys(conf["sizes"], given)
    check_keys(f"{path}: max_epoch", by_size, [], list(conf["sizes"]))
    epochs = by_size.get(size)
    if epochs is not None and (type(epochs) is not int or epochs < 1):
        raise EnsembleError(
            f"{path}: max_epoch: expected a number of epochs, or one for each of "
            f"{', '.join(conf['sizes'])}, found {given!r}"
        )
    return epochs


def _upstream(where: str, checkpoint: Any) -> tuple[str, str | None]:
    """The name of an upstream, and whose architecture it has if its weights are random."""
    if isinstance(checkpoint, str):
        return checkpoint, None
    check_keys(where, _mapping(where, checkpoint), ["random_weights"])
    source = checkpoint["random_weights"]
    return f"exp/random_weights/{Path(source).name}-random", source


def _rates(
    where: str, sets: tuple[str, ...], rates: Any
) -> tuple[Rates, frozenset[str]]:
    """The numbers of a system, and which of them are doubtful: those like ``66.77?``.

    null stands for none, for one set or for all.
    """
    if rates is None:
        return {}, frozenset()
    read = [_rate(rate) for rate in rates] if isinstance(rates, list) else []
    if len(read) != len(sets) or not all(
        rate is None or type(rate) in (int, float) for rate in read
    ):
        raise EnsembleError(
            f"{where}: expected null, or a number or null for each of "
            f"{', '.join(sets)}, found {rates!r}"
        )
    doubtful = {
        name for name, rate in zip(sets, rates, strict=True) if isinstance(rate, str)
    }
    numbers = {
        name: rate for name, rate in zip(sets, read, strict=True) if rate is not None
    }
    return numbers, frozenset(doubtful)


def _rate(value: Any) -> Any:
    """The number before a question mark; what has none, as it is."""
    if isinstance(value, str) and re.fullmatch(r"\d+\.\d+\?", value):
        return float(value.removesuffix("?"))
    return value
