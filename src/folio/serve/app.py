"""The routes of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from folio.infer.score import score_text, text_vector
from folio.infer.worker import Worker
from folio.serve.answers import ChatAnswers, TextAnswers, embeddings, model_object
from folio.serve.asking import (
    Asked,
    ask_chat,
    ask_completion,
    ask_embedding,
    find_model,
)
from folio.serve.errors import ApiError, Json
from folio.serve.guard import Guard, Log
from folio.serve.live import Desk
from folio.serve.metrics import Metrics
from folio.serve.models import Catalog, Served
from folio.serve.respond import Answering
from folio.serve.schema import (
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    parse,
)
from folio.serve.settings import Settings

Say = Callable[[str], None]
Job = Callable[[], Any]
Kind = TypeVar("Kind", ChatBody, CompletionBody, EmbeddingBody)
OFF = {"docs_url": None, "redoc_url": None, "openapi_url": None}


def make_app(
    catalog: Catalog,
    worker: Worker,
    settings: Settings,
    *,
    loopback: bool = False,
    say: Say | None = None,
) -> FastAPI:
    """The application, ready for uvicorn; `app.state.desk` is where requests wait."""
    app = FastAPI(**OFF, redirect_slashes=False)
    desk, metrics = Desk(worker, settings), Metrics(catalog, worker)
    app.state.desk, app.state.metrics = desk, metrics
    _add_writing(app, catalog, desk, metrics)
    _add_reading(app, catalog, desk, metrics)
    _add_errors(app)
    app.add_middleware(Guard, settings=settings, loopback=loopback)
    app.add_middleware(Log, metrics=metrics, say=say)
    return app


def _add_writing(app: FastAPI, catalog: Catalog, desk: Desk, metrics: Metrics) -> None:
    """Routes that let a model write."""

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body, served = await _read(request, ChatBody, catalog)
        asked = await asyncio.to_thread(ask_chat, body, served)
        return Answering(ChatAnswers(asked), desk, metrics)

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        body, served = await _read(request, CompletionBody, catalog)
        asked = await asyncio.to_thread(ask_completion, body, served)
        scores = await _scores(request, asked, desk)
        return Answering(TextAnswers(asked, scores), desk, metrics)


def _add_reading(app: FastAPI, catalog: Catalog, desk: Desk, metrics: Metrics) -> None:
    """Routes where a model reads, or nothing is asked of one."""

    @app.post("/v1/embeddings")
    async def embed(request: Request) -> Response:
        body, served = await _read(request, EmbeddingBody, catalog)
        texts = await asyncio.to_thread(ask_embedding, body, served)
        model = served.model
        jobs = [partial(text_vector, model, ids) for ids in texts]
        vectors = await _in_turn(request, desk, jobs)
        total = sum(map(len, texts))
        usage = {"prompt_tokens": total, "completion_tokens": 0}
        metrics.count_tokens(served.name, usage)
        as_base64 = body.encoding_format == "base64"
        return Json(embeddings(served, vectors, total, as_base64))

    @app.get("/v1/models")
    async def models() -> Response:
        return Json({"object": "list", "data": [model_object(s) for s in catalog]})

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        served = catalog.find(name)
        if served is None:
            raise ApiError(404, "no such model", param="model", code="model_not_found")
        return Json(model_object(served))

    @app.get("/health")
    async def health() -> Response:
        desk.check()
        return Json({"status": "ok"})

    @app.get("/metrics")
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")


async def _read(
    request: Request, kind: type[Kind], catalog: Catalog
) -> tuple[Kind, Served]:
    """The body of a request, checked, and the model that it names."""
    try:
        data = await request.body()
    except ClientDisconnect:
        raise ApiError(408, "the client has left") from None
    body = parse(data, kind)
    return body, find_model(catalog, body)


async def _scores(request: Request, asked: Asked, desk: Desk) -> list:
    """Of the tokens of each prompt, where these are to be echoed with log-probs."""
    if not asked.echo or asked.logprobs is None:
        return []
    model, top = asked.served.model, asked.logprobs
    limit = model.config.max_seq_len
    prompts = [asking.prompt for asking in asked.requests]
    if (longest := max(map(len, prompts))) > limit:
        message = f"prompt: {longest} tokens; the model reads {limit}"
        raise ApiError(400, message, param="prompt", code="context_length_exceeded")
    jobs = [partial(score_text, model, ids, top) for ids in prompts]
    return await _in_turn(request, desk, jobs)


async def _in_turn(request: Request, desk: Desk, jobs: Sequence[Job]) -> list:
    """What jobs return, one by one, as long as the client is there."""
    found = []
    for job in jobs:
        if await request.is_disconnected():
            raise ApiError(408, "the client has left")
        found.append(await desk.call(job))
    return found


def _add_errors(app: FastAPI) -> None:
    """All errors look like OpenAI's; those nobody foresaw are answered by `Log`."""

    @app.exception_handler(ApiError)
    async def told(request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def by_framework(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path[:200]}: {error.detail}"
        headers = error.headers or {}
        return ApiError(error.status_code, message, headers=headers).response()
