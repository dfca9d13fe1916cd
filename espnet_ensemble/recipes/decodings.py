"""Folders of decodings: ``exp/asr_x/<inference tag>``, with a folder for each dataset."""

from collections.abc import Sequence
from pathlib import Path

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike


def find_decoding(path: PathLike, inference_tag: str | None = None) -> Path:
    """Find the decoding that is meant by a folder.

    Args:
        path: The folder of a decoding, or that of an experiment.
        inference_tag: Which decoding of the experiment; None: the only one.

    Returns:
        The folder of the decoding, such as ``exp/asr_x/decode_y``.

    Raises:
        EnsembleError: If there is none, or several and no tag that says which.

    Example:
        >>> exp_dir = getfixture("tmp_path") / "asr_x"
        >>> (exp_dir / "decode_y" / "test").mkdir(parents=True)
        >>> (exp_dir / "decode_y" / "test" / "text").touch()
        >>> find_decoding(exp_dir).name, list_datasets(find_decoding(exp_dir))
        ('decode_y', ['test'])
    """
    path = Path(path)
    if list_datasets(path):
        return path
    found = sorted(
        folder for folder in path.glob("*") if folder.is_dir() and list_datasets(folder)
    )
    if not found:
        raise EnsembleError(
            f"{path}: expected an experiment or a decoding, with files such as "
            "decode_x/test/text (stage 12 makes them), found none"
        )
    names = ", ".join(folder.name for folder in found)
    if inference_tag is None and len(found) > 1:
        raise EnsembleError(
            f"{path}: expected one decoding, found {names}: give the folder of one, or "
            "--inference_tag"
        )
    wanted = inference_tag or found[0].name
    if path / wanted not in found:
        raise EnsembleError(f"{path}: expected a decoding {wanted}, found {names}")
    return path / wanted


def list_datasets(decoding: PathLike) -> list[str]:
    """The datasets that a decoding has a ``text`` of, such as ``org/dev`` and ``test``."""
    texts = [*Path(decoding).glob("*/text"), *Path(decoding).glob("org/*/text")]
    return sorted(str(text.parent.relative_to(decoding)) for text in texts)


def common_datasets(decodings: Sequence[Path], wanted: Sequence[str] = ()) -> list[str]:
    """The datasets that several decodings have in common.

    Args:
        decodings: Their folders.
        wanted: Which are wanted; none: all that they have in common.

    Raises:
        EnsembleError: If a decoding lacks one that is wanted, or they have none in common.
    """
    for decoding in decodings:
        known = list_datasets(decoding)
        for dataset in wanted:
            if dataset not in known:
                raise EnsembleError(
                    f"{decoding}: expected dataset {dataset}, found {', '.join(known)}"
                )
    common = set.intersection(*(set(list_datasets(folder)) for folder in decodings))
    if not common:
        found = "; ".join(f"{d}: {', '.join(list_datasets(d))}" for d in decodings)
        raise EnsembleError(f"expected a dataset that all have decoded, found {found}")
    return list(wanted) or sorted(common)
