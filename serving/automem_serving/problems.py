"""Errors as HTTP says them: one shape for every route, that of OpenAI's API.

`{"error": {"message", "type", "code", "param"}}`: what was expected, what came, what to do. No
message holds a path of the host or another tenant's data.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from automem.errors import AutoMemError, EngineRequestError, InfrastructureError, UsageError
from automem.registry import AliasMovedError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


class ApiError(AutoMemError):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """The error as a response."""
        return JSONResponse(
            error_body(self.status, self.code, str(self), self.param), self.status, self.headers
        )


def error_body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


def not_found(what: str) -> ApiError:
    """404: there is none, or it is not the caller's, which is the same to the caller."""
    return ApiError(404, "not_found", f"no such {what}")


def as_api_error(error: Exception, request_id: str = "") -> ApiError:
    """What an error is to a caller; what nobody foresaw is a 500 that says nothing of itself but
    the id under which the log has it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, AliasMovedError):
        return ApiError(409, "alias_moved", str(error))
    if isinstance(error, UsageError):
        return ApiError(422, "invalid_value", str(error))
    if isinstance(error, EngineRequestError):
        return ApiError(400, "engine_refused", str(error))
    if isinstance(error, InfrastructureError):
        return ApiError(
            503,
            f"{error.boundary}_failed",
            f"the {error.boundary} failed; nothing is lost: retry, with the same Idempotency-Key "
            "where there was one",
            headers={"Retry-After": "1"},
        )
    under = f" under {request_id}" if request_id else ""
    return ApiError(
        500, "internal_error", f"this is a defect of the server; its log has the reason{under}"
    )
