"""Compares the systems of a group: relative gains, and the paper's claims."""

from collections.abc import Sequence

from espnet_ensemble.recipes.tables.systems import Claims, Families, Rates, System

#: Families -> word error rate, mean over the evaluation sets; those that are known.
Means = dict[Families, float]

HELD, NOT_HELD, UNKNOWN = "held", "not held", "not enough data"


def mean_rate(system: System, rates: Rates) -> float | None:
    """Mean over the system's evaluation sets; None where one is missing."""
    sets = system.corpus.sets
    if not all(name in rates for name in sets):
        return None
    return sum(rates[name] for name in sets) / len(sets)


def relative_gain(means: Means, families: Families) -> float | None:
    """How much lower the rate is than that of the best single member, in percent of it.

    Returns:
        None for a single upstream, and where the rate or that of a member is not known.

    Example:
        >>> means = {("a",): 20.0, ("b",): 10.0, ("a", "b"): 9.0}
        >>> relative_gain(means, ("a", "b"))
        10.0
    """
    singles = [(family,) for family in families]
    if len(families) == 1 or not all(key in means for key in (families, *singles)):
        return None
    best = min(means[single] for single in singles)
    return 100 * (best - means[families]) / best


def check_claims(
    claims: Claims, means: Means, combinations: Sequence[Families]
) -> dict[str, str]:
    """Whether the numbers of a group are as the paper says.

    "About" so many percent is half as much at least. What one number refutes is not
    held, whatever is missing.

    Args:
        combinations: All of the group, also those without a number.

    Returns:
        claim -> held, not held (with the number), or not enough data.

    Example:
        >>> means = {("a",): 20.0, ("b",): 10.0, ("a", "b"): 9.0}
        >>> claims = Claims(best=("a", "b"), gain=10, last="b")
        >>> for claim, verdict in check_claims(claims, means, list(means)).items():
        ...     print(f"{claim}: {verdict}")
        a+b is best: held
        a+b gains about 10 %: held (+10.0 %)
        b is last of the single ones: not held
        >>> check_claims(Claims(best=("a", "b")), {}, list(means))
        {'a+b is best': 'not enough data'}
    """
    best = "+".join(claims.best)
    verdicts = {f"{best} is best": _is_lowest(means, claims.best, combinations)}
    if claims.gain is not None:
        gain = relative_gain(means, claims.best)
        verdicts[f"{best} gains about {claims.gain:g} %"] = _is_gain(gain, claims.gain)
    if claims.last is not None:
        negative = {families: -rate for families, rate in means.items()}
        singles = [key for key in combinations if len(key) == 1]
        verdicts[f"{claims.last} is last of the single ones"] = _is_lowest(
            negative, (claims.last,), singles
        )
    return verdicts


def _is_lowest(means: Means, families: Families, rivals: Sequence[Families]) -> str:
    if families not in means:
        return UNKNOWN
    if any(means[rival] < means[families] for rival in rivals if rival in means):
        return NOT_HELD
    return HELD if all(rival in means for rival in rivals) else UNKNOWN


def _is_gain(gain: float | None, claimed: float) -> str:
    if gain is None:
        return UNKNOWN
    return f"{HELD if gain >= claimed / 2 else NOT_HELD} ({gain:+.1f} %)"
