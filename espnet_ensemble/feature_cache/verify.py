"""Looking for damage in a feature cache."""

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import check_records, read_index
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.member import INFO, Contents, MemberInfo
from espnet_ensemble.files import PathLike


def verify(cache_dir: PathLike) -> int:
    """Compare a cache with what extraction wrote.

    Every record of every archive is compared with its key and checksum, the tables of a
    member with the indices of its archives, and the members of a combination with one
    another.

    Returns:
        The number of records.

    Raises:
        CacheError: If there are no archives; or if something is damaged: it names all
            files that are, an archive with the first utterance.
    """
    cache_dir = Path(cache_dir)
    indices = sorted(cache_dir.glob("*/*/shards/*.index"))
    if not indices:
        raise CacheError(f"{cache_dir}: expected a feature cache, found no archives")
    damages: list[str] = []
    damaged_members = set()
    num_records = 0
    for index in tqdm(indices, desc="verify", unit=" archives", disable=None):
        try:
            entries = read_index(index)
            check_records(index.with_suffix(".ark"), entries)
        except CacheError as error:
            damages.append(str(error))
            damaged_members.add(index.parents[1])
        else:
            num_records += len(entries)
    advice = "the next extraction mends what is named"
    if damages:
        advice = (
            f"{len(damages)} of {len(indices)} archives are damaged; remove them, and "
            "the next extraction makes them anew and mends what else is named"
        )
    for info in sorted(cache_dir.glob(f"*/*/{INFO}")):
        if info.parent not in damaged_members:
            damages += _damages_of_member(info)
    if not damages:  # else, the combinations would say the same again
        damages += _damages_of_combinations(cache_dir)
    if damages:
        raise CacheError("\n".join([*damages, advice]))
    return num_records


def _damages_of_member(info: Path) -> list[str]:
    try:
        MemberInfo.read(info)
    except EnsembleError as error:
        return [f"{error}; remove {info.parent}"]
    return Contents.read(info.parent).damages


def _damages_of_combinations(cache_dir: Path) -> Iterator[str]:
    for path in sorted(cache_dir.glob("combinations/*/*/members.yaml")):
        try:
            FeatureCache(path)
        except EnsembleError as error:
            yield f"{path}: {error}"
