"""Clients who leave, who are too many, who don't read; and steps that go wrong."""

import contextlib
import json
import socket
import threading
import time

import pytest

import folio.infer.engine as engine_module
import serving
from calling import CHAT, TEXT, VECTOR, answer_on, head_of, post, send
from folio.infer.request import Request
from folio.infer.sampling import GREEDY
from folio.serve.server import listen
from folio.serve.settings import Settings
from serving import running, served

LONG = {"prompt": "Once upon a time", "max_tokens": 200}


class Gate:
    """Holds the engine back: each step waits until it may pass."""

    def __init__(self, server):
        self.engine = next(iter(server.catalog)).engine
        self.real, self.open = self.engine.reader.read, threading.Event()
        self.entered = threading.Semaphore(0)

    def __enter__(self):
        def read(batch):
            self.entered.release()
            assert self.open.wait(20)
            return self.real(batch)

        self.engine.reader.read = read
        return self

    def __exit__(self, *error):
        self.open.set()
        del self.engine.reader.read


def until(condition, seconds=10.0):
    """Wait for it; an assertion if it never comes."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def server():
    with running(served(max_batch=2)) as server:
        yield server
        assert server.worker.faults == 0


@pytest.fixture
def tasks(server):
    """Afterwards nothing is left: no page, no request, no task, no connection."""
    yield
    until(server.is_empty)
    until(lambda: not server.desk.jobs)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [TEXT, CHAT])
def test_a_client_leaves_while_its_text_is_written(server, tasks, stream, path):
    body = {"max_tokens": 200, "stream": stream, "n": 2}
    if path == TEXT:
        body["prompt"] = "Once"
    else:
        body["messages"] = [{"role": "user", "content": "Hm?"}]
    engine = next(iter(server.catalog)).engine
    line = post(server, path, body)
    until(lambda: any(len(s.ids) > s.prompt_length for s in engine.scheduler.running))
    line.close()
    start = time.monotonic()
    until(server.is_empty)
    assert time.monotonic() - start < 1  # long before 200 tokens on a slow machine


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_leaves_while_it_waits_or_its_prompt_is_read(server, tasks, stream):
    with Gate(server) as gate:
        lines = [post(server, TEXT, LONG | {"stream": stream}) for _ in range(5)]
        until(lambda: len(server.desk.under_way) == 5)
        gate.entered.acquire()
        engine = gate.engine
        for line in lines:
            line.close()
        until(lambda: not server.desk.under_way)  # at once, in the middle of a step
        assert engine.status()["pages_used"] == 0
        assert engine.status()["waiting"] == engine.status()["running"] == 0


def test_a_client_leaves_before_its_body_is_whole(server, tasks):
    lines = [server.connect() for _ in range(5)]
    for line in lines:
        line.sendall(f'{head_of(TEXT)}Content-Length: 99\r\n\r\n{{"pro'.encode())
    before = len(server.log)
    for line in lines:
        line.close()
    until(lambda: len(server.log) >= before + 5)
    assert not any("failure" in line for line in server.log)


@pytest.mark.parametrize("path", [VECTOR, TEXT])
def test_a_client_leaves_while_texts_are_read(server, tasks, path, monkeypatch):
    body = {"input": ["x" * 200] * 64}  # each fits, if not all together
    if path == TEXT:
        body = {"prompt": ["x" * 200] * 64, "echo": True, "logprobs": 1}
    told, go = threading.Event(), threading.Event()
    server.worker.call(lambda: (told.set(), go.wait(10)))
    told.wait(10)
    real, jobs = server.worker.call, []
    monkeypatch.setattr(server.worker, "call", lambda job: jobs.append(1) or real(job))
    line = post(server, path, body)
    until(lambda: jobs)
    line.close()
    assert server.ask("/health")[0] == 200  # by now the server knows
    before = len(server.log)
    go.set()
    until(lambda: len(server.log) > before)
    assert len(jobs) < 3  # of 64


def test_who_is_one_too_many_is_told_to_come_again():
    settings = Settings(max_waiting=2, drain_timeout=1.0)
    with running(served(max_batch=2), settings=settings) as server:
        engine = next(iter(server.catalog)).engine
        request = Request("Once upon a time", 30, GREEDY)
        [wanted] = engine.submit(request).result()
        body = LONG | {"max_tokens": 30, "temperature": 0}
        with Gate(server):
            lines = [post(server, TEXT, body) for _ in range(4)]
            until(lambda: server.desk.samples == 4)
            for more in ({}, {"stream": True}, {"n": 2}):
                with contextlib.closing(post(server, TEXT, body | more)) as line:
                    status, data, headers = answer_on(line)
                assert status == 429
                assert headers["retry-after"] == "1"
                assert json.loads(data)["error"]["type"] == "rate_limit_error"
            assert server.ask("/health")[0] == 200
        for line in lines:
            status, data, _ = answer_on(line)
            line.close()
            assert status == 200
            assert json.loads(data)["choices"][0]["text"] == wanted.text
        until(server.is_empty)
        assert server.ask(TEXT, body)[0] == 200


def test_one_request_may_be_larger_than_the_queue_when_nobody_waits():
    settings = Settings(max_waiting=1, drain_timeout=1.0)
    with running(served(max_batch=1), settings=settings) as server:
        body = {"prompt": "x", "n": 8, "max_tokens": 2}
        assert server.ask(TEXT, body)[0] == 200


def test_texts_to_be_read_are_limited_too():
    settings = Settings(max_waiting=1, drain_timeout=1.0)
    with running(served(max_batch=1), settings=settings) as server:
        go = threading.Event()
        server.worker.call(lambda: go.wait(10))
        lines = [post(server, VECTOR, {"input": "x"}) for _ in range(2)]
        until(lambda: server.desk.jobs == 2)
        assert server.ask(VECTOR, {"input": "x"})[0] == 429
        go.set()
        assert [answer_on(line)[0] for line in lines] == [200, 200]
        for line in lines:
            line.close()


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_takes_too_long_is_ended(stream):
    settings = Settings(request_timeout=0.3, drain_timeout=1.0)
    with running(settings=settings) as server, Gate(server) as gate:
        line = post(server, TEXT, LONG | {"stream": stream})
        gate.entered.acquire()
        status, data, _ = answer_on(line)
        line.close()
        assert status == (200 if stream else 408)
        assert b"not done after 0.3 seconds" in data
        assert b"[DONE]" not in data
        until(lambda: not server.desk.under_way)
        assert server.ask(VECTOR, {"input": "x"})[0] == 408  # the engine is held
        gate.open.set()
        until(server.is_empty)


def text_in(data: bytes) -> str:
    """What a completion says, whole or streamed."""
    lines = data.decode().splitlines()
    if not data.startswith(b"data:"):
        return json.loads(data)["choices"][0]["text"]
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(event["choices"][0]["text"] for event in events)


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_a_step_that_fails_fails_its_batch_alone(server, tasks, monkeypatch, error):
    """Who waits meanwhile gets what it would get alone."""
    real, calls = engine_module.choose_tokens, []

    def fails(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise error("injected")
        return real(*arguments)

    engine = next(iter(server.catalog)).engine
    [wanted] = engine.submit(Request("Once upon a time", 30, GREEDY)).result()
    body = LONG | {"max_tokens": 30, "temperature": 0}
    with Gate(server):
        lines = [
            post(server, TEXT, body | {"stream": stream})
            for stream in (True, False, False, False)
        ]
        until(lambda: len(server.desk.under_way) == 4)
        monkeypatch.setattr(engine_module, "choose_tokens", fails)
    found = [answer_on(line) for line in lines]
    for line in lines:
        line.close()
    texts = [data.decode() for _, data, _ in found]
    failed = [text for text in texts if "engine_error" in text]
    assert len(failed) == 2
    for status, data, _ in found:
        if b"engine_error" not in data:
            assert status == 200
            assert text_in(data) == wanted.text
        elif not data.startswith(b"data:"):
            assert status == 500
            assert json.loads(data)["error"]["type"] == "server_error"
    assert server.ask(TEXT, body)[1]["choices"][0]["text"] == wanted.text


def test_an_error_outside_a_batch_ends_all_and_the_server_goes_on(tasks):
    with running() as server:
        engine = next(iter(server.catalog)).engine
        with Gate(server) as gate:
            line = post(server, TEXT, LONG)
            gate.entered.acquire()
            engine.scheduler.plan = None
        status, data, _ = answer_on(line)
        line.close()
        assert status == 500
        assert b"TypeError" in data
        assert server.ask("/health")[0] == 200
        del engine.scheduler.plan
        assert server.ask(TEXT, LONG | {"max_tokens": 2})[0] == 200
        assert server.worker.faults == 1
        assert "folio_engine_faults 1.0" in server.ask("/metrics")[1]


def test_a_grammar_that_leads_nowhere_is_the_clients_mistake(server, tasks):
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": endless}}
    body = {"messages": [{"role": "user", "content": "x"}], "response_format": shape}
    status, answer = server.ask(CHAT, body)
    assert status == 400
    assert "grammar" in answer["error"]["message"]
    assert server.worker.faults == 0


def slow_reader(server, path, body) -> socket.socket:
    """A client with little room for what it is sent, who reads nothing of it."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    line.connect((server.host, server.port))
    send(line, path, body)
    return line


@pytest.mark.parametrize("stream", [True, False])
def test_who_does_not_read_is_given_up(stream, monkeypatch):
    """Once the end of a stream waited for such a one for ever."""

    def narrow(host, port):
        listener = listen(host, port)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return listener

    monkeypatch.setattr(serving, "listen", narrow)
    settings = Settings(read_timeout=0.5, drain_timeout=1.0)
    with running(settings=settings) as server:
        body = {"prompt": "x", "n": 2, "max_tokens": 60, "logprobs": 20}
        body |= {"stream": stream}
        with contextlib.closing(slow_reader(server, TEXT, body)):
            until(lambda: server.desk.under_way or len(server.log))
            until(server.is_empty, 30)
            until(lambda: not server_connections(server), 10)


def server_connections(server) -> int:
    """Connections that the server's side of this process still holds."""
    with open("/proc/net/tcp") as file:
        lines = [line.split() for line in file][1:]
    return sum(w[1].endswith(f":{server.port:04X}") and w[3] == "01" for w in lines)
