"""Errors as OpenAI's API words them, so that its clients raise what they should."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """An answer other than success: its status, what it says, and what of the request is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """`{"error": {"message", "type", "param", "code"}}`."""
        kind = KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def of_status(status: int) -> ApiError:
    """The error of a bare HTTP status, such as 404 for a path that is not there."""
    return ApiError(status, HTTPStatus(status).phrase)


def turned_away(why: str) -> ApiError:
    """503: too much at once; the client may come again in a second."""
    return ApiError(503, why, code="overloaded", headers={"retry-after": "1"})
