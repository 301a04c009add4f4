"""Asking a model behind an OpenAI-compatible server: patiently, and many at a time.

Only the standard library, and no address but the one that is given: redirects are
refused, for they would carry the key elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from folio.config import UserError
from folio.text.chat import Message

Say = Callable[[str], None]
ROUTE = "/chat/completions"
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}  # may be right a little later
LONGEST_WAIT = 60.0  # seconds between two tries
LARGEST = 1 << 22  # bytes of an answer that are read


class Unanswered(Exception):
    """No answer after all tries, and why."""


class Refused(UserError):
    """The server doesn't want to be asked this, or not by us."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args, **kwargs) -> None:
        return None


OPENER = urllib.request.build_opener(_NoRedirects)


@dataclass(frozen=True)
class ChatApi:
    """A model at `url`, such as http://127.0.0.1:8000/v1.

    timeout: seconds for one try; tries: how many, each waiting twice as long as the one
    before it, about `wait` seconds at first, or as long as the server asks for.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    temperature: float = 0.0
    max_tokens: int = 1024
    timeout: float = 120.0
    tries: int = 5
    wait: float = 1.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.username is not None:
            raise UserError("url: has a name or password in it; give the key apart")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UserError(
                f"url = {self.url!r}: give the base of an API, such as "
                "http://127.0.0.1:8000/v1"
            )
        for name in ("tries", "max_tokens", "timeout"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} = {getattr(self, name)}: must be above 0")

    def ask(self, messages: Sequence[Message]) -> str:
        """What the model says to a conversation.

        Raises Unanswered when all tries have failed; Refused, or another UserError, for
        what no patience would mend, such as a wrong key.
        """
        for attempt in range(self.tries):
            try:
                return self._try(messages)
            except _TryAgain as error:
                reason, wait = error.reason, error.wait
            if attempt + 1 < self.tries:
                backoff = self.wait * 2**attempt * random.uniform(0.75, 1.25)
                self.sleep(min(backoff if wait is None else wait, LONGEST_WAIT))
        raise Unanswered(f"{self.url}: {reason}, {self.tries} times")

    def _try(self, messages: Sequence[Message]) -> str:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        url = self.url.rstrip("/").removesuffix(ROUTE) + ROUTE
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with OPENER.open(request, timeout=self.timeout) as response:
                return self._content(response.read(LARGEST))
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = getattr(error, "reason", None) or error or type(error).__name__
            raise _TryAgain(f"no answer ({reason})") from None

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        said = f"status {error.code} ({_one_line(error.read(1 << 16)) or error.reason})"
        if error.code not in AGAIN:
            return Refused(f"{self.url}: {said}")
        asked = error.headers.get("Retry-After", "")
        return _TryAgain(said, float(asked) if asked.isdecimal() else None)

    def _content(self, data: bytes) -> str:
        try:
            content = json.loads(data)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            content = None
        if not isinstance(content, str):
            raise UserError(
                f"{self.url}: answers in another form than an OpenAI-compatible API: "
                f"{_one_line(data)!r}"
            )
        return content


class _TryAgain(Exception):
    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.reason, self.wait = reason, wait


def ask_all(
    api: ChatApi,
    conversations: Sequence[Sequence[Message]],
    at_once: int = 8,
    say: Say = print,
) -> list[str | None]:
    """The answers in order, None where none came; at most `at_once` under way.

    The first is asked alone: a wrong address or key costs one try, not a thousand.
    `say` is told why others stay without an answer, each reason once.
    """
    if at_once < 1:
        raise UserError(f"at_once = {at_once}: must be at least 1")
    if not conversations:
        return []
    told: set[str] = set()

    def ask(messages: Sequence[Message]) -> str | None:
        try:
            return api.ask(messages)
        except (Unanswered, Refused) as error:
            if str(error) not in told:
                told.add(str(error))
                say(str(error))
            return None

    try:
        first = api.ask(conversations[0])
    except Unanswered as error:
        raise UserError(str(error)) from None
    pool = ThreadPoolExecutor(at_once)
    try:
        return [first, *pool.map(ask, conversations[1:])]
    finally:
        pool.shutdown(cancel_futures=True)


def _one_line(data: bytes) -> str:
    """What an error says, shortened; OpenAI's are objects with a message."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["error"]["message"]
    return " ".join(str(text).split())[:200]
