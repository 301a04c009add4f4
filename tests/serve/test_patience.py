"""Heads and bodies that drip or never end, floods, and what is no HTTP."""

import json
import time

import pytest

from calling import TEXT, answer_on, call, ended, head_of, is_error
from folio.serve.settings import Settings
from serving import running


@pytest.fixture(scope="module")
def hasty():
    settings = Settings(read_timeout=0.3, max_connections=20, drain_timeout=1.0)
    with running(settings=settings) as server:
        yield server


@pytest.fixture(scope="module")
def keyless():
    with running(settings=Settings(drain_timeout=1.0)) as server:
        yield server
        assert server.worker.faults == 0
        assert server.is_empty()


POST = head_of(TEXT)


@pytest.mark.parametrize(
    "start", ["", "GET /health HT", "GET /health HTTP/1.1\r\nHost: localhost\r\nX: "]
)
def test_a_head_that_does_not_come_ends_the_connection(hasty, start):
    with hasty.connect() as line:
        line.sendall(start.encode())
        assert 0.2 < ended(line) < 3


def test_a_head_that_drips_ends_the_connection(hasty):
    """A letter now and then resets a timer that only waits for silence."""
    with hasty.connect() as line:
        start = time.monotonic()
        try:
            for letter in b"GET /health HTTP/1.1\r\nX: " + b"x" * 100:
                line.sendall(bytes([letter]))
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert time.monotonic() - start < 3


def test_a_second_head_that_drips_ends_it_too(hasty):
    with hasty.connect() as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGE")
        answer_on(line)
        line.sendall(b"T /health")
        assert ended(line) < 3


@pytest.mark.parametrize("more", ["Content-Length: 50", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_told_so(hasty, more):
    with hasty.connect() as line:
        line.sendall(f"{POST}{more}\r\n\r\n".encode())
        status, answer, _ = answer_on(line)
        assert status == 408
        assert b"did not come in time" in answer
        assert ended(line) < 3


def test_a_body_that_never_ends_does_not_keep_the_connection(hasty):
    """It was refused by its head, and goes on as if it hadn't been."""
    with hasty.connect() as line:
        length = "Content-Length: 99999999"
        line.sendall(f"{POST}{length}\r\n\r\n".encode())
        start = time.monotonic()
        try:
            while time.monotonic() - start < 5:
                line.sendall(b"x")
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert time.monotonic() - start < 3


def test_no_more_connections_than_are_allowed(hasty):
    lines = [hasty.connect() for _ in range(20)]
    try:
        with hasty.connect() as late:
            assert ended(late, 2) < 0.25  # sooner than the others time out
    finally:
        for line in lines:
            line.close()
    time.sleep(0.05)
    assert call(hasty, "GET", "/health")[0] == 200


def test_what_is_no_http_is_answered_and_ended(keyless):
    for data in (b"\x16\x03\x01\x02\x00\x01\xfc", b"GET\r\n\r\n", b"\0" * 300):
        with keyless.connect() as line:
            line.sendall(data)
            status, answer, _ = answer_on(line)
            assert status == 400
            assert is_error(json.loads(answer))
            assert ended(line) < 2


def test_a_flood_of_headers_is_refused(keyless):
    with keyless.connect() as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        sent = 0
        try:
            while sent < 1 << 22:
                sent += line.send(b"X: " + b"x" * 60_000 + b"\r\n")
        except ConnectionError:
            pass
        assert sent < 1 << 22


def test_a_chunk_that_is_none_is_refused(keyless):
    with keyless.connect() as line:
        head = f"{POST}Transfer-Encoding: chunked\r\n\r\n"
        line.sendall(head.encode())
        time.sleep(0.05)
        line.sendall(b"wibble\r\n")
        assert answer_on(line)[0] == 400
