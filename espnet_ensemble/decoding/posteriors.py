"""The posteriors of a CTC layer: a value, and files that keep them.

A folder of posteriors is Kaldi's: ``posteriors.scp`` names for each utterance its matrix
in ``posteriors.ark``, or in one of several archives beside it. ``posteriors.yaml`` says
what all of them share.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import kaldiio
import torch
from torch import Tensor

from espnet_ensemble.data.matrices import read_matrix
from espnet_ensemble.data.tables import read_table, write_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import (
    PathLike,
    atomic_write,
    check_keys,
    read_yaml,
    write_yaml,
)

SCP = "posteriors.scp"
ARK = "posteriors.ark"
INFO = "posteriors.yaml"


@dataclass(frozen=True)
class Posteriors:
    """What a CTC layer says of an utterance.

    Attributes:
        log_probs: Natural logarithms, (frames, tokens), float32, on the CPU.
        frame_seconds: Seconds from one frame to the next.
    """

    log_probs: Tensor
    frame_seconds: float


class PosteriorWriter:
    """Writes a folder of posteriors, all of it or nothing: a context manager.

    Args:
        folder: Where. It is made if need be.
        tokens: The token list that the posteriors are over.
        frame_seconds: Seconds from one frame to the next.

    Example:
        >>> folder = getfixture("tmp_path") / "posteriors"
        >>> with PosteriorWriter(folder, ("<blank>", "a"), 0.02) as writer:
        ...     writer.write("utt1", torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log())
        >>> saved = SavedPosteriors(folder)
        >>> list(saved), saved.tokens, saved["utt1"].log_probs.exp().shape
        (['utt1'], ('<blank>', 'a'), torch.Size([2, 2]))
    """

    def __init__(self, folder: PathLike, tokens: tuple[str, ...], frame_seconds: float):
        self._folder = Path(folder)
        self._info = {"frame_seconds": frame_seconds, "tokens": list(tokens)}
        self._places: dict[str, str] = {}
        self._files = ExitStack()

    def __enter__(self) -> "PosteriorWriter":
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._files.enter_context(atomic_write(self._folder / ARK))
        self._ark = self._files.enter_context(part.open("wb"))
        return self

    def __exit__(self, *exception) -> None:
        self._files.__exit__(*exception)
        if exception[0] is None:
            write_yaml(self._folder / INFO, self._info)
            write_table(self._folder / SCP, self._places)

    def write(self, utt_id: str, log_probs: Tensor) -> None:
        """Add an utterance.

        Args:
            utt_id: Its id.
            log_probs: Natural logarithms, (frames, tokens).
        """
        offset = self._ark.tell() + len(utt_id.encode()) + 1
        self._places[utt_id] = f"{self._folder / ARK}:{offset}"
        kaldiio.save_ark(self._ark, {utt_id: log_probs.float().cpu().numpy()})


class SavedPosteriors(Mapping):
    """utterance's id -> :class:`Posteriors`, read from a folder when they are asked for.

    Args:
        folder: That :class:`PosteriorWriter` wrote, or with archives of several such; it
            may have been moved since.

    Raises:
        EnsembleError: If it is none.

    Attributes:
        tokens: The token list that the posteriors are over.
        frame_seconds: Seconds from one frame to the next.
    """

    def __init__(self, folder: PathLike):
        self._folder = Path(folder)
        info = read_yaml(self._folder / INFO)
        check_keys(str(self._folder / INFO), info, ["frame_seconds", "tokens"])
        self.tokens = tuple(info["tokens"])
        self.frame_seconds = float(info["frame_seconds"])
        self._places = read_table(self._folder / SCP)

    def __getitem__(self, utt_id: str) -> Posteriors:
        """Read an utterance's posteriors.

        Raises:
            EnsembleError: If they cannot be read.
            KeyError: If there is no such utterance.
        """
        written, _, offset = self._places[utt_id].rpartition(":")
        ark = self._folder / Path(written).name
        if not ark.exists():
            ark = Path(written)
        try:
            with ark.open("rb") as file:
                file.seek(int(offset))
                log_probs = torch.from_numpy(read_matrix(file))
        except (OSError, ValueError) as error:
            raise EnsembleError(
                f"{ark}: expected posteriors of {utt_id!r} at byte {offset}, found: "
                f"{error}; is the file cut off?"
            ) from error
        return Posteriors(log_probs, self.frame_seconds)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
