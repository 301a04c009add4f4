"""Asking over HTTP: against a stub that refuses, stumbles, or talks nonsense."""

import pytest

from folio.config import UserError
from folio.evals.chat_api import LONGEST_WAIT, ChatApi, Refused, Unanswered, ask_all
from helpers import free_port
from judges import stub_server


def said(text):
    return [{"role": "user", "content": text}]


def api_of(url, **options):
    """One that notes how long it would have slept."""
    slept = []
    api = ChatApi(url, "judge", sleep=slept.append, **options)
    return api, slept


def test_what_is_sent_is_what_the_api_defines():
    with stub_server(lambda prompt: f"You said {prompt}") as stub:
        for url in (stub.url, stub.url + "/", stub.url + "/chat/completions"):
            api, _ = api_of(url, key="secret", max_tokens=7)
            assert api.ask(said("hen ☃")) == "You said hen ☃"
    assert {body["path"] for body in stub.asked} == {"/v1/chat/completions"}
    sent = stub.asked[0]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("judge", 0.0, 7)
    assert stub.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in repr(api)


def test_without_a_key_none_is_sent():
    with stub_server(lambda prompt: "yes") as stub:
        api_of(stub.url)[0].ask(said("?"))
    assert "Authorization" not in stub.headers[0]


def test_a_server_that_stumbles_is_asked_again_and_waited_for():
    answers = iter([(503, "", {}), (429, "", {"Retry-After": "7"}), "at last"])
    with stub_server(lambda prompt: next(answers)) as stub:
        api, slept = api_of(stub.url)
        assert api.ask(said("?")) == "at last"
    assert 0.75 <= slept[0] <= 1.25
    assert slept[1] == 7


def test_waits_double_and_end():
    answers = iter([(500, "", {})] * 3 + [(429, "", {"Retry-After": "9999"})] * 2)
    with stub_server(lambda prompt: next(answers)) as stub:
        api, slept = api_of(stub.url)
        with pytest.raises(Unanswered, match=r"status 429 .*, 5 times$"):
            api.ask(said("?"))
    assert [round(s / 2**i) for i, s in enumerate(slept[:3])] == [1, 1, 1]
    assert slept[3:] == [LONGEST_WAIT]  # and after the last try there is no wait


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_is_refused_is_not_asked_again(status):
    body = {"error": {"message": "no such\nthing"}}
    with stub_server(lambda prompt: (status, body, {})) as stub:
        api, slept = api_of(stub.url)
        with pytest.raises(Refused, match=rf"/v1: status {status} \(no such thing\)$"):
            api.ask(said("?"))
    assert (len(stub.asked), slept) == (1, [])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_with_the_key(status):
    with stub_server(lambda prompt: "stolen") as thief:
        to = {"Location": thief.url + "/chat/completions"}
        with stub_server(lambda prompt: (status, "", to)) as stub:
            api, _ = api_of(stub.url, key="secret")
            with pytest.raises(UserError, match=f"status {status}"):
                api.ask(said("?"))
    assert thief.headers == []


@pytest.mark.parametrize("body", [b"<html>", {}, {"choices": []}, {"choices": [{}]}])
def test_another_kind_of_server_is_refused(body):
    with stub_server(lambda prompt: (200, body, {})) as stub:
        api, _ = api_of(stub.url)
        with pytest.raises(UserError, match="another form than an OpenAI-compatible"):
            api.ask(said("?"))


def test_one_that_dawdles_is_left():
    with stub_server(lambda prompt: "late", pause=0.3) as stub:
        api, slept = api_of(stub.url, timeout=0.05, tries=2)
        with pytest.raises(Unanswered, match=r"timed out.*, 2 times"):
            api.ask(said("?"))
    assert len(slept) == 1


def test_nobody_is_there():
    api, _ = api_of(f"http://127.0.0.1:{free_port()}/v1", tries=2)
    with pytest.raises(Unanswered, match=r"refused.*, 2 times"):
        api.ask(said("?"))
    with pytest.raises(UserError, match="refused"):  # one try for all of them
        ask_all(api, [said("?")] * 1000)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "file:///etc/passwd", "ftp://a/b", "http:///v1"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(UserError, match="give the base of an API"):
        ChatApi(url, "judge")


def test_keys_do_not_belong_into_addresses():
    with pytest.raises(UserError) as caught:
        ChatApi("http://me:secret@host/v1", "judge")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("at_once", [1, 3])
def test_many_at_a_time_in_order_and_never_more_than_that(at_once):
    with stub_server(lambda prompt: prompt.upper(), pause=0.02) as stub:
        api, _ = api_of(stub.url)
        texts = [f"hen {number}" for number in range(12)]
        found = ask_all(api, [said(text) for text in texts], at_once)
    assert found == [text.upper() for text in texts]
    assert min(at_once, 2) <= stub.most_busy <= at_once


def test_who_gets_no_answer_is_told_why_once():
    def answer(prompt):
        return (500, "", {}) if "bad" in prompt else "good"

    told = []
    with stub_server(answer) as stub:
        api, _ = api_of(stub.url, tries=2)
        prompts = [said(text) for text in ("a", "bad", "b", "bad")]
        assert ask_all(api, prompts, 2, told.append) == ["good", None, "good", None]
        assert len(told) == 1
        with pytest.raises(UserError, match="status 500"):  # the first is asked alone
            ask_all(api, prompts[1:], 2, told.append)
    assert ask_all(api, []) == []
