"""Bodies that make no sense, are odd, or want something fetched."""

import json
import socket
import time

import pytest

from calling import CHAT, TEXT, is_error
from folio.serve.errors import ApiError
from folio.serve.schema import CompletionBody, parse
from folio.serve.settings import Settings
from serving import running


@pytest.fixture(scope="module")
def keyless():
    with running(settings=Settings(drain_timeout=1.0)) as server:
        yield server
        assert server.worker.faults == 0
        assert server.is_empty()


QUESTION = [{"role": "user", "content": "Hm?"}]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"prompt"',
        b"\xff\xfe{}",
        b'{"prompt": "\xff"}',
        '{"prompt": "x"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b'{"prompt": "x", "temperature": NaN}',
        b'{"prompt": "x", "temperature": Infinity}',
        b'{"prompt": "x", "temperature": 1e999}',
        b'{"prompt": "x", "temperature": 1e308}',
        b'{"prompt": "x", "n": ' + b"9" * 5000 + b"}",
        b'{"prompt": "x", "n": 1.0}',
        b'{"prompt": "x", "n": true}',
        b'{"prompt": "x", "n": "1"}',
        b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "x", "stop": "\\ud800"}',
        b'{"prompt": "x", "\\ud800": 1}',
        b'{"prompt": "x", "\\u0000": 1}',
        b'{"prompt": "x", "logit_bias": {"\\ud800": 1}}',
        '{"prompt": "x", "logit_bias": {"١": 1}}'.encode(),
        b'{"prompt": "x", "model": "\\ud800\\u0000"}',
        b'{"prompt": "x", "seed": 9223372036854775808}',
        b'{"prompt": [-1]}',
        b'{"prompt": [99999]}',
        b'{"prompt": []}',
        b'{"prompt": [[]]}',
        b'{"prompt": ["x", 1]}',
    ],
)
def test_what_makes_no_sense_is_refused(keyless, data):
    status, answer = keyless.ask(TEXT, raw=data)
    assert status in (400, 404)
    assert is_error(answer, status)


@pytest.mark.parametrize(
    "data",
    [
        b'{"prompt": "x", "prompt": "y", "max_tokens": 1}',
        b'{"prompt": "\\u0000\\u001b[2K", "max_tokens": 2}',
        b'{"prompt": "", "max_tokens": 2}',
        b'{"prompt": "x", "max_tokens": 0}',
        b'{"prompt": "x", "temperature": 5e-324, "max_tokens": 2}',
        b'{"prompt": "x", "top_p": 5e-324, "max_tokens": 2}',
        b'{"prompt": "x", "top_p": 0, "max_tokens": 2}',
        b'{"prompt": "x", "min_p": 5e-324, "max_tokens": 2}',
        b'{"prompt": "x", "repetition_penalty": 0.01, "max_tokens": 9}',
        b'{"prompt": "x", "seed": -9223372036854775808, "max_tokens": 2}',
        b'{"prompt": "x", "user": {"any": [1, null]}, "max_tokens": 2}',
    ],
)
def test_what_is_odd_is_answered(keyless, data):
    status, answer = keyless.ask(TEXT, raw=data)
    assert status == 200, answer
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": [True] * 160_000},
        {"prompt": [-1] * 200_000},
        {"prompt": [["a"]] * 100_000},
        {"prompt": ["a"] * 200_000},
        {"prompt": "x", "modalities": ["x"] * 200_000},
        {"prompt": "x", **{f"a{i}": 1 for i in range(80_000)}},
        {"prompt": "x", "logit_bias": {f"a{i}": "x" for i in range(60_000)}},
    ],
)
def test_many_mistakes_take_no_longer_than_one(body):
    """Once each of them was written down: 12 s and 700 MB for one body."""
    data, start = json.dumps(body).encode(), time.process_time()
    with pytest.raises(ApiError):
        parse(data, CompletionBody)
    assert time.process_time() - start < 1


URLS = [
    "http://169.254.169.254/latest/meta-data",
    "https://example.com/cat.png",
    "file:///etc/passwd",
    "data:image/png;base64,AAAA",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
def test_no_url_is_ever_followed(keyless, monkeypatch, url, kind):
    lookup, connect = socket.getaddrinfo, socket.socket.connect
    reached = []

    def watched_lookup(host, *more, **options):
        reached.append(host)
        return lookup(host, *more, **options)

    def watched_connect(self, address):
        reached.append(address[0])
        return connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", watched_lookup)
    monkeypatch.setattr(socket.socket, "connect", watched_connect)
    part = {"type": kind, kind: {"url": url}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]
    status, answer = keyless.ask(CHAT, {"messages": messages})
    assert status == 400
    assert "text only" in answer["error"]["message"]
    schema = {"name": "x", "schema": {"$ref": url}}
    shape = {"type": "json_schema", "json_schema": schema}
    body = {"messages": QUESTION, "response_format": shape}
    assert keyless.ask(CHAT, body)[0] == 400
    assert set(reached) <= {"127.0.0.1"}  # our own questions
