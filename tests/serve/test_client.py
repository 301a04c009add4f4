"""The real `openai` client against a real server."""

import json

import openai
import pytest
import torch

from folio.infer.request import Request
from folio.infer.sampling import GREEDY
from serving import running, served

QUESTION = [{"role": "user", "content": "Who has the hen?"}]


@pytest.fixture(scope="module")
def server():
    with running(served(), served("other", seed=1, chats=False)) as server:
        yield server
        assert server.is_empty()
        assert server.worker.faults == 0


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none") as client:
        yield client


def alone(server, prompt, most=12, **options):
    """What the engine itself writes."""
    engine = server.catalog.find("tiny").engine
    request = Request(prompt, most, GREEDY, **options)
    return engine.submit(request).result()[0]


def test_a_chat_is_what_the_engine_writes(server, client):
    found = client.chat.completions.create(
        model="tiny", messages=QUESTION, max_completion_tokens=12, temperature=0
    )
    wanted = alone(server, QUESTION)
    [choice] = found.choices
    assert choice.message.content == wanted.text
    assert choice.message.role == "assistant"
    assert choice.finish_reason == wanted.finish
    assert found.usage.prompt_tokens == wanted.prompt_tokens
    assert found.usage.completion_tokens == len(wanted.ids)
    assert found.model == "tiny"


def test_a_streamed_chat_says_the_same_in_pieces(client):
    options = {"model": "tiny", "messages": QUESTION, "max_tokens": 20, "seed": 5}
    whole = client.chat.completions.create(**options, n=2)
    texts, ends, usage, roles = {0: "", 1: ""}, {}, None, []
    stream = client.chat.completions.create(
        **options, n=2, stream=True, stream_options={"include_usage": True}
    )
    for piece in stream:
        usage = piece.usage or usage
        for choice in piece.choices:
            texts[choice.index] += choice.delta.content or ""
            roles += [choice.delta.role] if choice.delta.role else []
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert texts == {c.index: c.message.content for c in whole.choices}
    assert ends == {c.index: c.finish_reason for c in whole.choices}
    assert texts[0] != texts[1]
    assert roles == ["assistant", "assistant"]
    assert usage == whole.usage


def test_a_seed_gives_the_same_answer_again_and_none_another(client):
    def ask(**options):
        found = client.completions.create(
            model="tiny", prompt="Once", max_tokens=30, **options
        )
        return found.choices[0].text

    assert ask(seed=3) == ask(seed=3)
    assert ask(seed=3) != ask(seed=4)
    assert ask() != ask()


def test_completions_of_many_prompts(server, client):
    prompts = ["Once", "There was", "A"]
    found = client.completions.create(
        model="tiny", prompt=prompts, max_tokens=12, temperature=0
    )
    wanted = [alone(server, prompt).text for prompt in prompts]
    assert [c.text for c in found.choices] == wanted
    assert [c.index for c in found.choices] == [0, 1, 2]


def test_log_probs_of_a_chat(server, client):
    found = client.chat.completions.create(
        model="tiny",
        messages=QUESTION,
        max_tokens=8,
        temperature=0,
        logprobs=True,
        top_logprobs=3,
    )
    wanted = alone(server, QUESTION, 8, top=3)
    content = found.choices[0].logprobs.content
    assert [c.logprob for c in content] == pytest.approx(wanted.logprobs)
    for entry, top in zip(content, wanted.top, strict=True):
        assert [t.logprob for t in entry.top_logprobs] == pytest.approx(
            [value for _, value in top]
        )
        assert entry.top_logprobs[0].bytes == entry.bytes


def test_an_echo_scores_the_prompt_as_one_forward_pass_does(server, client):
    """What evaluation harnesses ask for."""
    tiny = server.catalog.find("tiny")
    ids = tiny.tokenizer.encode("The hen is in the barn.")
    found = client.completions.create(
        model="tiny", prompt=ids, max_tokens=1, temperature=0, logprobs=2, echo=True
    )
    with torch.no_grad():
        logits = tiny.model(torch.tensor([ids])).logits[0, :-1]
    wanted = logits.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    told = found.choices[0].logprobs
    assert told.token_logprobs[0] is None
    assert told.top_logprobs[0] is None
    assert told.token_logprobs[1 : len(ids)] == pytest.approx(wanted.tolist(), abs=1e-5)
    assert len(told.tokens) == len(told.token_logprobs) == len(ids) + 1
    assert found.choices[0].text.startswith("The hen is in the barn.")
    best = [max(top, key=top.get) for top in told.top_logprobs[1 : len(ids)]]
    likeliest = [tiny.tokenizer.token_bytes(i) for i in logits.argmax(-1).tolist()]
    assert [b.encode() for b in best if not b.startswith("bytes:")] == [
        b for b in likeliest if b.isascii()
    ]


def test_biases_forbid_and_force(client):
    forced = client.completions.create(
        model="tiny", prompt="x", max_tokens=5, logit_bias={"104": 100}
    )
    assert forced.choices[0].text == "hhhhh"
    plain = client.completions.create(
        model="tiny", prompt="x", max_tokens=1, temperature=0
    )
    banned = str(plain.choices[0].text.encode()[0])
    other = client.completions.create(
        model="tiny", prompt="x", max_tokens=1, temperature=0, logit_bias={banned: -100}
    )
    assert other.choices[0].text != plain.choices[0].text


def test_a_frequency_penalty_ends_a_monotone(client):
    options = {"model": "tiny", "prompt": "x", "max_tokens": 6, "temperature": 0}
    bias = {"104": 20, "105": 19}
    same = client.completions.create(**options, logit_bias=bias)
    mixed = client.completions.create(**options, logit_bias=bias, frequency_penalty=2)
    assert same.choices[0].text == "hhhhhh"
    assert set(mixed.choices[0].text) == {"h", "i"}


def test_stop_strings(client):
    options = {"model": "tiny", "prompt": "Once", "max_tokens": 60, "temperature": 0}
    text = client.completions.create(**options).choices[0].text
    stop = text[7:9]
    found = client.completions.create(**options, stop=[stop]).choices[0]
    assert found.text == text[: text.index(stop)]
    assert found.finish_reason == "stop"


def test_json_of_a_shape(client):
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "maximum": 99, "minimum": 0}},
        "required": ["n"],
        "additionalProperties": False,
    }
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    for seed in range(5):
        found = client.chat.completions.create(
            model="tiny",
            messages=QUESTION,
            max_tokens=60,
            seed=seed,
            response_format=shape,
        )
        [choice] = found.choices
        assert choice.finish_reason == "stop"
        assert 0 <= json.loads(choice.message.content)["n"] <= 99


def test_embeddings(server, client):
    texts = ["a hen", "a goat"]
    found = client.embeddings.create(model="tiny", input=texts)  # in base64
    plain = client.embeddings.create(model="tiny", input=texts, encoding_format="float")
    tiny = server.catalog.find("tiny")
    for text, one, other in zip(texts, found.data, plain.data, strict=True):
        ids = torch.tensor([tiny.tokenizer.encode(text)])
        with torch.no_grad():
            mean = tiny.model.hidden(ids)[0][0].mean(0)
        wanted = (mean / mean.norm()).tolist()
        assert one.embedding == pytest.approx(wanted, abs=1e-5)
        assert other.embedding == pytest.approx(wanted, abs=1e-5)


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["tiny", "other"]
    assert client.models.retrieve("other").owned_by == "folio"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("absent")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "absent"}, "there is: tiny, other"),
        ({"model": "other"}, "was not taught to chat"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "starts with the user"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, "messages"),
        ({"max_tokens": 5000}, "max_seq_len"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"temperature": 3}, "temperature"),
        ({"n": 99}, "n: "),
        ({"stop": ["a"] * 9}, "stop"),
        ({"logit_bias": {"9999": 1}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"top_logprobs": 3}, "logprobs"),
        ({"extra_body": {"wibble": 1}}, "wibble"),
        ({"stream_options": {"include_usage": True}}, "stream"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "wibble"}},
                }
            },
            "json_schema",
        ),
    ],
)
def test_mistakes_are_told_in_the_words_of_the_api(client, options, told):
    values = {"model": "tiny", "messages": QUESTION} | options
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
        client.chat.completions.create(**values)
    error = caught.value.body
    assert told in error["message"]
    assert error["type"] == "invalid_request_error"
    assert "\n" not in error["message"]
