"""Looking for damage in a feature cache."""

import zlib
from pathlib import Path

from tqdm import tqdm

from espnet_ensemble.feature_cache.store import CacheError, read_index
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
            num_records += _verify_archive(index)
        except CacheError as error:
            damages.append(str(error))
    if damages:
        raise CacheError(
            "\n".join(damages) + f"\n{len(damages)} of {len(indices)} archives are "
            "damaged; remove these files, and the next extraction makes them anew"
        )
    return num_records


def _verify_archive(index: Path) -> int:
    ark, entries = index.with_suffix(".ark"), read_index(index)
    try:
        with ark.open("rb") as f:
            for utterance, entry in entries.items():
                f.seek(entry.offset)
                matrix = f.read(entry.num_bytes)
                found = zlib.crc32(matrix)
                if len(matrix) < entry.num_bytes or found != entry.checksum:
                    raise CacheError(
                        f"{ark}: {utterance!r}: expected {entry.num_bytes} bytes with "
                        f"checksum {entry.checksum:08x}, found {len(matrix)} with "
                        f"{found:08x}"
                    )
    except OSError as error:
        raise CacheError(f"{ark}: {error.strerror}") from error
    return len(entries)
