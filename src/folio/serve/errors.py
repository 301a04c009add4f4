"""Errors as OpenAI's API words them; clients know how to read these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

LONGEST = 500  # characters of a message; it may quote what a client sent


class ApiError(Exception):
    """What is wrong with a request: an HTTP status, a sentence, the field to blame."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message = status, message
        self.param, self.code, self.headers = param, code, dict(headers or {})

    @property
    def kind(self) -> str:
        """The word of the API for this kind of error."""
        match self.status:
            case 401 | 403:
                return "authentication_error"
            case 429:
                return "rate_limit_error"
            case status if status >= 500:
                return "server_error"
        return "invalid_request_error"

    def body(self) -> dict[str, Any]:
        """The object that tells of it."""
        message = printable(self.message)
        if len(message) > LONGEST:
            message = message[:LONGEST] + " …"
        param = self.param and printable(self.param)
        error = {"message": message, "type": self.kind, "param": param}
        return {"error": error | {"code": self.code}}

    def response(self) -> Response:
        """The answer that carries it."""
        return Json(self.body(), self.status, self.headers)


def printable(text: str) -> str:
    """What would move a cursor, or isn't to be seen, by its name.

    >>> printable("é\\x1b[2K")
    'é\\\\x1b[2K'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def in_one_line(text: object) -> str:
    """
    >>> in_one_line(ValueError("two\\n  lines"))
    'two lines'
    """
    return " ".join(str(text).split())


class Json(Response):
    """JSON in ASCII: so half of a surrogate pair, quoted back, can't break it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content).encode()


def to_json(content: Any) -> str:
    """One line of ASCII, without NaN or infinities.

    >>> to_json({"text": "é"})
    '{"text":"\\\\u00e9"}'
    """
    return json.dumps(content, allow_nan=False, separators=(",", ":"))
