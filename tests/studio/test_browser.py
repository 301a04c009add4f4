"""Every tab in a real browser; whatever it asks of anybody else is a failure."""

import os
import re
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from folio.data.records import read_conversations, read_pairs
from folio.infer.request import Request
from folio.studio.app import build
from folio.studio.state import Studio

pytestmark = pytest.mark.browser
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
)
EVIL = '<img src="https://evil.example/x.png" onerror="document.title=1">'
EVIL += "<script>document.title=1</script> ![x](https://evil.example/y.png) ${1+1}"
WAIT = 60_000  # milliseconds


@pytest.fixture(scope="module")
def served(runs, tmp_path_factory):
    """(address, studio, connections made to anywhere else)."""
    pytest.importorskip("gradio", reason="the studio needs gradio")
    import uvicorn

    from folio.studio.server import listen, make_app

    kept = tmp_path_factory.mktemp("kept")
    studio = Studio([], runs, device="cpu", preferences=kept / "preferences.jsonl")
    ours, outside, connect = listen("127.0.0.1", 0), [], socket.socket.connect

    def watched(self, address):
        if isinstance(address, tuple) and address[0] != "127.0.0.1":
            outside.append(address)
        return connect(self, address)

    port = ours.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", watched)
        app = make_app(build(studio=studio), "127.0.0.1", port)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [ours]})
        thread.start()
        yield f"http://127.0.0.1:{port}", studio, outside
        server.should_exit = True
        thread.join(20)
    studio.close()


@pytest.fixture(scope="module")
def browser():
    """Chromium of the system, or playwright's own."""
    reason = "needs playwright: pip install 'folio-llm[browser]'"
    api = pytest.importorskip("playwright.sync_api", reason=reason)
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    with api.sync_playwright() as player:
        path = found or player.chromium.executable_path
        if not os.path.exists(path):
            pytest.skip(
                "no Chromium: install chromium, or `playwright install chromium`"
            )
        yield (started := player.chromium.launch(executable_path=path, args=FLAGS))
        started.close()


@pytest.fixture
def page(browser, served):
    """The studio on a page that notes what it asks for, and what goes wrong."""
    address, _, outside = served
    tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    asked, wrong = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: wrong.append(dialog.message))
    tab.goto(address)
    tab.wait_for_selector("button[role=tab]", timeout=WAIT)
    yield tab
    tab.context.close()
    foreign = [u for u in asked if not u.startswith((address, "data:", "blob:"))]
    assert (foreign, outside, wrong) == ([], [], [])
    assert any(url.startswith(address) for url in asked)


def choose_run(page, name, about):
    """Choose a run, and wait until the line about it says `about`."""
    page.locator("#run input").click()
    page.get_by_role("option", name=name, exact=True).click()
    see(page, ".about", about)


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def see(page, selector, text=None):
    """The first visible place that matches, when it is there."""
    place = page.locator(selector).filter(visible=True)
    if text is not None:
        place = place.filter(has_text=text)
    place.first.wait_for(timeout=WAIT)
    return place.first


def write(page, label, text):
    box = page.get_by_label(label, exact=True).filter(visible=True)
    box.fill(text)
    return box


def test_tokens(page):
    open_tab(page, "Tokens")
    write(page, "Your text", "two hens " + EVIL)
    see(page, ".tokenizer .quiet", f"{len(EVIL) + 9} characters")
    see(page, ".token b", "<")
    page.locator(".token").filter(visible=True).first.hover()
    assert "is token" in see(page, "#tip").text_content()
    assert page.locator(".views img").count() == 0
    assert page.title() == "Folio studio"


def test_too_long_a_text_is_said_in_its_place(page):
    write(page, "Your text", "x" * 4001)
    see(page, ".notice", "4,001 characters, but the studio takes 4,000")


def test_attention(page):
    open_tab(page, "Attention")
    box = write(page, "Your text", "a red hen")
    box.press("Enter")
    see(page, ".sentence", "hen")
    see(page, ".sentence span", "n").hover()
    readout = see(page, ".attention .readout")
    page.wait_for_function(
        "e => e.textContent.includes('→')", arg=readout.element_handle()
    )
    before = readout.text_content()
    page.locator(".head-buttons button").filter(visible=True).nth(0).click()
    assert see(page, ".attention .readout").text_content() != before
    page.get_by_label("the text watched in training").click()
    see(page, ".notice", "recorded no attention")


def test_next_token(page):
    open_tab(page, "Next token")
    write(page, "Your text", "a red hen")
    see(page, ".options li")
    page.get_by_role("spinbutton", name="number input for Top-k").fill("3")
    page.keyboard.press("Tab")
    see(page, ".why", "cut by top-k")
    assert page.locator(".options .why").count() == 17
    page.get_by_role("button", name="Draw a token and go on").click()
    box = page.get_by_label("Your text", exact=True).filter(visible=True)
    page.wait_for_function("e => e.value !== 'a red hen'", arg=box.element_handle())


def test_layers(page):
    open_tab(page, "Layers")
    write(page, "Your text", "hen").press("Enter")
    see(page, ".grid-view tbody th", "embedding")
    see(page, ".grid-view td").hover()
    assert (
        "In the end" in see(page, "#tip").text_content()
        or "model says" in see(page, "#tip").text_content()
    )


def test_experts(page):
    open_tab(page, "Experts")
    see(page, ".notice", "This run has no experts")
    choose_run(page, "experts", "writes on")
    see(page, ".grid-view tbody th", "expert 4")


def test_compare(page):
    open_tab(page, "Compare")
    see(page, "label", "chat")
    write(page, "Prompt", EVIL)
    page.get_by_role("button", name="Ask all").click()
    see(page, ".answer-column", "chat")
    page.wait_for_function(
        "() => document.querySelectorAll('.answer-column').length === 3"
        " && !document.querySelector('.caret')"
    )
    assert page.locator(".views img").count() == 0


def test_chat_keeps_preferences_and_conversations(page, served):
    _, studio, _ = served
    choose_run(page, "chat", "answers")
    open_tab(page, "Chat")
    write(page, "Your message", "Who has the hen? " + EVIL)
    page.get_by_role("button", name="Send").click()
    see(page, ".turn-user", "Who has the hen?")
    see(page, "#up-1:enabled")
    page.get_by_role("button", name="Another answer").click()
    see(page, "#down-2:enabled").click()
    see(page, ".notice", "mark another")
    see(page, "#up-1:enabled").click()
    see(page, ".notice", "Kept as a pair")
    see(page, "p", "1 pair is kept")
    page.get_by_role("button", name="Keep the conversation").click()
    see(page, ".notice", "conversations.jsonl holds 1")
    [pair] = read_pairs(studio.preferences.path)
    shown = (
        page.locator(".answer-column .said").filter(visible=True).all_text_contents()
    )
    assert pair.prompt[0]["content"].startswith("Who has the hen? <img")
    assert plain(pair.chosen) == plain(shown[0])
    assert plain(pair.rejected) == plain(shown[1])
    [talk] = read_conversations(studio.conversations)
    assert talk.messages[-1]["content"] == pair.chosen
    assert page.locator(".views img").count() == 0
    assert page.title() == "Folio studio"


def plain(text: str) -> str:
    """What is left of a text that a browser shows: it drops control characters."""
    return re.sub(r"[^ -~]", "", text)


def test_an_answer_can_be_stopped_and_the_engine_is_free(page, served, monkeypatch):
    _, studio, _ = served
    monkeypatch.setattr(Request, "ends", lambda self, tokenizer: frozenset())
    choose_run(page, "chat", "answers")
    open_tab(page, "Chat")
    engine = studio.load("chat").engine
    step = engine.step

    def slowly() -> bool:
        time.sleep(0.2)
        return step()

    engine.step = slowly
    try:
        write(page, "Your message", "Go on").press("Enter")
        page.get_by_role("button", name="Stop").filter(visible=True).click(timeout=WAIT)
        see(page, ".answer .quiet", "stopped")
    finally:
        engine.step = step
    assert engine.status()["running"] == 0
    assert studio.speaking == {}


def test_chat_with_a_run_that_cant_is_explained(page):
    open_tab(page, "Chat")
    write(page, "Your message", "Hello").press("Enter")
    see(page, ".notice", "never taught to answer")
    box = page.get_by_label("Your message", exact=True)
    assert box.input_value() == "Hello"


def test_training(page, served):
    _, studio, _ = served
    open_tab(page, "Training")
    page.get_by_label("Steps", exact=True).fill("2000")
    page.get_by_label("Width", exact=True).fill("16")
    page.get_by_label("Layers", exact=True).fill("1")
    page.get_by_role("button", name="Start", exact=True).click()
    page.locator(".views .chart-svg").filter(visible=True).first.wait_for(
        timeout=90_000
    )
    see(page, "h3", "What it writes at step")
    page.get_by_role("button", name="Stop").filter(visible=True).click()
    see(page, ".notice", "Stopped and saved")
    page.get_by_role("button", name="Resume").click()
    see(page, ".notice", "of 2,000.")
    page.get_by_role("button", name="Stop").filter(visible=True).click()
    assert studio.training.wait(60) is not None
    assert Path(studio.runs.root, "studio-1", "recipe.toml").is_file()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_page_in_any_light(browser, served, width, scheme):
    size = {"width": width, "height": 844}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.goto(served[0])
    see(page, ".tokenizer")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    back = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(back)
    assert before == ("rgb(253, 252, 249)" if scheme == "light" else "rgb(21, 23, 27)")
    page.locator("#theme").click()
    assert page.evaluate(back) != before
    context.close()
