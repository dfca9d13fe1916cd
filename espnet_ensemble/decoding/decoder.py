"""From the speech of a data set to its transcripts.

The way of the data, each a generator over what the one before it gives: batches of
utterances of similar length, read one batch ahead; the model's posteriors; a search.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.decoding.hypothesis import Hypothesis, Word
from espnet_ensemble.decoding.long_audio import (
    LongAudioConf,
    Window,
    join_hypotheses,
    join_windows,
    plan_windows,
)
from espnet_ensemble.decoding.model import CTCModel
from espnet_ensemble.decoding.segments import (
    Segment,
    batch_segments,
    join_segments,
    plan_segments,
)
from espnet_ensemble.decoding.sources import UNREADABLE, Source
from espnet_ensemble.decoding.words import WordFinder
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.shard import plan_batches, read_ahead
from espnet_ensemble.frames import padding_mask

_log = logging.getLogger(__name__)

#: Seconds of speech in a batch: what fits a laptop's memory, and a GPU's.
BATCH_SECONDS = {"cpu": 60.0, "cuda": 480.0, "mps": 60.0}


class Search(Protocol):
    """Finds transcripts in posteriors.

    Attributes:
        name: What it is called, for the report.
    """

    name: str

    def __call__(
        self, utt_ids: Sequence[str], log_probs: Tensor, lengths: Tensor
    ) -> list[list[Hypothesis]]:
        """Search through a batch.

        Args:
            utt_ids: The utterances; long ones come in chunks, each as a batch.
            log_probs: Natural logarithms of the posteriors, (batch, frames, tokens),
                float32, on the model's device, undefined at the padding.
            lengths: Frames of each utterance, (batch,), on the same device.

        Returns:
            Of each utterance, what was found, the best first: at least one.
        """


@dataclass(frozen=True)
class DecodeConf:
    """How a data set is decoded.

    Attributes:
        batch_seconds: Seconds of speech that the model gets at once, with padding, unless
            an utterance is longer.
        batch_size: Utterances at once, at most; None: as many as fit.
        nbest: Hypotheses to keep of each utterance, at most.
        skip: Whether to go on where an utterance cannot be decoded, and give it an empty
            transcript.
        keep_posteriors: Whether results hold the posteriors.
        find_words: Whether results hold the words, with times and confidences.
        long_audio: What is decoded in parts.

    Raises:
        EnsembleError: If a number is not above 0.
    """

    batch_seconds: float = 60.0
    batch_size: int | None = None
    nbest: int = 1
    skip: bool = True
    keep_posteriors: bool = False
    find_words: bool = False
    long_audio: LongAudioConf = field(default_factory=LongAudioConf)

    def __post_init__(self):
        for name in ("batch_seconds", "batch_size", "nbest"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise EnsembleError(f"{name}: expected a number above 0, found {value}")


@dataclass(frozen=True)
class Decoded:
    """What was found in an utterance.

    Attributes:
        utt_id: The utterance.
        hypotheses: At least one, the best first.
        seconds: Its length.
        latency: Seconds from having its speech to having its transcript; its batch shares
            them.
        log_probs: Its posteriors, (frames, tokens), on the CPU; None: not kept.
        words: Those of the best hypothesis; None: not looked for.
    """

    utt_id: str
    hypotheses: list[Hypothesis]
    seconds: float
    latency: float
    log_probs: Tensor | None = None
    words: list[Word] | None = None


@dataclass(frozen=True)
class Failed:
    """Why an utterance has no transcript.

    Attributes:
        utt_id: The utterance.
        reason: Why.
        was_read: Whether it could be read: then it was the model or the search that failed.
    """

    utt_id: str
    reason: str
    was_read: bool = False


@dataclass(frozen=True)
class _Speech:
    """An utterance that was read: (samples,), or (frames, features)."""

    utt_id: str
    items: Tensor


class Decoder:
    """Decodes data sets with a model and a search.

    An utterance's transcript does not depend on the others: a batch gives each of them
    what it would be given alone.

    Args:
        model: The model.
        search: What finds transcripts in its posteriors.
        conf: How to do it.
        advance: Called with the seconds of speech that are done, of long audio several
            times; None: nobody wants to know.
    """

    def __init__(
        self,
        model: CTCModel,
        search: Search,
        conf: DecodeConf = DecodeConf(),
        advance: Callable[[float], None] | None = None,
    ):
        self._model = model
        self._search = search
        self._conf = conf
        self._advance = advance or (lambda seconds: None)

    @property
    def keeps_posteriors(self) -> bool:
        """Whether results hold the posteriors."""
        return self._conf.keep_posteriors

    def decode(self, source: Source) -> Iterator[Decoded | Failed]:
        """Decode a data set, the longest utterances first.

        Args:
            source: Its speech.

        Yields:
            What became of each utterance.

        Raises:
            EnsembleError: If an utterance cannot be decoded, and such are not skipped; it
                names the utterance. Also if all that can be read cannot be decoded.
        """
        num_decoded = 0
        failed: Failed | None = None
        for result in self.results(source):
            if isinstance(result, Failed):
                if not self._conf.skip:
                    raise EnsembleError(f"{result.utt_id}: {result.reason}")
                _log.warning("%s: no transcript: %s", result.utt_id, result.reason)
                failed = result if result.was_read else failed
            else:
                num_decoded += 1
            yield result
        if failed and not num_decoded:
            raise EnsembleError(
                f"no utterance could be decoded; {failed.utt_id}: {failed.reason}"
            )

    def results(self, source: Source) -> Iterator[Decoded | Failed]:
        """Decode a data set as :meth:`decode` does, whatever cannot be decoded.

        Args:
            source: Its speech.

        Yields:
            What became of each utterance, the longest first.
        """
        for batch in read_ahead(lambda x: _read(x, source), self._plan(source)):
            yield from (x for x in batch if isinstance(x, Failed))
            read = [x for x in batch if isinstance(x, _Speech)]
            for speech in (x for x in read if self._is_long(x, source)):
                yield self._decode_long(speech, source)
            yield from self._decode_batch(
                [x for x in read if not self._is_long(x, source)], source
            )

    def _plan(self, source: Source) -> Iterator[list[str]]:
        lengths, conf = source.lengths, self._conf
        max_items = conf.batch_seconds * source.items_per_second
        for batch in plan_batches(lengths, max_items):
            size = conf.batch_size or len(batch)
            if self._model.takes_padding:
                parts = [batch]
            else:
                parts = [list(same) for _, same in groupby(batch, key=lengths.get)]
            for part in parts:
                yield from (part[i : i + size] for i in range(0, len(part), size))

    def _is_long(self, speech: _Speech, source: Source) -> bool:
        seconds = len(speech.items) / source.items_per_second
        return seconds > self._conf.long_audio.long_seconds

    def _decode_batch(
        self, batch: list[_Speech], source: Source
    ) -> Iterator[Decoded | Failed]:
        """Decode; half of the batch at a time if the whole fails.

        It may be too large for the memory, or one of its utterances the model's bane.
        """
        if not batch:
            return
        begin = time.perf_counter()
        try:
            log_probs, lengths = self._log_probs([x.items for x in batch])
            self._check_finite(log_probs, lengths)
            utt_ids = [speech.utt_id for speech in batch]
            found = self._search(utt_ids, log_probs, lengths)
        except Exception as error:  # ESPnet's, torch's and CUDA's are many
            reason = _reason(error)
        else:
            latency = time.perf_counter() - begin
            rows = zip(batch, found, log_probs, lengths.tolist(), strict=True)
            for speech, hypotheses, of_one, num_frames in rows:
                keeper = _Keeper(self._model, self._conf)
                keeper.add(of_one[:num_frames], hypotheses[0])
                self._advance(len(speech.items) / source.items_per_second)
                yield self._decoded(speech, source, hypotheses, latency, keeper)
            return
        # Here, the error is gone, and with it the tensors that it held.
        if len(batch) == 1:
            yield Failed(batch[0].utt_id, reason, was_read=True)
            return
        half = len(batch) // 2
        yield from self._decode_batch(batch[:half], source)
        yield from self._decode_batch(batch[half:], source)

    def _decode_long(self, speech: _Speech, source: Source) -> Decoded | Failed:
        begin = time.perf_counter()
        found, keeper = [], _Keeper(self._model, self._conf)
        try:
            for log_probs in self._chunks(speech, source):
                length = torch.tensor([len(log_probs)], device=log_probs.device)
                (hypotheses,) = self._search([speech.utt_id], log_probs[None], length)
                found.append(hypotheses)
                keeper.add(log_probs, hypotheses[0])
        except Exception as error:  # as above
            return Failed(speech.utt_id, _reason(error), was_read=True)
        hypotheses = join_hypotheses(found, self._conf.nbest)
        latency = time.perf_counter() - begin
        return self._decoded(speech, source, hypotheses, latency, keeper)

    def _chunks(self, speech: _Speech, source: Source) -> Iterator[Tensor]:
        """The posteriors of long speech, part by part."""
        seconds, conf = self._model.frame_seconds, self._conf.long_audio
        items_per_frame = round(seconds * source.items_per_second)
        vocabulary = self._model.vocabulary
        if speech.items.dim() == 1:
            segments = plan_segments(
                speech.items, items_per_frame, seconds, conf.segment_seconds
            )
            max_items = self._conf.batch_seconds * source.items_per_second
            parts = self._run_segments(
                speech, segments, items_per_frame, max_items, source.items_per_second
            )
            return join_segments(parts, vocabulary.blank_id, vocabulary.boundary_id)
        windows = plan_windows(
            len(speech.items),
            items_per_frame,
            window_frames=round(conf.window_seconds / seconds),
            overlap_frames=round(conf.overlap_seconds / seconds),
        )
        posteriors = self._run_windows(speech, windows, source.items_per_second)
        return join_windows(posteriors, vocabulary.blank_id, seconds)

    def _run_segments(
        self,
        speech: _Speech,
        segments: list[Segment],
        items_per_frame: int,
        max_items: float,
        items_per_second: float,
    ) -> Iterator[tuple[int, Tensor]]:
        """First frame and posteriors of each, several at once."""
        size = self._conf.batch_size or len(segments)
        size = size if self._model.takes_padding else 1
        for batch in batch_segments(segments, max_items, size):
            found = self._halving([speech.items[x.start : x.end] for x in batch])
            for segment, log_probs in zip(batch, found, strict=True):
                yield segment.start // items_per_frame, log_probs
                self._advance((segment.end - segment.start) / items_per_second)

    def _halving(self, parts: list[Tensor]) -> list[Tensor]:
        """The posteriors of parts; of half of them at a time if the whole fails."""
        try:
            log_probs, lengths = self._log_probs(parts)
            self._check_finite(log_probs, lengths)
            return [x[:n] for x, n in zip(log_probs, lengths.tolist(), strict=True)]
        except Exception:  # as above
            if len(parts) == 1:
                raise
        half = len(parts) // 2
        return self._halving(parts[:half]) + self._halving(parts[half:])

    def _run_windows(
        self, speech: _Speech, windows: list[Window], items_per_second: float
    ) -> Iterator[tuple[Window, Tensor]]:
        done = 0
        for window in windows:
            (log_probs,) = self._halving([speech.items[window.start : window.end]])
            yield window, log_probs
            self._advance((window.end - done) / items_per_second)
            done = window.end

    def _log_probs(self, items: list[Tensor]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(x) for x in items])
        return self._model.log_probs(pad_sequence(items, batch_first=True), lengths)

    def _check_finite(self, log_probs: Tensor, lengths: Tensor) -> None:
        padding = padding_mask(lengths, log_probs.size(1))
        if (log_probs.isnan().any(dim=2) & ~padding).any():
            raise EnsembleError("expected posteriors, found NaN: is the model broken?")

    def _decoded(
        self,
        speech: _Speech,
        source: Source,
        hypotheses: list[Hypothesis],
        latency: float,
        keeper: "_Keeper",
    ) -> Decoded:
        return Decoded(
            speech.utt_id,
            hypotheses[: self._conf.nbest],
            len(speech.items) / source.items_per_second,
            latency,
            keeper.log_probs,
            keeper.words,
        )


class _Keeper:
    """What results hold of an utterance, besides its hypotheses, chunk by chunk."""

    def __init__(self, model: CTCModel, conf: DecodeConf):
        self._chunks: list[Tensor] | None = [] if conf.keep_posteriors else None
        self._finder: WordFinder | None = None
        if conf.find_words:
            self._finder = WordFinder(model.vocabulary, model.frame_seconds)

    def add(self, log_probs: Tensor, best: Hypothesis) -> None:
        """Go on with the next chunk, (frames, tokens), and what was found in it."""
        if self._finder is not None:
            self._finder.add(log_probs, best.token_ids)
        if self._chunks is not None:
            self._chunks.append(log_probs.cpu())

    @property
    def log_probs(self) -> Tensor | None:
        """All posteriors, if they are kept."""
        return None if self._chunks is None else torch.cat(self._chunks)

    @property
    def words(self) -> list[Word] | None:
        """All words, if they are wanted."""
        return None if self._finder is None else self._finder.words()


def _read(utt_id: str, source: Source) -> _Speech | Failed:
    try:
        return _Speech(utt_id, source.read(utt_id))
    except UNREADABLE as error:
        return Failed(utt_id, _reason(error))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
