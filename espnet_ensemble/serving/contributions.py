"""What each upstream contributes to a transcript: the transcripts without it."""

from dataclasses import dataclass
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.serving.recordings import Recording
from espnet_ensemble.serving.transcriber import Failure, Transcriber, Transcript


@dataclass(frozen=True)
class LeftOut:
    """An upstream, and what the model makes of a recording without it.

    Attributes:
        upstream: What it is called.
        transcript: Of the same model, to which its features are zero.
    """

    upstream: str
    transcript: Transcript | Failure


def upstream_names(transcriber: Transcriber) -> list[str]:
    """What the upstreams of a model are called; none: its frontend is not ``ensemble``."""
    model: Any = transcriber.model
    try:
        return model.member_names
    except (AttributeError, EnsembleError):  # a model of another kind
        return []


def knows_absence(transcriber: Transcriber) -> bool:
    """Whether a model was trained to do without an upstream (``member_dropout``).

    Without one, others are mistaken more than a model would be that never had it: this
    shows what the model relies on.
    """
    model: Any = transcriber.model
    return bool((model.config.frontend_conf or {}).get("member_dropout"))


def leave_one_out(transcriber: Transcriber, recording: Recording) -> list[LeftOut]:
    """Transcribe a recording without each upstream in turn.

    Args:
        transcriber: A model whose frontend, ``ensemble``, has several upstreams.
        recording: The recording.

    Raises:
        EnsembleError: If there are not several.
    """
    names = upstream_names(transcriber)
    if len(names) < 2:
        raise EnsembleError(
            f"{transcriber.name}: expected a model with several upstreams, found "
            f"{len(names) or 'none'}"
        )
    model: Any = transcriber.model
    found = []
    try:
        for name in names:
            model.select_members([other for other in names if other != name])
            (transcript,) = transcriber.transcribe([recording])
            found.append(LeftOut(name, transcript))
    finally:
        model.select_members(names)
    return found
