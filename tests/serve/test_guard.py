"""Whoever has no key, sends too much, too slowly, or nonsense, is refused politely."""

import http.client
import json
import logging
import os
import re
import socket
import time

import pytest

from folio.config import UserError
from folio.serve.settings import Settings, read_keys
from serving import running

KEY, OTHER = "key-of-somebody-1234", "key-of-another-56789"
CHAT, TEXT, VECTOR = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
ROUTES = {
    "/v1/models": "GET",
    "/v1/models/tiny": "GET",
    "/metrics": "GET",
    CHAT: "POST",
    TEXT: "POST",
    VECTOR: "POST",
}
UNKNOWN = ("/", "/docs", "/openapi.json", "/v1", "/health/", "//health", "/metrics/x")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE")
SECRET = "a-canary-that-nobody-may-log"


@pytest.fixture(scope="module")
def guarded():
    settings = Settings(keys=(KEY, OTHER), max_body=20_000, drain_timeout=1.0)
    with running(settings=settings) as server:
        yield server


@pytest.fixture(scope="module")
def keyless():
    with running(settings=Settings(drain_timeout=1.0)) as server:
        yield server
        assert server.worker.faults == 0
        assert server.is_empty()


@pytest.fixture(scope="module")
def hasty():
    settings = Settings(read_timeout=0.3, max_connections=20, drain_timeout=1.0)
    with running(settings=settings) as server:
        yield server


def call(server, method, path, body=None, **headers):
    """(status, headers, bytes) of a request with exactly these headers."""
    line = http.client.HTTPConnection(server.host, server.port, timeout=20)
    try:
        line.request(method, path, body, headers)
        answer = line.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        line.close()


def answer_on(line):
    """(status, bytes) of the next answer on a connection."""
    answer = http.client.HTTPResponse(line)
    answer.begin()
    return answer.status, answer.read()


def is_error(values, status=None) -> bool:
    """As OpenAI's API words it, in one line."""
    error = values["error"]
    assert set(values) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].isprintable()
    return status is None or error["type"] != "server_error"


# ---- keys ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", [*ROUTES, *UNKNOWN])
def test_every_route_needs_a_key(guarded, path, method):
    for headers in (
        {},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \xff\xfe"},
        {"x-api-key": KEY},
    ):
        status, _, body = call(guarded, method, path, **headers)
        assert status == 401
        if method != "HEAD":
            assert json.loads(body)["error"]["code"] == "invalid_api_key"
    assert call(guarded, method, f"{path}?key={KEY}&api_key={KEY}")[0] == 401


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_each_of_the_keys_opens(guarded, key):
    for path, method in ROUTES.items():
        status, _, _ = call(guarded, method, path, Authorization=f"bearer  {key} ")
        assert status == (200 if method == "GET" else 415)


def test_health_needs_none_and_tells_nothing(guarded):
    status, headers, body = call(guarded, "GET", "/health")
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert not {"server", "access-control-allow-origin"} & {h.lower() for h in headers}
    assert call(guarded, "POST", "/health", Authorization=f"Bearer {KEY}")[0] != 200


def key_file(tmp_path, text, mode=0o600):
    path = tmp_path / "keys"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.chmod(path, mode)
    return path


def test_keys_are_read_from_a_file(tmp_path):
    path = key_file(tmp_path, f"# of the bakery\n\n  {KEY}\n{OTHER}\n")
    assert read_keys(path) == (KEY, OTHER)
    assert not Settings(keys=(KEY,)).admits(OTHER)
    assert Settings(keys=(KEY, OTHER)).admits(OTHER)


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        (KEY, 0o644, "others can read it; chmod 600"),
        (KEY, 0o620, "others can read it"),
        ("# nothing\n\n", 0o600, "no key in it"),
        ("", 0o600, "no key in it"),
        (f"{KEY}\nshort", 0o600, "fewer than 16 characters"),
        (f"{KEY} {OTHER}", 0o600, "without spaces"),
        ("schlüssel-der-bäckerei", 0o600, "printable ASCII"),
        (b"\xff\xfe" * 20, 0o600, "codec"),
    ],
)
def test_a_bad_key_file_is_one_line(tmp_path, text, mode, told):
    with pytest.raises(UserError, match=told) as error:
        read_keys(key_file(tmp_path, text, mode))
    assert "\n" not in str(error.value)
    assert KEY not in str(error.value)


def test_no_key_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_keys(tmp_path / "keys")


# ---- sizes and kinds -----------------------------------------------------------------


def test_a_body_too_large_is_refused_by_its_head(guarded):
    head = f"POST {TEXT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 104857600\r\n\r\n"
    with guarded.connect() as line:  # nothing of it is ever sent
        line.sendall(head.encode())
        assert answer_on(line)[0] == 413


def test_a_body_too_large_is_refused_while_it_comes(guarded):
    def pieces():
        for _ in range(100):
            yield b'"' + b"x" * 999 + b'",'

    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    line = http.client.HTTPConnection(guarded.host, guarded.port, timeout=20)
    line.request("POST", TEXT, pieces(), headers, encode_chunked=True)
    answer = line.getresponse()
    assert answer.status == 413
    assert "20,000 bytes" in json.loads(answer.read())["error"]["message"]
    line.close()


@pytest.mark.parametrize("kind", ["text/plain", "", "multipart/form-data", "json"])
def test_a_form_of_a_web_page_is_refused(keyless, kind):
    """Browsers send such bodies to any host without asking it first."""
    body = json.dumps({"prompt": "x"})
    headers = {"Content-Type": kind} if kind else {}
    assert call(keyless, "POST", TEXT, body, **headers)[0] == 415
    good = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert call(keyless, "POST", TEXT, body, **good)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.x"])
def test_a_name_that_leads_here_is_not_ours(keyless, host):
    assert call(keyless, "GET", "/v1/models", Host=host)[0] == 403
    for name in (f"127.0.0.1:{keyless.port}", "LOCALHOST", "[::1]:80"):
        assert call(keyless, "GET", "/v1/models", Host=name)[0] == 200


def test_with_a_key_the_name_does_not_matter(guarded):
    headers = {"Host": "api.example", "Authorization": f"Bearer {KEY}"}
    assert call(guarded, "GET", "/v1/models", **headers)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/models/..%2f..%2fetc", 404),
        ("GET", "/v1/models/%00", 404),
        ("POST", "/v1/fine_tuning/jobs", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models/tiny", 405),
        ("PUT", TEXT, 405),
        ("BREW", "/health", 405),
    ],
)
def test_what_is_not_there_is_told_in_the_words_of_the_api(
    keyless, method, path, status
):
    headers = {"Content-Type": "application/json"}
    found, _, body = call(keyless, method, path, **headers)
    assert found == status
    assert is_error(json.loads(body), status)


# ---- time ----------------------------------------------------------------------------


def ended(line: socket.socket, most: float = 5.0) -> float:
    """Seconds until the other side has hung up."""
    start = time.monotonic()
    line.settimeout(most)
    try:
        while line.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - start


POST = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


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
        status, answer = answer_on(line)
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
            status, answer = answer_on(line)
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


# ---- bodies --------------------------------------------------------------------------

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
    from folio.serve.errors import ApiError
    from folio.serve.schema import CompletionBody, parse

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


# ---- the log -------------------------------------------------------------------------


def test_the_log_is_lines_of_json_and_tells_no_secret(guarded, caplog):
    caplog.set_level(logging.DEBUG)
    before = len(guarded.log)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    body = json.dumps({"prompt": SECRET, "max_tokens": 2, "user": SECRET})
    assert call(guarded, "POST", f"{TEXT}?q={SECRET}", body, **headers)[0] == 200
    body = json.dumps({"prompt": 1, SECRET: SECRET})
    assert call(guarded, "POST", TEXT, body, **headers)[0] == 400
    for path in ("/%1b[2K%0aGET", "/" + "x" * 5000, "/%ff%00%e2%80%ae"):
        assert call(guarded, "GET", path, **headers)[0] == 404
    call(guarded, "GET", "/v1/models", Authorization=f"Bearer {KEY}x")
    call(guarded, "GET", "/health")
    lines = guarded.log[before:]
    assert len(lines) == 6  # health is not told
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 600
        entry = json.loads(line)
        assert entry["client"] == "127.0.0.1"
        assert entry["seconds"] >= 0
    found = [json.loads(line)["status"] for line in lines]
    assert found == [200, 400, 404, 404, 404, 401]
    for text in (KEY, SECRET):
        assert text not in "".join(lines)
        assert text not in caplog.text


def test_a_mistake_of_ours_is_logged_in_a_line_and_tells_nothing(monkeypatch):
    def fails(body, served):
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr("folio.serve.app.ask_completion", fails)
    with running() as server:
        status, answer = server.ask(TEXT, {"prompt": "x"})
        assert (status, server.ask("/health")[0]) == (500, 200)
        assert is_error(answer)
        assert SECRET not in json.dumps(answer)
        [line] = [line for line in server.log if json.loads(line)["status"] == 500]
        assert "ZeroDivisionError" in json.loads(line)["failure"]
        assert line.isprintable()
        _, metrics = server.ask("/metrics")
        assert f'route="{TEXT}",status="500"}} 1.0' in metrics


def test_metrics_have_few_names_and_no_secret(guarded):
    headers = {"Authorization": f"Bearer {KEY}"}
    for number in range(5):
        call(guarded, "GET", f"/v1/models/{SECRET}-{number}", **headers)
        call(guarded, "GET", f"/{SECRET}/{number}", **headers)
    _, _, body = call(guarded, "GET", "/metrics", **headers)
    text = body.decode()
    assert SECRET not in text
    routes = set(re.findall(r'route="([^"]*)"', text))
    assert routes <= {*ROUTES, "/v1/models/{name}", "other", "/health"}
