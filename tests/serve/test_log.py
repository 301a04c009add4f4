"""What is written down of requests: all that helps, and no secret."""

import json
import logging
import re

import pytest

from calling import CHAT, TEXT, VECTOR, call, is_error
from folio.serve.settings import Settings
from serving import running

KEY, OTHER = "key-of-somebody-1234", "key-of-another-56789"

SECRET = "a-canary-that-nobody-may-log"
ROUTES = {
    "/v1/models": "GET",
    "/v1/models/tiny": "GET",
    "/metrics": "GET",
    CHAT: "POST",
    TEXT: "POST",
    VECTOR: "POST",
}


@pytest.fixture(scope="module")
def guarded():
    settings = Settings(keys=(KEY, OTHER), max_body=20_000, drain_timeout=1.0)
    with running(settings=settings) as server:
        yield server


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
        assert is_error(answer, 500)
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
