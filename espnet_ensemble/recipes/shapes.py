"""ESPnet's shape files, from lengths that are known already.

ESPnet's ``--collect_stats`` decodes all audio to count samples. ``utt2num_samples`` has them.
"""

import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from espnet_ensemble.data.audio import AudioError, open_audio
from espnet_ensemble.data.datadir import read_streams
from espnet_ensemble.data.streams import SortedRows
from espnet_ensemble.data.tables import DataError, write_rows
from espnet_ensemble.files import PathLike, atomic_write

#: As ESPnet's: utt_id and what a dataset gives -> what a model gets.
Preprocess = Callable[[str, dict[str, str | np.ndarray]], dict[str, np.ndarray]]

# Whose lengths are compared with their files' headers: the first ones, and of the others
# one in so many.
_COMPARED_FIRST = 50
_COMPARED = 1000


def write_shapes(
    data_dir: PathLike, output_dir: PathLike, preprocess: Preprocess, jobs: int = 1
) -> None:
    """Write ``speech_shape`` and ``text_shape`` of a data directory.

    They are those of ESPnet's ``--collect_stats true`` to the byte. No audio is decoded:
    the headers of some files are compared with ``utt2num_samples``, the first 50 and one
    in a thousand.

    Args:
        data_dir: As stage 4 makes them, with ``text`` and ``utt2num_samples``.
        output_dir: Where to write them.
        preprocess: ESPnet's, of the training.
        jobs: Over how many jobs stage 10 would deal utterances: they come in the order of
            these, and training makes batches of utterances of one length in this order.

    Raises:
        DataError: If lengths are not known, or not those of the files.
    """
    rows = SortedRows(_shapes(Path(data_dir), preprocess, jobs))
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(("speech_shape", "text_shape"), start=2):
        with atomic_write(Path(output_dir, name)) as part:
            write_rows(part, ((row[1], str(row[place])) for row in rows))


def _shapes(
    data_dir: Path, preprocess: Preprocess, jobs: int
) -> Iterator[tuple[int, str, int, int]]:
    """Job, id, samples and tokens of each utterance."""
    names = ("wav.scp", "utt2num_samples", "text")
    tables = read_streams(data_dir)
    for name in names:
        if name not in tables:
            raise DataError(f"{data_dir / name}: expected this file, found none")
    if "segments" in tables:
        raise DataError(f"{data_dir}: expected a file per utterance, found segments")
    # One more, so that none may be longer.
    end = [("", "")]
    rows = zip(*(chain(tables[name], end) for name in names), strict=False)
    for number, ((utt_id, path), (key, length), (other, text)) in enumerate(rows):
        if not utt_id == key == other:
            raise DataError(
                f"{data_dir}: expected the same utterances in {', '.join(names)}, found "
                f"a difference at {utt_id or key or other!r}"
            )
        if not utt_id:
            return
        if number < _COMPARED_FIRST or not zlib.crc32(utt_id.encode()) % _COMPARED:
            _compare(data_dir, utt_id, path, int(length))
        tokens = preprocess(utt_id, {"text": text})["text"]
        yield (number + 1) % jobs, utt_id, int(length), len(tokens)


def _compare(data_dir: Path, utt_id: str, path: str, length: int) -> None:
    where = f"{data_dir / 'utt2num_samples'}: {utt_id!r}"
    if path.endswith("|"):
        raise DataError(f"{where}: {path}: expected a file, found a command")
    try:
        with open_audio(path) as sound:
            found, channels = sound.frames, sound.channels
    except (AudioError, OSError) as error:
        raise DataError(f"{where}: {path}: {error}") from error
    if channels != 1:
        raise DataError(f"{where}: {path}: expected one channel, found {channels}")
    if found != length:
        raise DataError(
            f"{where}: expected {found} samples, as in {path}, found {length}"
        )
