"""Looking for damage in a feature cache."""

from pathlib import Path

from tqdm import tqdm

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import check_records, read_index
from espnet_ensemble.files import PathLike


def verify(cache_dir: PathLike) -> int:
    """Compare every record of every archive with its checksum.

    Returns:
        The number of records.

    Raises:
        CacheError: If there are no archives; or if some are damaged: it names them, with
            the first utterance that is.
    """
    indices = sorted(Path(cache_dir).glob("*/*/shards/*.index"))
    if not indices:
        raise CacheError(f"{cache_dir}: expected a feature cache, found no archives")
    damages: list[str] = []
    num_records = 0
    for index in tqdm(indices, desc="verify", unit=" archives", disable=None):
        try:
            entries = read_index(index)
            check_records(index.with_suffix(".ark"), entries)
        except CacheError as error:
            damages.append(str(error))
        else:
            num_records += len(entries)
    if damages:
        raise CacheError(
            "\n".join(damages) + f"\n{len(damages)} of {len(indices)} archives are "
            "damaged; remove these files, and the next extraction makes them anew"
        )
    return num_records
