"""Compares the systems of a table: relative gains, and the paper's claims."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from espnet_ensemble.recipes.tables.systems import Claims, Families, Rates, System

#: Families -> word error rate, mean over the test sets; those that are known.
Means = dict[Families, float]
#: Corpus, size and head.
Group = tuple[str, str, str]

HELD, NOT_HELD, UNKNOWN = "held", "not held", "not enough data"
# "About" so many percent: between half and one and a half times as much.
_ABOUT = (0.5, 1.5)
# "Far better": at most this share of the word error rate.
_FAR = 0.5


def mean_rate(system: System, rates: Rates) -> float | None:
    """Mean over the sets that choose nothing in training; None where one is missing."""
    sets = system.corpus.unseen_sets
    if not all(name in rates for name in sets):
        return None
    return sum(rates[name] for name in sets) / len(sets)


def best_member(means: Means, families: Families) -> Families | None:
    """The single member of a combination that has the lowest rate.

    Returns:
        None for a single upstream, and where the rate of a member is not known.
    """
    singles = [(family,) for family in families]
    if len(families) == 1 or not all(single in means for single in singles):
        return None
    return min(singles, key=means.__getitem__)


def relative_gain(means: Means, families: Families) -> float | None:
    """How much lower the rate is than that of the best single member, in percent of it.

    Returns:
        None for a single upstream, and where the rate or that of a member is not known.

    Example:
        >>> means = {("a",): 20.0, ("b",): 10.0, ("a", "b"): 9.0}
        >>> relative_gain(means, ("a", "b"))
        10.0
    """
    member = best_member(means, families)
    if member is None or families not in means:
        return None
    return 100 * (means[member] - means[families]) / means[member]


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper, and whether numbers bear it out.

    Attributes:
        corpus: What was trained and evaluated on.
        size: Of the upstreams; two, where sizes are compared.
        head: The downstream model; two, where these are compared.
        claim: In words that say what is compared.
        answer: held, not held (with the numbers), or not enough data.
    """

    corpus: str
    size: str
    head: str
    claim: str
    answer: str


def check_claims(
    claims: Claims,
    groups: Mapping[Group, Sequence[Families]],
    means: dict[Group, Means],
) -> list[Verdict]:
    """Whether numbers are as the paper says.

    What one number refutes is not held, whatever is missing.

    Args:
        claims: What the paper says.
        groups: All combinations of each group, also those without a number.
        means: Of each group, those that are known.

    Example:
        >>> known = {("a",): 20.0, ("b",): 10.0, ("a", "b"): 9.0}
        >>> claims = Claims(best=("a", "b"), gain=10, order=("a", "b"))
        >>> group = ("words", "base", "ctc")
        >>> for verdict in check_claims(claims, {group: list(known)}, {group: known}):
        ...     print(f"{verdict.claim}: {verdict.answer}")
        a+b has the lowest rate: held (9.0)
        a+b is about 10 % (5 to 15) below its best member: held (+10.0 %)
        alone, a < b: not held (20.0, 10.0)
    """
    verdicts = [
        Verdict(*group, claim, answer)
        for group, combinations in groups.items()
        for claim, answer in _in_group(claims, means.get(group, {}), combinations)
    ]
    for comparison in (_larger, _gain_grows, _encoder):
        verdicts += comparison(claims, groups, means)
    return verdicts


def _in_group(
    claims: Claims, means: Means, combinations: Sequence[Families]
) -> Iterator[tuple[str, str]]:
    best = "+".join(claims.best)
    yield f"{best} has the lowest rate", _is_lowest(means, claims.best, combinations)
    if claims.gain is not None:
        low, high = (share * claims.gain for share in _ABOUT)
        about = f"about {claims.gain:g} % ({low:g} to {high:g})"
        gain = relative_gain(means, claims.best)
        yield f"{best} is {about} below its best member", _is_gain(gain, low, high)
    if claims.order:
        yield f"alone, {' < '.join(claims.order)}", _is_order(means, claims.order)
    if claims.hurts:
        pairs = list(_joined(claims.hurts, means, combinations))
        yield f"{claims.hurts} makes worse what it joins", _all_hold(pairs)


def _is_lowest(means: Means, families: Families, rivals: Sequence[Families]) -> str:
    if families not in means:
        return UNKNOWN
    known = [r for r in rivals if r in means and r != families]
    best = min(known, key=means.__getitem__, default=families)
    if best != families and means[best] <= means[families]:
        lower = f"{'+'.join(best)} {means[best]:.1f}"
        return f"{NOT_HELD} ({means[families]:.1f}, {lower})"
    held = all(rival in means for rival in rivals)
    return f"{HELD} ({means[families]:.1f})" if held else UNKNOWN


def _is_gain(gain: float | None, low: float, high: float) -> str:
    if gain is None:
        return UNKNOWN
    return f"{HELD if low <= gain <= high else NOT_HELD} ({gain:+.1f} %)"


def _is_order(means: Means, order: Families) -> str:
    known = [means[(family,)] for family in order if (family,) in means]
    numbers = ", ".join(f"{rate:.1f}" for rate in known)
    if known != sorted(set(known)):  # also where two are equal
        return f"{NOT_HELD} ({numbers})"
    return f"{HELD} ({numbers})" if len(known) == len(order) else UNKNOWN


@dataclass(frozen=True)
class _Pair:
    """Two rates, the first of which is claimed to be lower; None where one is not known."""

    name: str
    lower: float | None
    higher: float | None
    share: float = 1.0

    @property
    def holds(self) -> bool | None:
        if self.lower is None or self.higher is None:
            return None
        return self.lower < self.share * self.higher


def _all_hold(pairs: Sequence[_Pair]) -> str:
    """Whether all pairs are as claimed; the numbers of those that are not."""
    against = [pair for pair in pairs if pair.holds is False]
    known = sum(pair.holds is not None for pair in pairs)
    if against:
        numbers = (f"{p.name} {p.higher:.1f}, {p.lower:.1f}" for p in against)
        held = known - len(against)
        return f"{NOT_HELD} ({held} of {known} do; not: {'; '.join(numbers)})"
    if not pairs or known < len(pairs):
        return UNKNOWN
    return f"{HELD} ({known} of {known})"


def _joined(
    family: str, means: Means, combinations: Sequence[Families]
) -> Iterator[_Pair]:
    """Each combination without a family, beside the same with it."""
    by_members = {tuple(sorted(families)): families for families in combinations}
    for families in combinations:
        rest = tuple(sorted(f for f in families if f != family))
        if family in families and rest in by_members:
            without = by_members[rest]
            name = "+".join(without)
            yield _Pair(name, means.get(without), means.get(families))


def _larger(
    claims: Claims,
    groups: Mapping[Group, Sequence[Families]],
    means: dict[Group, Means],
) -> Iterator[Verdict]:
    for corpus, heads, (small, large) in _two_sizes(claims, groups):
        for head in heads:
            first, second = (means.get((corpus, s, head), {}) for s in (small, large))
            pairs = [
                _Pair("+".join(c), second.get(c), first.get(c))
                for c in groups[corpus, small, head]
            ]
            claim = f"every system is better with {large} upstreams than with {small}"
            sizes = f"{small}, {large}"
            yield Verdict(corpus, sizes, head, claim, _all_hold(pairs))


def _gain_grows(
    claims: Claims,
    groups: Mapping[Group, Sequence[Families]],
    means: dict[Group, Means],
) -> Iterator[Verdict]:
    if not claims.gain_grows:
        return
    best = "+".join(claims.best)
    for corpus, heads, (small, large) in _two_sizes(claims, groups):
        for head in heads:
            known = [means.get((corpus, size, head), {}) for size in (small, large)]
            gains = [relative_gain(m, claims.best) for m in known]
            claim = f"{best} gains more over its best member with {large} upstreams"
            answer = UNKNOWN
            if gains[0] is not None and gains[1] is not None:
                held = HELD if gains[1] > gains[0] else NOT_HELD
                answer = f"{held} ({gains[0]:+.1f} %, {gains[1]:+.1f} %)"
            yield Verdict(corpus, f"{small}, {large}", head, claim, answer)


def _two_sizes(
    claims: Claims, groups: Mapping[Group, Sequence[Families]]
) -> Iterator[tuple[str, list[str], tuple[str, ...]]]:
    """Corpora and heads that have both sizes of a claim, and these."""
    if not claims.larger:
        return
    small, large = claims.larger
    for corpus in dict.fromkeys(corpus for corpus, _, _ in groups):
        heads = [h for c, s, h in groups if (c, s) == (corpus, small)]
        both = [head for head in heads if (corpus, large, head) in groups]
        yield corpus, both, claims.larger


def _encoder(
    claims: Claims,
    groups: Mapping[Group, Sequence[Families]],
    means: dict[Group, Means],
) -> Iterator[Verdict]:
    if not claims.encoder:
        return
    alone, encoder = claims.encoder
    for corpus, size, head in groups:
        if head != alone or (corpus, size, encoder) not in groups:
            continue
        first, second = (means.get((corpus, size, h), {}) for h in (alone, encoder))
        pairs = [
            _Pair("+".join(c), second.get(c), first.get(c), _FAR)
            for c in groups[corpus, size, head]
        ]
        claim = f"encoder layers leave at most {_FAR:.0%} of the word error rate"
        yield Verdict(corpus, size, f"{alone}, {encoder}", claim, _all_hold(pairs))
