"""Whoever has no key, or sends too much or in another way, is refused politely."""

import http.client
import json
import os

import pytest

from calling import CHAT, TEXT, VECTOR, answer_on, call, is_error
from folio.config import UserError
from folio.serve.settings import Settings, read_keys
from serving import running

KEY, OTHER = "key-of-somebody-1234", "key-of-another-56789"

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
