"""The page as it is served: guarded, asking nobody, and one line for each mistake."""

import builtins
import re
import socket

import pytest

from folio.config import UserError
from folio.studio import app as app_module
from folio.studio.app import build, head, launch
from folio.studio.state import Studio

gradio = pytest.importorskip("gradio")
from starlette.testclient import TestClient  # noqa: E402

from folio.studio.server import HEADERS, MOST_BYTES, listen, make_app  # noqa: E402
from folio.studio.theme import make_theme  # noqa: E402

BASE = "http://127.0.0.1"
CLOSED = (
    *("/gradio_api/upload", "/upload", "/gradio_api/upload_progress", "/login"),
    *("/gradio_api/file=/etc/passwd", "/file=/etc/passwd", "/file/etc/passwd"),
    *("/gradio_api/file=../../etc/passwd", "/gradio_api/proxy=https://evil.example"),
    *("/gradio_api/stream/a/b/c/playlist.m3u8", "/gradio_api/component_server"),
    *("/custom_component/x/y/z", "/monitoring", "/monitoring/summary", "/dev/reload"),
    *(
        "/docs",
        "/redoc",
        "/openapi.json",
        "/gradio_api/mcp/",
        "/gradio_api/openapi.json",
    ),
)
TRAVERSALS = [
    f"/{place}/{up}{'etc/passwd'}"
    for place in ("static", "assets", "svelte", "theme.css", "gradio_api/file", "")
    for up in (
        "../../../../",
        "..%2f..%2f..%2f",
        "%2e%2e/%2e%2e/%2e%2e/",
        "....//",
        "/",
    )
]


@pytest.fixture(scope="module")
def client(runs, tmp_path_factory):
    calls = []
    connect = socket.socket.connect

    def watched(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1"):
            calls.append(address)
        return connect(self, address)

    preferences = tmp_path_factory.mktemp("kept") / "preferences.jsonl"
    studio = Studio([], runs, device="cpu", preferences=preferences)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", watched)
        app = make_app(build(studio=studio), "127.0.0.1", 7860)
        with TestClient(app, base_url=BASE) as client:
            client.outside = calls
            yield client
    studio.close()


def test_the_page_and_its_parts_come_with_the_policy(client):
    page = client.get("/")
    assert page.status_code == 200
    assets = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page.text)
    assert len(assets) >= 2
    for answer in (page, *(client.get(f"/{path}") for path in assets)):
        assert answer.status_code == 200
        assert {k: answer.headers[k] for k in HEADERS} == HEADERS


def test_the_page_names_no_font_and_no_script_of_others(client):
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False
    theme = make_theme()
    assert theme._stylesheets == []
    assert not re.search(r"""url\(["']?(?!["']?data:)""", theme._get_theme_css())
    assert not re.search(r"https?://|url\(|@import", head())
    assert "googleapis" not in client.get("/").text


def test_nothing_outside_was_called(client):
    client.get("/")
    assert client.outside == []


@pytest.mark.parametrize("path", CLOSED)
def test_what_the_studio_doesnt_need_is_closed(client, path):
    assert client.get(path).status_code in (403, 404, 405)
    assert client.post(path, content=b"x").status_code in (403, 404, 405)


def test_no_path_leads_to_a_file(client):
    for path in TRAVERSALS:
        answer = client.get(path, follow_redirects=False)
        assert "root:" not in answer.text
        assert answer.status_code >= 300 or "gradio" in answer.text


def test_no_callback_is_offered_to_programs(client):
    info = client.get("/gradio_api/info").json()
    assert info["named_endpoints"] == info["unnamed_endpoints"] == {}


def test_large_bodies_and_foreign_names_are_turned_away(client):
    large = b"x" * (MOST_BYTES + 1)
    assert client.post("/gradio_api/queue/join", content=large).status_code == 413
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_every_tab_is_on_the_page(client):
    config = client.get("/config").json()
    tabs = [c["props"]["label"] for c in config["components"] if c["type"] == "tabitem"]
    expected = ["Tokens", "Attention", "Next token", "Layers", "Experts"]
    assert tabs == [*expected, "Training", "Compare", "Chat"]
    kinds = {component["type"] for component in config["components"]}
    assert not kinds & {"file", "image", "audio", "video", "uploadbutton", "gallery"}


def test_the_theme_has_the_colors_of_the_reports_in_light_and_dark():
    theme = make_theme()
    for name in ("body_background_fill", "button_primary_text_color", "slider_color"):
        assert getattr(theme, name).startswith("var(--")
        dark = getattr(theme, f"{name}_dark", None)
        assert dark in (None, getattr(theme, name))


def test_a_port_in_use_is_said_in_one_line():
    with listen("127.0.0.1", 0) as ours:
        port = ours.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"127.0.0.1:{port}: address already in use"
        ):
            launch(port=port)
    for host, port in (("no.such.host.invalid", 1), ("127.0.0.1", 10**6)):
        with pytest.raises(UserError, match="can't serve at"):
            listen(host, port)


def test_a_folder_without_a_run_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no run that can write"):
        launch([tmp_path], port=0)
    with pytest.raises(UserError, match="name the file of preferences"):
        launch(port=0, root=tmp_path, preferences=tmp_path / "p.txt")


def test_without_gradio_it_is_said_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "gradio":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    for call in (launch, build):
        with pytest.raises(UserError, match=r"pip install 'folio-llm\[studio\]'"):
            call()


def test_importing_the_studio_brings_no_gradio():
    source = app_module.HERE
    for path in source.glob("*.py"):
        if path.name in ("page.py", "theme.py", "server.py"):
            continue
        at_top = re.findall(
            r"^(?:import|from) (?:gradio|uvicorn|fastapi)", path.read_text()
        )
        assert not at_top, path.name
