"""The server: the page, and an API for programs, which is OpenAI's."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.serving.answers import make_answer, words_to_dicts
from espnet_ensemble.serving.contributions import (
    LeftOut,
    knows_absence,
    leave_one_out,
    upstream_names,
)
from espnet_ensemble.serving.http_errors import HTTPError
from espnet_ensemble.serving.recordings import (
    AudioTooLongError,
    Recording,
    read_recording,
)
from espnet_ensemble.serving.requests import (
    Asked,
    parse_form,
    parse_hotwords,
    read_form,
)
from espnet_ensemble.serving.transcriber import Failure, Transcriber, Transcript
from espnet_ensemble.serving.worker import QueueFull, Stopped, Worker

#: What clients call a model that do not care which: OpenAI's.
ANY_MODEL = "whisper-1"
#: Shorter audio is refused.
MIN_SECONDS = 0.1
# Recordings that are decoded at once: their samples are in memory.
_NUM_READERS = 2
_RETRY_SECONDS = 5
_PAGE_HEADERS = {
    # Nothing comes from elsewhere, and nothing goes there.
    "Content-Security-Policy": "default-src 'self'; img-src data:; media-src blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Attributes:
        megabytes: Larger files.
        minutes: Longer recordings.
        requests: More requests at once.
        queue_minutes: More speech that waits for one model.
    """

    megabytes: float = 100.0
    minutes: float = 30.0
    requests: int = 64
    queue_minutes: float = 60.0


@dataclass(frozen=True)
class _Served:
    """A model and the worker that alone uses it."""

    transcriber: Transcriber
    worker: Worker

    def transcribe(self, recordings: list[Recording]) -> list[Transcript | Failure]:
        return self.transcriber.transcribe(recordings)

    def leave_one_out(self, recordings: list[Recording]) -> list[list[LeftOut]]:
        return [leave_one_out(self.transcriber, one) for one in recordings]

    def describe(self) -> dict[str, Any]:
        return {
            "id": self.transcriber.name,
            "object": "model",
            "created": 0,
            "owned_by": "espnet-ensemble",
            "upstreams": upstream_names(self.transcriber),
        }


def create_app(
    transcribers: Sequence[Transcriber], limits: Limits = Limits()
) -> Starlette:
    """Make the server, as ASGI has it.

    Args:
        transcribers: At least one, each with a name of its own.
        limits: What it refuses.
    """
    service = _Service(transcribers, limits)
    api = [
        Route("/models", service.list_models),
        Route("/models/{name:path}", service.show_model),
        Route("/audio/transcriptions", service.transcribe, methods=["POST"]),
        Route("/audio/contributions", service.contributions, methods=["POST"]),
    ]
    routes = [
        Route("/health", service.health),
        Mount("/v1", routes=api),
        Mount("/", _Page(directory=Path(__file__).parent / "page", html=True)),
    ]
    return Starlette(
        routes=routes,
        lifespan=service.lifespan,
        exception_handlers={
            HTTPError: _own_error,
            HTTPException: _other_error,
            Exception: _unexpected_error,
        },
    )


class _Service:
    """What answers requests."""

    def __init__(self, transcribers: Sequence[Transcriber], limits: Limits):
        self._limits = limits
        queue_seconds = 60 * limits.queue_minutes
        self._models = {
            x.name: _Served(x, Worker(x.name, x.batch_seconds, queue_seconds))
            for x in transcribers
        }
        self._readers = ThreadPoolExecutor(_NUM_READERS, "reader")
        self._num_requests = 0

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        for model in self._models.values():
            model.worker.stop()
        self._readers.shutdown()

    async def health(self, request: Request) -> Response:
        workers = {name: model.worker for name, model in self._models.items()}
        well = all(worker.is_alive for worker in workers.values())
        answer = {
            "status": "ok" if well else "a model has stopped: restart the server",
            "models": {name: {"waiting": w.waiting} for name, w in workers.items()},
            "limits": {
                "megabytes": self._limits.megabytes,
                "minutes": self._limits.minutes,
            },
        }
        return JSONResponse(answer, 200 if well else 503)

    async def list_models(self, request: Request) -> Response:
        data = [model.describe() for model in self._models.values()]
        return JSONResponse({"object": "list", "data": data})

    async def show_model(self, request: Request) -> Response:
        return JSONResponse(self._find(request.path_params["name"]).describe())

    async def transcribe(self, request: Request) -> Response:
        with self._admitted():
            asked, model, recording = await self._read(request)
            result = await _result(model, recording, model.transcribe)
        transcript = _check(result, recording)
        return make_answer(
            transcript, asked.response_format, asked.granularities, asked.language
        )

    async def contributions(self, request: Request) -> Response:
        with self._admitted():
            _, model, recording = await self._read(request)
            if len(upstream_names(model.transcriber)) < 2:
                raise HTTPError(
                    400, "model: expected one of several upstreams", "model"
                )
            found = await _result(model, recording, model.leave_one_out)
        answer = {
            "model": model.transcriber.name,
            "trained_without": knows_absence(model.transcriber),
            "upstreams": [_without(left_out, recording) for left_out in found],
        }
        return JSONResponse(answer)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._num_requests >= self._limits.requests:
            raise _overloaded()
        self._num_requests += 1
        try:
            yield
        finally:
            self._num_requests -= 1

    async def _read(self, request: Request) -> tuple[Asked, _Served, Recording]:
        form = await read_form(request, 1e6 * self._limits.megabytes)
        async with _closing(form):
            asked = parse_form(form)
            model = self._find(asked.model)
            tokens = model.transcriber.model.vocabulary.tokens
            hotwords = parse_hotwords(asked.prompt, tokens)
            content = await asked.file.read()
        recording = await asyncio.get_running_loop().run_in_executor(
            self._readers, self._decode, content, asked.file, model.transcriber.fs
        )
        return asked, model, replace(recording, hotwords=hotwords)

    def _decode(self, content: bytes, file: UploadFile, fs: int) -> Recording:
        max_seconds = 60 * self._limits.minutes
        try:
            recording = read_recording(content, fs, file.filename, max_seconds)
        except AudioTooLongError as error:
            minutes = f"{self._limits.minutes:g}"
            raise HTTPError(
                413, f"file: expected at most {minutes} minutes, found more", "file"
            ) from error
        except AudioError as error:
            raise HTTPError(
                415, f"file: {error}", "file", "unsupported_audio"
            ) from error
        if recording.duration < MIN_SECONDS:
            raise HTTPError(
                422,
                f"file: expected at least {MIN_SECONDS} s of audio, found "
                f"{recording.duration:.3f} s",
                "file",
                "audio_too_short",
            )
        return recording

    def _find(self, name: str | None) -> _Served:
        if name in (None, ANY_MODEL) and name not in self._models:
            return next(iter(self._models.values()))
        if name not in self._models:
            known = ", ".join(self._models)
            raise HTTPError(
                404,
                f"model: expected {known}; found {name!r}",
                "model",
                "model_not_found",
            )
        return self._models[name]


class _Page(StaticFiles):
    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(_PAGE_HEADERS)
        return response


@asynccontextmanager
async def _closing(form: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await form.close()


async def _result(model: _Served, recording: Recording, work: Any) -> Any:
    try:
        return await asyncio.wrap_future(model.worker.submit(recording, work))
    except QueueFull:
        raise _overloaded() from None
    except Stopped:
        raise HTTPError(503, "the server is being stopped") from None


def _check(result: Transcript | Failure, recording: Recording) -> Transcript:
    if isinstance(result, Transcript):
        return result
    # The reason may name files of the server.
    _log.error("%s", result)
    if recording.duration < 1:
        raise HTTPError(422, "file: too short for the model", "file", "audio_too_short")
    raise HTTPError(500, "the model could not transcribe this recording")


def _without(left_out: LeftOut, recording: Recording) -> dict[str, Any]:
    transcript = _check(left_out.transcript, recording)
    return {
        "name": left_out.upstream,
        "text": transcript.text,
        "words": words_to_dicts(transcript),
    }


def _overloaded() -> HTTPError:
    return HTTPError(
        429,
        "too many requests are waiting; try again in some seconds",
        code="overloaded",
        retry_after=_RETRY_SECONDS,
    )


async def _own_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPError)
    return error.response()


async def _other_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return HTTPError(error.status_code, error.detail).response()


async def _unexpected_error(request: Request, error: Exception) -> Response:
    return HTTPError(500, "something went wrong; the server's log says what").response()
