"""What goes wrong between a client and the server, in the form that OpenAI's API gives it."""

from dataclasses import dataclass

from starlette.responses import JSONResponse


@dataclass(eq=False)  # not frozen: raising it sets its traceback
class HTTPError(Exception):
    """An answer that says why there is no other.

    Attributes:
        status: HTTP's status code.
        message: For people. It names no file of the server.
        param: The field of the request that is wrong; None: none.
        code: For programs.
        retry_after: Seconds after which it is worth another try; None: it is not.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: int | None = None

    def response(self) -> JSONResponse:
        """The answer."""
        kind = "invalid_request_error" if self.status < 429 else "server_error"
        error = {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code,
        }
        headers = (
            {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        )
        return JSONResponse({"error": error}, self.status, headers)
