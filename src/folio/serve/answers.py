"""The API's objects: whole answers, and the pieces of streamed ones."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from folio.infer.request import Completion, Event, Token
from folio.serve.asking import Asked
from folio.serve.live import Live
from folio.serve.models import Served
from folio.text.tokenizer import Tokenizer

Object = dict[str, Any]


class Answers:
    """What chats and completions have in common; `chat` and `text` fill in the rest."""

    kind = piece_kind = prefix = ""

    def __init__(self, asked: Asked, scores: Sequence[Sequence[Token]] = ()):
        """scores: of the tokens of each prompt, for an `echo` with log-probs."""
        self.asked, self.scores = asked, scores
        self.tokenizer = asked.served.tokenizer
        self.id = f"{self.prefix}-{uuid4().hex}"
        self.created = int(time.time())

    def whole(self, live: Live) -> Object:
        """The answer when all of it is there."""
        completions = enumerate(live.completions)
        choices = [self._choice(number, c) for number, c in completions]
        return self._object(self.kind, choices=choices, usage=live.usage)

    def first(self) -> Iterator[Object]:
        """What a stream begins with."""
        yield from ()

    def piece(self, number: int, event: Event) -> Object | None:
        """An event of sample `number` as a stream shows it; None: not at all."""
        raise NotImplementedError

    def usage(self, live: Live) -> Object:
        """The last piece of a stream, where one was asked for."""
        return self._object(self.piece_kind, choices=[], usage=live.usage)

    def _choice(self, number: int, completion: Completion) -> Object:
        raise NotImplementedError

    def _object(self, kind: str, **more: Any) -> Object:
        head = {"id": self.id, "object": kind, "created": self.created}
        return head | {"model": self.asked.served.name} | more

    def _piece(self, choice: Object) -> Object:
        piece = self._object(self.piece_kind, choices=[choice])
        return piece | ({"usage": None} if self.asked.usage else {})

    def _is_silent(self, event: Event) -> bool:
        """Would a client learn nothing from it?"""
        told = event.token is not None and self.asked.logprobs is not None
        return not (event.text or event.finish or told)


class ChatAnswers(Answers):
    """Of /v1/chat/completions."""

    kind, piece_kind = "chat.completion", "chat.completion.chunk"
    prefix = "chatcmpl"

    def first(self) -> Iterator[Object]:
        for number in range(self.asked.samples):
            delta = {"role": "assistant", "content": ""}
            yield self._piece(self._delta(number, delta))

    def piece(self, number: int, event: Event) -> Object | None:
        if self._is_silent(event):
            return None
        delta = {"content": event.text} if event.text else {}
        tokens = [event.token] if event.token is not None else []
        return self._piece(self._delta(number, delta, tokens, event.finish))

    def _delta(
        self,
        number: int,
        delta: Object,
        tokens: Sequence[Token] = (),
        finish: str | None = None,
    ) -> Object:
        logprobs = self._logprobs(tokens) if tokens else None
        choice = {"index": number, "delta": delta, "logprobs": logprobs}
        return choice | {"finish_reason": finish}

    def _choice(self, number: int, completion: Completion) -> Object:
        said = {"role": "assistant", "content": completion.text, "refusal": None}
        return {
            "index": number,
            "message": said,
            "logprobs": self._logprobs(tokens_of(completion)),
            "finish_reason": completion.finish,
        }

    def _logprobs(self, tokens: Sequence[Token]) -> Object | None:
        if self.asked.logprobs is None:
            return None
        content = []
        for token in tokens:
            likeliest = [self._one(id, value) for id, value in token.top]
            entry = self._one(token.id, token.logprob)
            content.append(entry | {"top_logprobs": likeliest})
        return {"content": content, "refusal": None}

    def _one(self, id: int, logprob: float) -> Object:
        data = self.tokenizer.token_bytes(id)
        text = data.decode("utf-8", errors="replace")
        return {"token": text, "logprob": finite(logprob), "bytes": list(data)}


class TextAnswers(Answers):
    """Of /v1/completions."""

    kind = piece_kind = "text_completion"
    prefix = "cmpl"

    def first(self) -> Iterator[Object]:
        if self.asked.echo:
            for number, request in enumerate(self.asked.requests):
                yield self._piece(self._entry(number, self._prompt(request.prompt)))

    def piece(self, number: int, event: Event) -> Object | None:
        if self._is_silent(event):
            return None
        tokens = [event.token] if event.token is not None else []
        return self._piece(self._entry(number, event.text, tokens, event.finish))

    def _choice(self, number: int, completion: Completion) -> Object:
        text, tokens = completion.text, tokens_of(completion)
        if not self.asked.echo:
            return self._entry(number, text, tokens, completion.finish)
        prompt = self.asked.requests[number].prompt
        text = self._prompt(prompt) + text
        if self.asked.logprobs is None:
            return self._entry(number, text, (), completion.finish)
        first = Token(prompt[0], float("nan"))  # nothing stands before it
        tokens = [first, *self.scores[number], *tokens]
        return self._entry(number, text, tokens, completion.finish)

    def _prompt(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def _entry(
        self,
        number: int,
        text: str,
        tokens: Sequence[Token] = (),
        finish: str | None = None,
    ) -> Object:
        logprobs = self._logprobs(tokens)
        entry = {"index": number, "text": text, "logprobs": logprobs}
        return entry | {"finish_reason": finish}

    def _logprobs(self, tokens: Sequence[Token]) -> Object | None:
        """The old layout: parallel lists, likeliest tokens by their names."""
        if self.asked.logprobs is None:
            return None
        names = [token_name(self.tokenizer, token.id) for token in tokens]
        offsets, place = [], 0
        for name in names:
            offsets.append(place)
            place += len(name)
        known = [token.logprob == token.logprob for token in tokens]
        tops = [
            {token_name(self.tokenizer, id): finite(value) for id, value in token.top}
            for token in tokens
        ]
        return {
            "tokens": names,
            "token_logprobs": [
                finite(token.logprob) if told else None
                for token, told in zip(tokens, known, strict=True)
            ],
            "top_logprobs": [
                top if told else None for top, told in zip(tops, known, strict=True)
            ],
            "text_offset": offsets,
        }


def tokens_of(completion: Completion) -> list[Token]:
    """Its tokens, as the engine chose them."""
    return [
        Token(*each)
        for each in zip(
            completion.ids, completion.logprobs, completion.top, strict=True
        )
    ]


def token_name(tokenizer: Tokenizer, id: int) -> str:
    """Its text, or `bytes:\\\\xe2\\\\x82` where it is a part of a character."""
    data = tokenizer.token_bytes(id)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def finite(logprob: float) -> float:
    """JSON has no infinities.

    >>> finite(float("-inf"))
    -9999.0
    """
    return max(logprob, -9999.0)


def embeddings(
    served: Served, vectors: Sequence[Any], tokens: int, as_base64: bool
) -> Object:
    """Of /v1/embeddings: vectors in the order of the texts."""
    data = []
    for index, vector in enumerate(vectors):
        shown: Any = vector.tolist()
        if as_base64:
            raw = np.asarray(vector, dtype="<f4").tobytes()
            shown = base64.b64encode(raw).decode()
        data.append({"object": "embedding", "index": index, "embedding": shown})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    head = {"object": "list", "data": data, "model": served.name}
    return head | {"usage": usage}


def model_object(served: Served) -> Object:
    """One entry of /v1/models; what is ours is under `folio`."""
    config = served.model.config
    own = {"max_seq_len": config.max_seq_len, "chat": served.chats}
    head = {"id": served.name, "object": "model", "created": served.created}
    return head | {"owned_by": "folio", "folio": own}
