"""From recordings to transcripts, with a model that is loaded once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from espnet_ensemble.decoding.beam_search import BeamSearch
from espnet_ensemble.decoding.decoder import (
    DecodeConf,
    Decoded,
    Decoder,
    Failed,
    Search,
)
from espnet_ensemble.decoding.greedy import GreedySearch
from espnet_ensemble.decoding.hypothesis import Hypothesis, Word
from espnet_ensemble.decoding.model import CTCModel
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike
from espnet_ensemble.serving.recordings import (
    Recording,
    read_recording,
    recorded_seconds,
)

#: What can be transcribed: a recording that was read, a file, an open binary file.
Audio = Recording | str | Path | BinaryIO


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording.

    Attributes:
        name: What the recording is called.
        text: What was said.
        words: Its words, with times in seconds from the beginning, and confidences.
        duration: Seconds of the recording.
    """

    name: str
    text: str
    words: tuple[Word, ...]
    duration: float


@dataclass(frozen=True)
class Failure:
    """Why a recording has no transcript.

    Attributes:
        name: What the recording is called.
        reason: Why.
        was_read: Whether its audio could be read: then it was the model, the search or the
            hot words.
    """

    name: str
    reason: str
    was_read: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Transcriber:
    """Transcribes recordings.

    ``espnet_ensemble.pretrained`` makes one of a trained model. A recording's transcript
    does not depend on the others that are transcribed with it. One thread at a time may use
    it.

    Args:
        model: The model.
        name: What people call it.
        search: Finds transcripts in its posteriors; None: the best path.
        conf: How it is decoded: sizes of batches, long audio.

    Attributes:
        model: The model.
        name: What people call it.
    """

    def __init__(
        self,
        model: CTCModel,
        name: str,
        search: Search | None = None,
        conf: DecodeConf | None = None,
    ):
        self.model = model
        self.name = name
        self._search = search or GreedySearch(model.vocabulary.blank_id)
        self._conf = replace(conf or DecodeConf(), find_words=True, nbest=1)

    @property
    def fs(self) -> int:
        """Sample rate of the recordings that it takes, in Hz."""
        return self.model.fs

    @property
    def batch_seconds(self) -> float:
        """Seconds of speech that the model gets at once."""
        return self._conf.batch_seconds

    def transcribe(
        self,
        recordings: Sequence[Audio],
        hotwords: Sequence[str] = (),
    ) -> list[Transcript | Failure]:
        """Transcribe recordings, in batches of similar length.

        Args:
            recordings: Recordings at :attr:`fs`, or audio files of any kind, also open ones.
            hotwords: Words and phrases that are raised in all of them, besides each
                recording's own.

        Returns:
            What became of each.

        Raises:
            EnsembleError: If it is no list of recordings, or one has another rate.
        """
        found = dict(self.iterate(recordings, hotwords))
        return [found[number] for number in range(len(recordings))]

    def iterate(
        self,
        recordings: Sequence[Audio],
        hotwords: Sequence[str] = (),
        progress: Callable[[float, float], None] | None = None,
    ) -> Iterator[tuple[int, Transcript | Failure]]:
        """Transcribe recordings as :meth:`transcribe` does, one by one.

        Files are read when it is their turn.

        Args:
            recordings: As there.
            hotwords: As there.
            progress: Called as it goes on, of long recordings several times, with the
                seconds of speech of all recordings, and those that are done now; None:
                nobody wants to know.

        Yields:
            A recording's index, and what became of it; the longest come first.
        """
        if isinstance(recordings, PathLike):
            raise EnsembleError(
                f"{recordings}: expected a list of recordings, found one: put it into [ ]"
            )
        inputs = _Inputs(recordings, self.fs)
        search = _WithHotwords(self._search, self.model)
        for utt_id, recording in inputs.recordings.items():
            phrases = [*hotwords, *getattr(recording, "hotwords", ())]
            if phrases:
                try:
                    search.add(utt_id, phrases)
                except EnsembleError as error:
                    inputs.refuse(utt_id)
                    yield int(utt_id), Failure(inputs.name(utt_id), str(error), True)
        total = sum(inputs.lengths.values()) / self.fs
        advance = partial(progress, total) if progress else None
        decoder = Decoder(self.model, search, self._conf, advance)
        for result in decoder.results(inputs):
            yield int(result.utt_id), self._told(result, inputs.name(result.utt_id))

    def _told(self, result: Decoded | Failed, name: str) -> Transcript | Failure:
        if isinstance(result, Failed):
            return Failure(name, result.reason, result.was_read)
        text = self.model.vocabulary.to_text(result.hypotheses[0].token_ids)
        return Transcript(name, text, tuple(result.words or ()), result.seconds)


class _Inputs:
    """A :class:`~espnet_ensemble.decoding.sources.Source` of recordings and files.

    An utterance's id is its recording's index.
    """

    def __init__(self, recordings: Iterable[Audio], fs: int):
        self.items_per_second = float(fs)
        self._fs = fs
        self.recordings = {str(number): x for number, x in enumerate(recordings)}
        self.lengths = {utt_id: _length(x, fs) for utt_id, x in self.recordings.items()}

    def name(self, utt_id: str) -> str:
        recording = self.recordings[utt_id]
        if isinstance(recording, PathLike):
            return str(recording)
        # That of standard input is in brackets.
        return str(getattr(recording, "name", "audio")).strip("<>")

    def refuse(self, utt_id: str) -> None:
        del self.lengths[utt_id]

    def read(self, utt_id: str) -> Tensor:
        recording = self.recordings[utt_id]
        if not isinstance(recording, Recording):
            recording = read_recording(recording, self._fs, self.name(utt_id))
        return torch.from_numpy(recording.samples)


def _length(recording: Audio, fs: int) -> int:
    if not isinstance(recording, Recording):
        return round(recorded_seconds(recording) * fs)
    if recording.fs != fs:
        raise EnsembleError(
            f"{recording.name}: expected a recording at {fs} Hz, found one at "
            f"{recording.fs} Hz; read_recording resamples"
        )
    return len(recording.samples)


class _WithHotwords:
    """A search that raises the hot words of some utterances, and finds others as before."""

    def __init__(self, search: Search, model: CTCModel):
        self.name = search.name
        self._search = search
        self._vocabulary = model.vocabulary
        self._of_utt: dict[str, Search] = {}
        self._same: dict[tuple[str, ...], Search] = {}

    def add(self, utt_id: str, phrases: Sequence[str]) -> None:
        """Raise these phrases in an utterance."""
        key = tuple(phrases)
        if key not in self._same:
            search = self._search
            if not isinstance(search, BeamSearch):
                tokens, blank_id = self._vocabulary.tokens, self._vocabulary.blank_id
                search = BeamSearch(tokens, blank_id=blank_id)
            self._same[key] = search.with_hotwords(phrases)
        self._of_utt[utt_id] = self._same[key]

    def __call__(
        self, utt_ids: Sequence[str], log_probs: Tensor, lengths: Tensor
    ) -> list[list[Hypothesis]]:
        """What the search of each utterance finds."""
        rows_of: dict[Search, list[int]] = {}
        for row, utt_id in enumerate(utt_ids):
            search = self._of_utt.get(utt_id, self._search)
            rows_of.setdefault(search, []).append(row)
        found: dict[int, list[Hypothesis]] = {}
        for search, rows in rows_of.items():
            ids = [utt_ids[row] for row in rows]
            found |= zip(rows, search(ids, log_probs[rows], lengths[rows]), strict=True)
        return [found[row] for row in range(len(utt_ids))]
