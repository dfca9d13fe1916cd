"""Transcripts on disk, as ESPnet's decoding leaves them, and how fast they were made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ensemble.data.tables import write_table
from espnet_ensemble.decoding.ctm import write_ctm
from espnet_ensemble.decoding.decoder import Decoded, Failed
from espnet_ensemble.decoding.hypothesis import Hypothesis
from espnet_ensemble.decoding.vocabulary import Vocabulary
from espnet_ensemble.files import PathLike, write_yaml

#: In the folder of the transcripts: what :meth:`Summary.to_dict` says.
SUMMARY = "decoding.yaml"
_NOTHING = [Hypothesis((), 0.0)]


@dataclass(frozen=True)
class Summary:
    """How fast a data set was decoded, and what was not.

    Attributes:
        num_utts: Utterances of the set.
        failed: utterance's id -> why it has no transcript.
        audio_seconds: Duration of those that have one.
        wall_seconds: What decoding took, with reading, without loading the model.
        latencies: Seconds from an utterance's speech to its transcript, of each.

    Example:
        >>> summary = Summary(2, {}, audio_seconds=20, wall_seconds=2, latencies=[1, 2])
        >>> summary.rtf, summary.rtfx
        (0.1, 10.0)
    """

    num_utts: int
    failed: Mapping[str, str]
    audio_seconds: float
    wall_seconds: float
    latencies: list[float]

    @classmethod
    def of(cls, results: Iterable[Decoded | Failed], wall_seconds: float) -> "Summary":
        """Sum up what became of a data set in so many seconds."""
        results = list(results)
        decoded = [x for x in results if isinstance(x, Decoded)]
        return cls(
            num_utts=len(results),
            failed={x.utt_id: x.reason for x in results if isinstance(x, Failed)},
            audio_seconds=sum(x.seconds for x in decoded),
            wall_seconds=wall_seconds,
            latencies=[x.latency for x in decoded],
        )

    @property
    def rtf(self) -> float:
        """Real-time factor: seconds of decoding per second of audio."""
        return self.wall_seconds / self.audio_seconds

    @property
    def rtfx(self) -> float:
        """Inverse real-time factor: seconds of audio per second of decoding."""
        return self.audio_seconds / self.wall_seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML."""
        found: dict[str, Any] = {"utterances": self.num_utts}
        if self.latencies:
            found |= {
                "audio_seconds": _round(self.audio_seconds),
                "wall_seconds": _round(self.wall_seconds),
                "rtf": _round(self.rtf),
                "rtfx": _round(self.rtfx),
                "latency_seconds": {
                    "median": _round(np.median(self.latencies)),
                    "percentile_95": _round(np.percentile(self.latencies, 95)),
                },
            }
        return found | {"failed": dict(self.failed)}

    def __str__(self) -> str:
        text = f"{self.num_utts} utterances"
        if self.latencies:
            median, late = np.percentile(self.latencies, [50, 95])
            text += (
                f", {self.audio_seconds:.1f} s of audio in {self.wall_seconds:.1f} s: "
                f"RTF {self.rtf:.4f}, RTFx {self.rtfx:.1f}, latency {median:.2f} s "
                f"(median), {late:.2f} s (95 %)"
            )
        if self.failed:
            text += f"; {len(self.failed)} without a transcript: " + ", ".join(
                sorted(self.failed)
            )
        return text


def write_results(
    output_dir: PathLike, results: Iterable[Decoded | Failed], vocabulary: Vocabulary
) -> None:
    """Write the files that ``espnet2.bin.asr_inference`` writes.

    ``<n>best_recog/{text,token,token_int,score}``, each sorted by utterance. Whoever has
    no transcript gets an empty one, with score 0, as of too short speech with ESPnet.
    Besides, where words were looked for, their times and confidences:
    ``1best_recog/ctm``.

    Args:
        output_dir: Where.
        results: What became of each utterance.
        vocabulary: What tokens stand for.
    """
    results = list(results)
    found = {
        x.utt_id: x.hypotheses if isinstance(x, Decoded) else _NOTHING for x in results
    }
    for n in range(max(map(len, found.values()), default=0)):
        folder = Path(output_dir) / f"{n + 1}best_recog"
        folder.mkdir(parents=True, exist_ok=True)
        nth = {utt_id: nbest[n] for utt_id, nbest in found.items() if n < len(nbest)}
        for name, of in _columns(vocabulary).items():
            write_table(folder / name, {utt_id: of(x) for utt_id, x in nth.items()})
    _write_words(Path(output_dir) / "1best_recog" / "ctm", results)


def _write_words(path: Path, results: Iterable[Decoded | Failed]) -> None:
    words = {
        x.utt_id: x.words
        for x in results
        if isinstance(x, Decoded) and x.words is not None
    }
    path.unlink(missing_ok=True)
    if words:
        write_ctm(path, words)


def write_summary(
    output_dir: PathLike, summary: Summary, settings: Mapping[str, Any]
) -> None:
    """Write ``decoding.yaml``.

    Args:
        output_dir: Where.
        summary: How it went.
        settings: What decoded, for readers: the search, the device.
    """
    write_yaml(Path(output_dir) / SUMMARY, {**settings, **summary.to_dict()})


def _columns(vocabulary: Vocabulary) -> dict[str, Any]:
    """File -> what it has of a hypothesis."""
    return {
        "text": lambda x: vocabulary.to_text(x.token_ids),
        "token": lambda x: " ".join(vocabulary.to_tokens(x.token_ids)),
        "token_int": lambda x: " ".join(map(str, x.token_ids)),
        "score": lambda x: str(x.score),
    }


def _round(value: float) -> float:
    return float(f"{value:.4g}")
