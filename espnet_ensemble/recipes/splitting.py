"""A training set in parts, which ESPnet's ``--multiple_iterator true`` reads one after the other.

Then no process holds the tables of more than a part at a time.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from espnet2.bin.split_scps import split_scps

from espnet_ensemble.data.streams import SortedRows
from espnet_ensemble.data.tables import read_rows, write_rows
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.dataset import read_combination
from espnet_ensemble.files import PathLike, write_text, write_yaml

#: Folder of the parts of cached features.
FEATS = "feats"


def split_training(
    tables: Sequence[PathLike],
    output_dir: PathLike,
    num_splits: int,
    members: PathLike | None = None,
) -> None:
    """Deal the lines of tables to parts: ``<output_dir>/<name of the table>/split.<part>``.

    Features are not copied: each part has a ``members.yaml`` of all of them, and takes those
    that its shape files list.

    Args:
        tables: Tables of the same utterances, such as ``wav.scp``, ``text`` and shape files;
            in any order.
        output_dir: Where the parts go.
        num_splits: How many.
        members: A ``members.yaml`` of cached features; its parts are in ``feats``.

    Raises:
        EnsembleError: If there are fewer than two parts, or more than utterances, or tables
            have different utterances.
    """
    output_dir, names = Path(output_dir), [Path(table).name for table in tables]
    ordered = output_dir / "sorted"
    ordered.mkdir(parents=True, exist_ok=True)
    for table, name in zip(tables, names, strict=True):
        # Shape files come in the order of jobs.
        write_rows(ordered / name, SortedRows(read_rows(table)))
    try:
        paths = [str(ordered / name) for name in names]
        split_scps(paths, num_splits, names, str(output_dir), "WARNING")
    except RuntimeError as error:
        raise EnsembleError(f"{', '.join(map(str, tables))}: {error}") from error
    for name in names:
        (ordered / name).unlink()
    ordered.rmdir()
    if members is not None:
        _split_feats(Path(members), output_dir / FEATS, num_splits)


def _split_feats(members: Path, folder: Path, num_splits: int) -> None:
    combination = read_combination(members)
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, object] = {
        "members": [os.path.relpath(path, folder) for path in combination.members]
    }
    if combination.data_dir is not None:
        content["data_dir"] = os.path.relpath(combination.data_dir, folder)
    for number in range(num_splits):
        write_yaml(folder / f"split.{number}", content)
    write_text(folder / "num_splits", f"{num_splits}")
