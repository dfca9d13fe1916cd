"""Looking for damage in a feature cache."""

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import SUFFIX, Archive
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.index import INDEX, differs
from espnet_ensemble.feature_cache.member import INFO, Member, OtherFormat
from espnet_ensemble.files import PathLike


def verify(cache_dir: PathLike) -> int:
    """Compare a cache with what extraction wrote.

    All features of every archive are compared with their checksums, the index of a member
    with the headers of its archives, and the members of a combination with one another.

    Returns:
        The number of records, which is that of utterances, in all members together.

    Raises:
        CacheError: If there are no archives; or if something is damaged: it names all
            files that are, an archive with the first utterance.
    """
    cache_dir = Path(cache_dir)
    paths = sorted(cache_dir.glob(f"*/*/shards/*/*{SUFFIX}"))
    infos = sorted(cache_dir.glob(f"*/*/{INFO}"))
    if not paths and not infos:
        raise CacheError(f"{cache_dir}: expected a feature cache, found no archives")
    damages: list[str] = []
    damaged_members = set()
    num_records = 0
    for path in tqdm(paths, desc="verify", unit=" archives", disable=None):
        try:
            archive = Archive.read(path)
            archive.check()
        except CacheError as error:
            damages.append(str(error))
            damaged_members.add(path.parents[2])
        else:
            num_records += len(archive.entries)
    advice = "the next extraction mends what is named"
    if damages:
        advice = (
            f"{len(damages)} of {len(paths)} archives are damaged; remove them, and "
            "the next extraction makes them anew and mends what else is named"
        )
    for info in infos:
        if info.parent not in damaged_members:
            damages += filter(None, [_damage_of_member(info.parent)])
    if not damages:  # else, the combinations would say the same again
        damages += _damages_of_combinations(cache_dir)
    if damages:
        raise CacheError("\n".join([*damages, advice]))
    return num_records


def _damage_of_member(folder: Path) -> str | None:
    try:
        member = Member.open(folder)
    except OtherFormat:
        raise
    except EnsembleError as error:
        return f"{error}; remove {folder}"
    try:
        damage = member.damage()
        if damage is None and differs(folder, member.archives(), member.shards):
            return f"{folder / INDEX}: expected what the archives say, found something else"
    except CacheError as error:
        return str(error)
    return damage


def _damages_of_combinations(cache_dir: Path) -> Iterator[str]:
    for path in sorted(cache_dir.glob("combinations/*/*/members.yaml")):
        try:
            FeatureCache(path)
        except EnsembleError as error:
            yield f"{path}: {error}"
