"""From a body to what the engine is asked: every limit is checked here, before work."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from folio.config import UserError
from folio.infer.grammar import Grammars
from folio.infer.request import Request
from folio.infer.sampling import Sampling
from folio.infer.steering import Steering
from folio.serve.errors import ApiError, in_one_line
from folio.serve.models import Catalog, Served
from folio.serve.schema import (
    ChatBody,
    Common,
    CompletionBody,
    EmbeddingBody,
    ResponseFormat,
    Writing,
)
from folio.serve.settings import MOST_PROMPTS

COMPLETION_TOKENS = 16  # when a completion doesn't say how many; as OpenAI's does
MOST_AT_ONCE = 64  # samples of one request


@dataclass(frozen=True)
class Asked:
    """What one body asks for: a request for each of its prompts, in order."""

    served: Served
    requests: tuple[Request, ...]
    stream: bool = False
    usage: bool = False  # a last event with the counts of tokens
    logprobs: int | None = None  # likeliest tokens to tell beside each; None: nothing
    echo: bool = False  # the prompt, too

    @property
    def samples(self) -> int:
        return sum(request.n for request in self.requests)


def find_model(catalog: Catalog, body: Common) -> Served:
    """The model that a body names, or an ApiError."""
    served = catalog.find(body.model)
    if served is None:
        names = ", ".join(catalog.models)
        message = f"the model {body.model!r} is not here; there is: {names}"
        if body.model is None:
            message = f"model: say which of {names}"
        raise ApiError(404, message, param="model", code="model_not_found")
    return served


def ask_chat(body: ChatBody, served: Served) -> Asked:
    """A conversation that the model is to go on with."""
    if not served.chats:
        message = f"the model {served.name!r} was not taught to chat"
        raise ApiError(400, f"{message}; use /v1/completions", param="model")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise ApiError(400, "max_tokens is the old name of max_completion_tokens: one")
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    most = body.max_completion_tokens
    messages = [message.plain() for message in body.messages]
    _check_length(served, (m["content"] for m in messages), "messages")
    ids = blame("messages", lambda: Request(messages).ids(served.tokenizer))
    request = _request(
        body,
        served,
        max_new_tokens=body.max_tokens if most is None else most,
        top=body.top_logprobs or 0,
    )
    if (grammar := _grammar(body.response_format, served)) is not None:
        steering = replace(request.steering, grammar=grammar)
        request = replace(request, steering=steering)
    shown = request.top if body.logprobs else None
    return _asked(body, served, [replace(request, prompt=ids)], logprobs=shown)


def ask_completion(body: CompletionBody, served: Served) -> Asked:
    """Texts that the model is to go on with; what they say is never a control token."""
    if body.echo and body.stream and body.logprobs is not None:
        raise ApiError(400, "echo with logprobs is not streamed", param="stream")
    if body.echo and (body.n or 1) > 1:
        raise ApiError(400, "echo: for n = 1 only", param="n")
    most = COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    request = _request(body, served, max_new_tokens=most, top=body.logprobs or 0)
    requests = [
        replace(request, prompt=ids, seed=request.seed + number)
        for number, ids in enumerate(prompt_ids(body.prompt, served, "prompt"))
    ]
    if len(requests) * request.n > MOST_AT_ONCE:
        message = f"{len(requests)} prompts with n = {request.n}: at most"
        raise ApiError(400, f"{message} {MOST_AT_ONCE} texts at once", param="n")
    return _asked(
        body, served, requests, logprobs=body.logprobs, echo=body.echo or False
    )


def ask_embedding(body: EmbeddingBody, served: Served) -> list[list[int]]:
    """The texts that are to become vectors, as ids."""
    width = served.model.config.d_model
    if body.dimensions not in (None, width):
        message = f"dimensions = {body.dimensions}: this model's vectors have {width}"
        raise ApiError(400, message, param="dimensions")
    texts = prompt_ids(body.input, served, "input")
    limit = served.model.config.max_seq_len
    for ids in texts:
        if len(ids) > limit:
            message = f"input: a text of {len(ids)} tokens; the model reads {limit}"
            raise _too_long(message, "input")
    return texts


def prompt_ids(
    given: str | list[int] | list[str] | list[list[int]], served: Served, field: str
) -> list[list[int]]:
    """One text or many, of characters or of ids, as lists of ids."""
    many: Sequence[Any] = given
    if isinstance(given, str) or isinstance(given[0], int):
        many = [given]
    if len(many) > MOST_PROMPTS:
        raise ApiError(400, f"{field}: more than {MOST_PROMPTS} texts", param=field)
    limit = served.tokenizer.vocab_size
    for text in many:
        if isinstance(text, str):
            _check_length(served, [text], field)
        elif max(text) >= limit:
            message = f"{field}: id {max(text)}; this model's end at {limit - 1}"
            raise ApiError(400, message, param=field)
    encode = lambda text: Request(text).ids(served.tokenizer)  # noqa: E731
    return blame(field, lambda: [encode(text) for text in many])


def blame(field: str, action: Callable[[], Any]) -> Any:
    """What `action` returns; a UserError becomes the client's, about this field."""
    try:
        return action()
    except UserError as error:
        raise ApiError(400, in_one_line(error), param=field) from None


def _request(body: Writing, served: Served, **more: Any) -> Request:
    """All that a body says of how to write; the prompt comes later."""
    stop = body.stop or []
    seed = secrets.randbits(32) if body.seed is None else body.seed
    bias = _bias(body.logit_bias or {}, served.tokenizer.vocab_size)

    def make() -> Request:
        steering = Steering(
            bias, body.presence_penalty or 0.0, body.frequency_penalty or 0.0
        )
        return Request(
            (),
            sampling=_sampling(body),
            seed=seed,
            n=body.n or 1,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            steering=steering,
            **more,
        )

    return blame("", make)


def _sampling(body: Writing) -> Sampling:
    """A top_p of 0 keeps the likeliest token alone."""
    temperature = 1.0 if body.temperature is None else body.temperature
    top_k, top_p = body.top_k, body.top_p
    if top_p == 0:
        top_k, top_p = 1, None
    penalty = body.repetition_penalty or 1.0
    return Sampling(temperature, top_k, top_p, body.min_p, penalty)


def _bias(given: dict[str, float], vocab_size: int) -> dict[int, float]:
    bias = {}
    for name, value in given.items():
        if not name.isascii() or not name.isdigit() or len(name) > 9:
            message = f"logit_bias: {name[:40]!r} is no token's id"
            raise ApiError(400, message, param="logit_bias")
        if int(name) >= vocab_size:
            message = f"logit_bias: id {name}; this model's end at {vocab_size - 1}"
            raise ApiError(400, message, param="logit_bias")
        bias[int(name)] = value
    return bias


def _grammar(wanted: ResponseFormat | None, served: Served):
    """What the answer must keep to, if anything."""
    if wanted is None or wanted.type == "text":
        return None
    schema = None
    if wanted.type == "json_schema":
        if wanted.json_schema is None:
            message = "response_format.json_schema: say which"
            raise ApiError(400, message, param="response_format")
        schema = wanted.json_schema.schema_

    def make():
        grammars: Grammars = served.grammars
        return grammars.json(schema)

    return blame("response_format", make)


def _asked(
    body: Writing, served: Served, requests: Sequence[Request], **more: Any
) -> Asked:
    options = body.stream_options
    if options is not None and not body.stream:
        message = "stream_options: only with stream: true"
        raise ApiError(400, message, param="stream_options")
    usage = options is not None and options.include_usage
    return Asked(served, tuple(requests), body.stream or False, usage, **more)


def _check_length(served: Served, texts: Iterable[str], field: str) -> None:
    """Refuse, before encoding, parts of a text that can't fit whatever their tokens."""
    limit = served.longest_text
    length = sum(len(text) for text in texts)
    if limit is not None and length > limit:
        most = served.model.config.max_seq_len
        message = f"{field}: {length} characters are more than {most} tokens can say"
        raise _too_long(message, field)


def _too_long(message: str, field: str) -> ApiError:
    return ApiError(400, message, param=field, code="context_length_exceeded")
