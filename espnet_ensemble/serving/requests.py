"""What clients ask for, read from their forms with limits, and checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message

from espnet_ensemble.decoding.scorers import HotWordsScorer
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.serving.answers import FORMATS, GRANULARITIES
from espnet_ensemble.serving.http_errors import HTTPError

#: Characters of a prompt: hot words take time, each character of them.
MAX_PROMPT = 1000
# What a form has besides the file.
_FORM_BYTES = 64 * 1024
_MAX_FIELDS = 30


@dataclass(frozen=True)
class Asked:
    """A request to transcribe.

    Attributes:
        file: The recording. Who has read it closes it, which deletes it.
        model: Which model; None: any.
        prompt: Hot words.
        response_format: One of ``answers.FORMATS``.
        granularities: Some of ``answers.GRANULARITIES``.
        language: What the client says that is spoken.
    """

    file: UploadFile
    model: str | None
    prompt: str
    response_format: str
    granularities: tuple[str, ...]
    language: str


async def read_form(request: Request, max_bytes: float) -> FormData:
    """Read a form, but no more of it than is allowed.

    Args:
        request: The request.
        max_bytes: Largest file.

    Raises:
        HTTPError: If it is larger; 413.
    """
    left = max_bytes + _FORM_BYTES
    too_large = HTTPError(
        413, f"file: expected at most {max_bytes / 1e6:g} MB, found more", "file"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > left:
        raise too_large

    async def receive() -> Message:
        nonlocal left
        message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise too_large
        return message

    limited = Request(request.scope, receive)
    return await limited.form(
        max_files=1, max_fields=_MAX_FIELDS, max_part_size=_FORM_BYTES
    )


def parse_form(form: FormData) -> Asked:
    """Check the fields of a request to transcribe. Those that are not known are ignored.

    Raises:
        HTTPError: If one is missing or wrong; 400.
    """
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise HTTPError(
            400,
            "file: expected a recording, in multipart/form-data; found none",
            "file",
        )
    response_format = str(form.get("response_format") or "json")
    _check("response_format", [response_format], FORMATS)
    name = "timestamp_granularities[]"
    granularities = tuple(map(str, form.getlist(name)))
    _check(name, granularities, GRANULARITIES)
    if granularities and response_format != "verbose_json":
        raise HTTPError(
            400, f"{name}: only with response_format verbose_json", "response_format"
        )
    prompt = str(form.get("prompt") or "")
    if len(prompt) > MAX_PROMPT:
        raise HTTPError(
            400,
            f"prompt: expected at most {MAX_PROMPT} characters, found {len(prompt)}",
            "prompt",
        )
    return Asked(
        file,
        str(form.get("model") or "") or None,
        prompt,
        response_format,
        granularities or ("segment",),
        str(form.get("language") or "") or "unknown",
    )


def parse_hotwords(prompt: str, tokens: Sequence[str]) -> tuple[str, ...]:
    """The hot words and phrases of a prompt: what commas, semicolons or full stops part.

    Upper and lower case become those of the tokens, if these have but one.

    Args:
        prompt: The prompt.
        tokens: The model's token list.

    Raises:
        HTTPError: If the model cannot spell one; 400.

    Example:
        >>> parse_hotwords("Abba, ca b.", ["<blank>", "<space>", "a", "b", "c"])
        ('abba', 'ca b')
    """
    letters = "".join(token for token in tokens if not token.startswith("<"))
    if letters == letters.lower():
        prompt = prompt.lower()
    elif letters == letters.upper():
        prompt = prompt.upper()
    parts = re.split(r"[,;\n]|[.!?](?:\s|$)", prompt)
    phrases = tuple(" ".join(part.split()) for part in parts if part.strip())
    try:
        HotWordsScorer(phrases, tokens, weight=1.0)
    except EnsembleError as error:
        raise HTTPError(400, f"prompt: {error}", "prompt") from error
    return phrases


def _check(name: str, found: Sequence[str], expected: Sequence[str]) -> None:
    for value in found:
        if value not in expected:
            raise HTTPError(
                400, f"{name}: expected {', '.join(expected)}; found {value!r}", name
            )
