"""Errors of the API, in the form of OpenAI."""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tritstream.golden.errors import CheckpointError
from tritstream.host.errors import HostError
from tritstream.host.serving.engine import Busy, Stopped

__all__ = ["ApiError", "add_handlers", "of_generation"]

_LOG = logging.getLogger(__name__)

#: Types of errors by status; all others are server_error.
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
          404: "not_found_error", 405: "invalid_request_error", 413: "invalid_request_error",
          415: "invalid_request_error", 422: "invalid_request_error"}


class ApiError(Exception):
    """A request that is refused, or failed.

    Parameters
    ----------
    status : int
        HTTP status.
    message : str
        What is wrong, and what to do.
    param : str or None
        Field of the request that is wrong.
    code : str or None
        Name of the error for programs.
    """

    def __init__(self, status: int, message: str, param: str | None = None,
                 code: str | None = None):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> dict[str, Any]:
        """Return the error as OpenAI's API gives it."""
        # A message may quote a text with a lone surrogate, which JSON cannot hold in UTF-8.
        message = str(self).encode("utf-8", "replace").decode()
        return {"error": {"message": message, "type": _TYPES.get(self.status, "server_error"),
                          "param": self.param, "code": self.code}}


def of_generation(error: Exception) -> ApiError:
    """Return the error of the API for an error that ended a generation; log unusual ones."""
    if isinstance(error, Busy):
        return ApiError(503, str(error), code="server_overloaded")
    if isinstance(error, Stopped):
        return ApiError(503, str(error), code="server_stopped")
    if isinstance(error, HostError):
        _LOG.error("the device failed: %s", error)
        return ApiError(503, f"the device failed: {error}", code="device_error")
    if isinstance(error, CheckpointError):
        return ApiError(500, str(error), code="model_error")
    _LOG.error("a generation failed", exc_info=error)
    return ApiError(500, f"the server failed ({type(error).__name__}: {error})",
                    code="internal_error")


def add_handlers(app: FastAPI) -> None:
    """Make an application give all errors in the form of OpenAI."""

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> JSONResponse:
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return JSONResponse(error.body(), error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = _invalid(error.errors())
        return JSONResponse(found.body(), found.status)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse(ApiError(error.status_code, message).body(), error.status_code,
                            error.headers)


def _invalid(errors: Sequence[Any]) -> ApiError:
    """Return the refusal of a request for the errors that pydantic found."""
    # Of the alternatives of a field, the one that fits best fails at the innermost place.
    worst = max(errors, key=lambda error: len(error["loc"]))
    if worst["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON ({worst['ctx']['error']})")
    # Names of the alternatives are part of the place, such as str and list[int].
    place = [str(part) for part in worst["loc"][1:] if part != "str" and "[" not in str(part)]
    if not place:
        return ApiError(400, "the body must be a JSON object, sent as application/json")
    return ApiError(400, f"{'.'.join(place)}: {worst['msg']}", place[0])
