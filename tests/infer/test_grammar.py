"""JSON of a shape; and schemas that strangers write to keep a server busy."""

import json
import time

import pytest
import torch

from engines import engine_of, model_of
from folio.config import UserError
from folio.infer import grammar as module
from folio.infer.grammar import Grammars
from folio.infer.request import Request
from folio.infer.sampling import Sampling
from folio.infer.steering import Steering
from folio.text.byte import ByteTokenizer

TOKENIZER = ByteTokenizer()
END = TOKENIZER.end_of_text
pytest.importorskip("llguidance")


@pytest.fixture(scope="module")
def grammars():
    return Grammars(TOKENIZER, END)


@pytest.fixture(scope="module")
def model():
    return model_of(vocab_size=TOKENIZER.vocab_size)


def written(model, make, seed, most=80):
    request = Request(
        "x", most, Sampling(1.5), seed=seed, steering=Steering(grammar=make)
    )
    [found] = engine_of(model, tokenizer=TOKENIZER).submit(request).result()
    return found


SHAPES = [
    {"type": "integer", "minimum": -5, "maximum": 12},
    {"enum": ["red", "grün", 3, None]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    {"type": "string", "pattern": "^[ab]{2,4}$"},
    {"anyOf": [{"const": "x"}, {"type": "null"}]},
]


@pytest.mark.parametrize("schema", SHAPES)
def test_what_is_written_has_the_shape(grammars, model, schema):
    make = grammars.json(schema)
    for seed in range(4):
        found = written(model, make, seed)
        assert found.finish == "stop"
        value = json.loads(found.text)
        match schema:
            case {"type": "integer"}:
                assert -5 <= value <= 12
            case {"enum": values}:
                assert value in values
            case {"type": "array"}:
                assert 1 <= len(value) <= 3
                assert all(isinstance(each, bool) for each in value)
            case {"type": "string"}:
                assert 2 <= len(value) <= 4
                assert set(value) <= {"a", "b"}
            case _:
                assert value in ("x", None)


def test_any_object_begins_with_a_brace(grammars, model):
    found = written(model, grammars.json(), 0, 12)
    assert found.text.startswith("{")


def test_no_control_token_is_ever_allowed_but_the_end(grammars):
    matcher = grammars.json({"type": "integer", "maximum": 99, "minimum": 10})()
    controls = list(TOKENIZER.special_tokens.values())
    for token in b"42":
        mask = matcher.allowed()
        assert not mask[controls].any()
        assert mask[token]
        matcher.accept(token)
    mask = matcher.allowed()
    assert mask[END]
    assert mask.sum() == 1
    matcher.accept(END)
    matcher.accept(END)  # and nothing more comes of it


def test_every_text_has_a_place_of_its_own(grammars):
    make = grammars.json({"const": "ab"})
    one, other = make(), make()
    one.accept(ord('"'))
    assert one.allowed()[ord("a")]
    assert not other.allowed()[ord("a")]
    assert other.allowed()[ord('"')]
    with pytest.raises(UserError, match="grammar"):
        other.accept(ord("x"))


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "wibble"}, "json_schema"),
        (True, "json_schema"),
        ([], "json_schema"),
        ({"enum": ["\ud800"]}, "json_schema"),
        ({"type": "integer", "minimum": float("nan")}, "json_schema"),
        ({"$ref": "http://169.254.169.254/x"}, "json_schema"),
        ({"$ref": "file:///etc/passwd"}, "json_schema"),
        ({"$ref": "#"}, "json_schema"),
        ({"type": "string", "pattern": "("}, "json_schema"),
        ({"const": "a" * 500_000}, "at most 32768"),
        ({"enum": [f"x{i}" for i in range(9000)]}, "at most 32768"),
        ({"type": "integer", "multipleOf": 999_983}, "multipleOf takes too long"),
        (
            {
                "allOf": [
                    {"type": "string", "pattern": f".*{c}.*"} for c in "abcdefghijkl"
                ]
            },
            "more than 8 patterns",
        ),
    ],
)
def test_what_cannot_be_followed_is_one_line_soon(grammars, schema, told):
    start = time.process_time()
    with pytest.raises(UserError, match=told) as error:
        grammars.json(schema)()
    assert time.process_time() - start < 0.5
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def nested(depth):
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        nested(40),
        {"const": "a" * 30_000},
        {"enum": [f"x{i}" for i in range(3000)]},
        {"type": "string", "pattern": "^(a{1000}){1000}$"},
        {"type": "string", "pattern": "(.*a.{9}){3}"},
        {"type": "string", "minLength": 100_000},
        {"type": "array", "minItems": 100_000},
        {
            "type": "object",
            "properties": {f"p{i}": {"type": "string"} for i in range(200)},
        },
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    ],
)
def test_a_costly_one_costs_its_writer_and_no_neighbor(grammars, schema):
    """All that takes long is done before the engine hears of it."""
    chances = torch.Generator().manual_seed(0)
    try:
        make = grammars.json(schema)
    except UserError:
        return
    start = time.process_time()
    matcher = make()
    assert time.process_time() - start < 0.1
    for _ in range(60):
        start = time.process_time()
        try:
            ids = matcher.allowed().nonzero()[:, 0]
            token = ids[torch.randint(len(ids), (1,), generator=chances)].item()
            matcher.accept(token)
        except UserError:
            return
        assert time.process_time() - start < 0.3
        if token == END:
            return


def test_without_the_package_there_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(UserError, match=r"pip install 'folio-llm\[serve\]'"):
        Grammars(TOKENIZER, END)
    assert module.first_line("") == ""
