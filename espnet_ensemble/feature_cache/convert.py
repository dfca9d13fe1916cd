"""Caches of version 0.2 and older, made ones of now without running the upstreams.

Their archives are Kaldi's, ``shards/0000.ark``, each with ``0000.index`` (where its matrices are,
their checksums, and the audio that they are of) and maybe ``0000.skipped``.
"""

import zlib
from pathlib import Path

import torch
from tqdm import tqdm

from espnet_ensemble.data.matrices import COMPRESSED, FLOAT, NUMPY, read_matrix
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import ArchiveWriter, encode
from espnet_ensemble.feature_cache.identity import AudioIdentity
from espnet_ensemble.feature_cache.member import (
    INFO,
    Member,
    MemberInfo,
    OtherFormat,
)
from espnet_ensemble.feature_cache.shard import archive_name
from espnet_ensemble.files import PathLike, remove_unfinished

_MAGIC = {"float32": FLOAT, "float16": NUMPY, "int8": COMPRESSED}
_OLD_TABLES = ("feats.scp", "utt2num_frames", "utt2audio")


def convert(cache_dir: PathLike) -> int:
    """Convert the complete members of a cache that are of the first format.

    ``float32`` and ``float16`` stay the same to the bit; ``int8`` is rounded once more. An old
    archive is removed when the new one is there, so that little more than the cache's own space
    is needed. Killed and run again, it goes on.

    Returns:
        The number of members that were converted.

    Raises:
        EnsembleError: If an archive is damaged: it names the first utterance.
    """
    num_members = 0
    for path in sorted(Path(cache_dir).glob(f"*/*/{INFO}")):
        try:
            MemberInfo.read(path)
        except OtherFormat as error:
            if error.found != 1:
                raise
            _convert_member(path.parent)
            num_members += 1
    return num_members


def _convert_member(folder: Path) -> None:
    found = MemberInfo.read(folder / INFO, of_format=1)
    member = Member(folder, MemberInfo(found.features, found.storage))
    with member.lock():
        remove_unfinished(folder)
        indices = sorted(member.shards.glob("*.index"))
        for index in tqdm(indices, desc=f"convert {folder}", disable=None):
            path = member.shards / archive_name(int(index.stem))
            if not path.exists():
                _convert_archive(index, path, found.storage)
            for suffix in (".ark", ".skipped", ".index"):
                index.with_suffix(suffix).unlink(missing_ok=True)
        member.write_tables()
        for name in _OLD_TABLES:
            (folder / name).unlink(missing_ok=True)
        # Last: until then, it is of the first format, and would be converted again.
        member.info.write(folder / INFO)


def _convert_archive(index: Path, path: Path, storage: str) -> None:
    writer, ark = ArchiveWriter(), index.with_suffix(".ark")
    try:
        with ark.open("rb") as file:
            for utt_id, line in read_table(index).items():
                offset, num_bytes, checksum, _, audio = line.split(maxsplit=4)
                file.seek(int(offset))
                if zlib.crc32(file.read(int(num_bytes))) != int(checksum):
                    raise ValueError(f"other features of {utt_id!r} than were written")
                file.seek(int(offset))
                feats = torch.from_numpy(read_matrix(file, _MAGIC[storage])).float()
                writer.add(utt_id, encode(feats, storage), AudioIdentity.parse(audio))
    except (OSError, ValueError) as error:
        raise CacheError(
            f"{ark}: expected an archive as version 0.2 wrote it, found {error}; remove "
            f"{ark.parents[1]} to extract anew"
        ) from error
    skipped = index.with_suffix(".skipped")
    writer.write(path, read_table(skipped) if skipped.exists() else {})
