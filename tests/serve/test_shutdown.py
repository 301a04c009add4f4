"""The server stops: who is in the middle of a text may end it; nobody is left."""

import contextlib
import json
import signal
import socket
import threading
import time

import pytest

from folio.config import UserError
from folio.serve.server import listen
from folio.serve.settings import Settings
from helpers import free_port, start_folio, wait_for
from serving import running

TEXT = "/v1/completions"


def asking(server, body, found):
    """A thread that asks for a stream and notes its events."""

    def ask():
        found.append(server.stream(TEXT, body))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


@contextlib.contextmanager
def slow_steps(server, seconds):
    """Each step takes so long, and what a model writes never ends by itself."""
    engine = next(iter(server.catalog)).engine
    real = engine.reader.read

    def read(batch):
        time.sleep(seconds)
        return real(batch)

    engine.reader.read = read
    yield engine
    engine.reader.read = real


BODY = {"prompt": "Once", "max_tokens": 30, "logit_bias": {"256": -100, "260": -100}}


def test_streams_may_end_and_others_are_refused():
    with running(settings=Settings(drain_timeout=20.0)) as server:
        found = []
        with slow_steps(server, 0.02) as engine:
            thread = asking(server, BODY, found)
            wait_for(lambda: engine.status()["running"])
            kept = server.connect()  # from before, and used after
            server.stop()
            wait_for(lambda: server.desk.draining)
            with contextlib.closing(kept), contextlib.suppress(ConnectionError):
                kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = kept.recv(4000)
                assert not answer or answer.startswith(b"HTTP/1.1 503")
            thread.join(20)
        [events] = found
        assert events[-1] == "[DONE]"
        assert sum(len(e["choices"][0]["text"]) for e in events[:-1]) > 20
        server.thread.join(20)
        assert not server.thread.is_alive()
        listen(server.host, server.port).close()  # nobody has it now


def test_what_takes_longer_ends_with_an_error():
    with running(settings=Settings(drain_timeout=0.2)) as server:
        found = []
        with slow_steps(server, 0.05) as engine:
            thread = asking(server, BODY | {"max_tokens": 200}, found)
            wait_for(lambda: engine.status()["running"])
            start = time.monotonic()
            server.stop()
            thread.join(20)
            server.thread.join(20)
        assert time.monotonic() - start < 5
        error = found[0][-1]["error"]
        assert error["message"] == "the server is shutting down"
        assert error["type"] == "server_error"
        assert server.is_empty()


def test_the_second_signal_ends_at_once():
    with running(settings=Settings(drain_timeout=60.0)) as server:
        found = []
        with slow_steps(server, 0.05) as engine:
            thread = asking(server, BODY | {"max_tokens": 200}, found)
            wait_for(lambda: engine.status()["running"])
            server.stop()
            wait_for(lambda: server.desk.draining)
            server.stop()
            thread.join(20)
            server.thread.join(20)
        assert "error" in found[0][-1]
        assert not server.thread.is_alive()


def test_a_whole_answer_that_is_cut_off_is_no_success():
    with running(settings=Settings(drain_timeout=0.0)) as server:
        found = []
        with slow_steps(server, 0.05) as engine:
            thread = threading.Thread(
                target=lambda: found.append(server.ask(TEXT, BODY))
            )
            thread.start()
            wait_for(lambda: engine.status()["running"])
            server.stop()
            thread.join(20)
        [(status, answer)] = found
        assert status == 503
        assert answer["error"]["message"] == "the server is shutting down"


def test_with_nothing_to_do_it_stops_soon():
    with running(settings=Settings(drain_timeout=60.0)) as server:
        idle = server.connect()
        start = time.monotonic()
        server.stop()
        server.thread.join(20)
        assert time.monotonic() - start < 5
        idle.close()


def test_a_port_in_use_is_one_line():
    first = listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    told = f"127.0.0.1:{port}: .* choose another"
    with contextlib.closing(first), pytest.raises(UserError, match=told):
        listen("127.0.0.1", port)
    wrong = [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("no.such.host.invalid", 80)]
    for host, number in wrong:
        with pytest.raises(UserError, match="--port") as error:
            listen(host, number)
        assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_folio_serve_ends_in_good_order(tmp_path, number):
    from tuned import make_parent

    made, port = make_parent(tmp_path), free_port()
    server = start_folio(
        "serve", f"tiny={made.folder}", "--port", port, "--drain-timeout", 10
    )
    try:
        wait_for(lambda: _answers(port))
        line = socket.create_connection(("127.0.0.1", port), timeout=60)
        body = json.dumps({"prompt": "Sort", "max_tokens": 150, "stream": True})
        head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        line.sendall((head + body).encode())
        line.recv(1)
        server.send_signal(number)
        text = b""
        while piece := line.recv(1 << 16):
            text += piece
        assert b"[DONE]" in text or b'"error"' in text
        out, err = server.communicate(timeout=60)
    finally:
        server.kill()
    assert server.returncode == 0, err
    assert f"http://127.0.0.1:{port}/v1" in out
    assert "Traceback" not in err
    for entry in err.splitlines():
        assert json.loads(entry)["status"] in (0, 200)
    listen("127.0.0.1", port).close()


def _answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return line.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
