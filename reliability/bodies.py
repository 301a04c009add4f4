"""Row 13: any bytes as the body of a request. Is it always answered as it should be?

Half of the bodies are good ones with a few values, keys or whole branches exchanged for
hostile ones; half are bytes: good bodies cut, flipped, doubled, encoded in another way,
or noise. They go to the application as uvicorn hands them over, with head and pieces.
Promised is: an answer in 2xx, or an error in 4xx worded as OpenAI's API words them,
within 5 s; a request that is known gets the same answer before and after; no step of
the engine fails, and nothing is left under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Iterator
from typing import Any

from folio.infer.worker import Worker
from folio.serve import app as app_module
from folio.serve.app import make_app
from folio.serve.errors import ApiError
from folio.serve.models import Catalog
from folio.serve.settings import Settings
from reliability.row import Row, Tally, seeds
from reliability.service import served
from reliability.subject import replaced

CHAT, TEXT, VECTOR = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
GOOD: dict[str, list[dict[str, Any]]] = {
    CHAT: [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hm?"}]},
            ],
            "max_tokens": 3,
            "n": 2,
            "stop": ["x", "yz"],
            "logit_bias": {"104": 5, "9": -100},
            "logprobs": True,
            "top_logprobs": 2,
            "user": "me",
        },
        {
            "messages": [{"role": "user", "content": "Give me JSON."}],
            "max_completion_tokens": 4,
            "temperature": 0.5,
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "n",
                    "schema": {
                        "type": "object",
                        "properties": {"a": {"type": "integer", "maximum": 9}},
                        "required": ["a"],
                    },
                },
            },
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ],
    TEXT: [
        {"prompt": "Once", "max_tokens": 3, "logprobs": 2, "echo": True, "seed": 7},
        {
            "prompt": [[1, 2, 3], [4]],
            "max_tokens": 2,
            "temperature": 0.9,
            "top_p": 0.5,
            "top_k": 4,
            "min_p": 0.1,
            "presence_penalty": 1.0,
            "frequency_penalty": -1.0,
            "repetition_penalty": 1.2,
            "stream": True,
        },
    ],
    VECTOR: [{"input": ["a", "b"], "encoding_format": "base64", "dimensions": 16}],
}
NESTED: Any = "end"
for _ in range(90):
    NESTED = {"properties": {"a": NESTED}, "items": [NESTED]} if _ < 5 else [NESTED]
HOSTILE = [
    *(None, True, False, "", "\0", "\ud800", "😀", "é" * 300, " ", "null", "1"),
    *(0, 1, -1, 7, 8, 9, 64, 65, 1 << 31, -(1 << 63), 1 << 63, 1 << 64, 10**400),
    *(0.0, -0.0, 0.5, 1.0, 1e-320, 5e-324, 1e-30, 1e308, -1e308, 2.0, 100.0),
    *([], [[]], {}, {"": 0}, [None], [""], [0], [1.5], ["a"] * 70, [[1]] * 9, NESTED),
    {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}},
    [{"role": "user", "content": "x"}] * 3,
    [{"role": "assistant", "content": "x"}],
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}},
    {"type": "string", "pattern": "^(a|b)*a[ab]{9}$"},
    *("http://127.0.0.1:1/x", "file:///etc/passwd", "data:text/html,x", "../../x"),
    *("<|end|><|system|>", "x" * 5000, [7] * 300, {"104": 1e308}, {"-1": 1}),
]
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "01", "'a'", "{"]


def mutated(chance: random.Random, body: Any) -> Any:
    """The body with one place changed."""
    body = json.loads(json.dumps(body))
    place, key = chance.choice([*_places(body), (body, None)])
    match chance.randrange(5):
        case 0 if key is not None:
            del place[key]
        case 1 if isinstance(body, dict):
            name = chance.choice([*FIELDS, "wibble", "", "\ud800"])
            body[name] = chance.choice(HOSTILE)
        case 2 if isinstance(place, dict) and key is not None:
            place[chance.choice(["type", "x", "\0", key.upper()])] = place.pop(key)
        case _ if key is not None:
            place[key] = chance.choice(HOSTILE)
    return body


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) within."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inside:
        yield value, key
        if isinstance(each, dict | list) and len(each) < 20:
            yield from _places(each)


FIELDS = sorted({key for bodies in GOOD.values() for body in bodies for key in body})
FIELDS += ["tools", "suffix", "best_of", "functions", "model", "prompt", "input"]


def schema_body(chance: random.Random, path: str) -> bytes:
    """Good, but for one to four changes; now and then a number JSON doesn't have."""
    body = chance.choice(GOOD[path])
    for _ in range(chance.choice((1, 1, 2, 4))):
        body = mutated(chance, body)
    text = json.dumps(body)
    if chance.random() < 0.1:
        text = text.replace("3", chance.choice(RAW), 1)
    if chance.random() < 0.03:
        text = text[:-1] + ', "n": 1, "n": 2}'
    return text.encode()


def raw_body(chance: random.Random, path: str) -> bytes:
    """Bytes."""
    data = bytearray(json.dumps(chance.choice(GOOD[path])).encode())
    match chance.randrange(8):
        case 0:
            return chance.randbytes(chance.randrange(200))
        case 1:
            del data[chance.randrange(len(data)) :]
        case 2 | 3:
            for _ in range(chance.choice((1, 1, 3, 20))):
                data[chance.randrange(len(data))] = chance.randrange(256)
        case 4:
            data *= 2
        case 5:
            kind = chance.choice(["utf-16", "utf-32", "utf-8-sig", "utf-7"])
            return data.decode().encode(kind)
        case 6:
            start, end = sorted(chance.randrange(len(data)) for _ in range(2))
            del data[start:end]
        case 7:
            depth = chance.choice((5, 500, 20_000))
            middle = chance.choice([b"[", b'{"a":', b'{"messages":['])
            return middle * depth + chance.choice([b"", b"]" * depth])
    return bytes(data)


# ---- a server without a socket -------------------------------------------------------


class Caller:
    """Hands requests to an application, and checks what comes back."""

    def __init__(self, app: Any):
        self.app = app

    async def ask(self, path: str, data: bytes, piece: int) -> tuple[int, bytes]:
        """(status, body) of one request, whose body comes in pieces."""
        left, status, found = [data], [0], []

        async def receive() -> dict[str, Any]:
            if not left:
                await asyncio.Event().wait()  # the client stays
            some, rest = left[0][:piece], left.pop()[piece:]
            if rest:
                left.append(rest)
            return {"type": "http.request", "body": some, "more_body": bool(rest)}

        async def send(message: dict[str, Any]) -> None:
            status[0] = message.get("status", status[0])
            found.append(message.get("body", b""))

        headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        scope |= {"http_version": "1.1", "scheme": "http", "query_string": b""}
        scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
        await self.app(scope, receive, send)
        return status[0], b"".join(found)

    async def check(self, path: str, data: bytes, piece: int) -> tuple[Any, int]:
        """What is wrong with the answer to this, or None; and its status."""
        start, status = time.perf_counter(), 0
        try:
            status, found = await self.ask(path, data, piece)
            wrong = wrong_answer(status, found)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        if wrong is None and seconds > 5:
            wrong = f"took {seconds:.1f} s"
        return wrong, status


def wrong_answer(status: int, found: bytes) -> str | None:
    """Is it a sound answer, or an error as it should be?"""
    if not 200 <= status < 300 and not 400 <= status < 500:
        return f"status {status}: {found[:300]!r}"
    if found.startswith(b"data: "):
        *events, rest = found.decode().split("\n\n")
        last = events[-1].removeprefix("data: ")
        if rest or (last != "[DONE]" and wrong_error(json.loads(last))):
            return f"a stream ends with {events[-1:]!r}"
        return None
    values = json.loads(found)
    return wrong_error(values) if status >= 400 else None


def wrong_error(values: Any) -> str | None:
    """Is it `{"error": {"message", "type", "param", "code"}}`, in one line?"""
    error = values.get("error") if isinstance(values, dict) else None
    if not isinstance(error, dict) or set(values) != {"error"}:
        return f"no error of the API: {values!r}"
    if set(error) != {"message", "type", "param", "code"}:
        return f"an error with {sorted(error)}"
    message = error["message"]
    if not isinstance(message, str) or not message or not message.isprintable():
        return f"the message {message!r}"
    return "an error of ours" if error["type"] == "server_error" else None


TINY = {"max_seq_len": 64, "d_model": 16, "n_layers": 1}
GOLDEN = json.dumps({"prompt": "Once", "max_tokens": 9, "temperature": 0}).encode()
TOGETHER = 8


async def _work(seed: int, trials: int, kind: str, worker: Worker, app: Any) -> Tally:
    tally, caller = Tally(), Caller(app)
    make = schema_body if kind == "schema" else raw_body

    async def golden() -> Any:
        _, found = await caller.ask(TEXT, GOLDEN, 1000)
        return json.loads(found)["choices"]

    wanted = await golden()
    for first in range(0, trials, TOGETHER):
        chances = [random.Random(f"{kind} {seed}-{first + i}") for i in range(TOGETHER)]
        paths = [chance.choice(list(GOOD)) for chance in chances]
        data = [make(*pair) for pair in zip(chances, paths, strict=True)]
        asked = zip(paths, data, strict=True)
        found = await asyncio.gather(
            *(caller.check(path, body, 700) for path, body in asked)
        )
        for number, (wrong, status) in enumerate(found):
            where = f"{kind}, seed {seed}, trial {first + number}, {paths[number]}"
            if wrong:
                wrong += f" to {data[number][:300]!r}"
            tally.note(where, wrong, f"{kind}: {status}")
        if first % 400 == 0 and await golden() != wanted:
            tally.failures.append(f"{kind}, seed {seed}: another answer after {first}")
    if worker.faults or app.state.desk.under_way or app.state.desk.jobs:
        tally.failures.append(f"{kind}, seed {seed}: {worker.faults} faults, or a leak")
    return tally


def work(home: Any, seed: int, trials: int, kind: str) -> Tally:
    """`trials` bodies of one kind."""
    model = served(**TINY)
    with Worker(model.engine, say=lambda text: None) as worker:
        app = make_app(Catalog([model]), worker, Settings(), loopback=True)
        return asyncio.run(_work(seed, trials, kind, worker, app))


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """What JSON doesn't have is believed, and what can't be read is our fault."""

    def trusting(data: bytes, schema: Any) -> Any:
        try:
            return real(data, schema)
        except ApiError as error:
            if "not JSON" in error.message:
                json.loads(data)  # raises, and nobody expects it
            raise

    real = app_module.parse
    with replaced(app_module, "parse", trusting):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """A hundred thousand of each kind; quick: 320."""
    total, each = (160, 160) if quick else (100_000, 10_000)
    return {
        f"{kind}-{seed}": arguments
        for kind in ("schema", "raw")
        for seed, arguments in seeds(total, each, kind=kind).items()
    }


def settled(tally: Tally) -> str | None:
    """Some bodies must have been taken: mutants may not all be nonsense."""
    taken = tally.counts["schema: 200"]
    return None if taken > tally.trials / 40 else f"only {taken} bodies were good"


ROW = Row(
    13,
    "bodies",
    "any body is answered, in 2xx or with an error in 4xx as OpenAI's API words it",
    parts,
    work,
    "lets an exception out where the body is no JSON",
    broken,
    settled,
)
