"""Recipes: what they say is what is built, and every mistake is told by name."""

import tomllib
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import (
    UserError,
    build,
    load_recipe,
    merge,
    nearest,
    parse_overrides,
    read_toml,
    to_toml,
)
from folio.stages.recipe import PretrainRecipe


@dataclass(frozen=True)
class Inner:
    width: int = 4
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    words: tuple[str, ...] = ()
    deep: bool = False
    limit: int | None = None


def test_missing_fields_keep_their_defaults():
    assert build(Outer, {"name": "x", "inner": {"width": 9}}) == Outer("x", Inner(9))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "x"}, "unknown key 'nam'; did you mean 'name'?"),
        ({"inner": {"widht": 1}}, "unknown key 'inner.widht'; did you mean 'width'?"),
        ({"zzzzzz": 1}, "known: deep, inner, limit, name, words"),
        ({"name": 3}, "name = 3: expected str"),
        ({"name": "x", "deep": 1}, "deep = 1: expected bool"),
        ({"inner": {"width": "4"}}, "inner.width = '4': expected int"),
        ({"inner": {"width": 4.5}}, "inner.width = 4.5: expected int"),
        ({"inner": {"width": True}}, "inner.width = True: expected int"),
        ({"inner": {"rate": True}}, "inner.rate = True: expected float"),
        ({"inner": {"rate": float("nan")}}, "inner.rate = nan: expected a finite"),
        ({"inner": {"rate": float("inf")}}, "inner.rate = inf: expected a finite"),
        ({"inner": {"kind": "c"}}, "inner.kind = 'c': choose one of a, b"),
        ({"inner": 5}, "inner = 5: expected a table [inner]"),
        ({"words": "x"}, "words = 'x': expected a list"),
        ({"words": ["x", 2]}, "words[1] = 2: expected str"),
        ({"limit": "x"}, "limit = 'x': expected int"),
        ({"name": "\udcff"}, "not valid Unicode"),
        ({}, "Outer: "),
    ],
)
def test_a_mistake_names_the_field_and_its_value(values, message):
    with pytest.raises(UserError) as caught:
        build(Outer, values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_fit_either_way():
    built = build(Outer, {"name": "x", "inner": {"width": 4.0, "rate": 1}})
    assert (built.inner.width, built.inner.rate) == (4, 1.0)
    assert type(built.inner.width) is int
    assert type(built.inner.rate) is float


def test_none_is_allowed_where_the_schema_says_so():
    assert build(Outer, {"name": "x", "limit": None}).limit is None
    with pytest.raises(UserError, match="name = None"):
        build(Outer, {"name": None})


def test_the_nearest_name_is_offered():
    assert nearest("stesp", ["steps", "seed"]) == "; did you mean 'steps'?"
    assert nearest("q", ["b", "a"]) == "; known: a, b"


# ---- flags ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "values"),
    [
        (["--a.b", "3"], {"a": {"b": 3}}),
        (["--a.b=3", "--a.c=4"], {"a": {"b": 3, "c": 4}}),
        (["--lr", "-1e-4"], {"lr": -1e-4}),
        (["--lr=6e-4"], {"lr": 6e-4}),
        (["--on", "True"], {"on": True}),
        (["--on", "false"], {"on": False}),
        (["--limit", "none"], {"limit": None}),
        (["--path", "a b/c.txt"], {"path": "a b/c.txt"}),
        (["--path", "C:\\x"], {"path": "C:\\x"}),
        (["--words", '["a", "b"]'], {"words": ["a", "b"]}),
        (["--text", ""], {"text": ""}),
        (["--text", '"7"'], {"text": "7"}),
        (["--text", "a=b"], {"text": "a=b"}),
        (["--max-norm", "1"], {"max_norm": 1}),
        (["--a", "1", "--a", "2"], {"a": 2}),
    ],
)
def test_flags_become_tables(flags, values):
    assert parse_overrides(flags) == values


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["steps", "3"], "unexpected argument 'steps'"),
        (["--steps"], "--steps needs a value"),
        (["--steps", "--lr", "3"], "--steps needs a value"),
        (["--a", "1", "--a.b", "2"], "'a' was already given as a value"),
    ],
)
def test_wrong_flags_are_told(flags, message):
    with pytest.raises(UserError, match=message):
        parse_overrides(flags)


def test_a_later_layer_wins_table_by_table():
    base = {"a": {"x": 1, "y": {"z": 2}}, "b": 3}
    assert merge(base, {"a": {"y": {"w": 4}}, "b": {"c": 5}}) == {
        "a": {"x": 1, "y": {"z": 2, "w": 4}},
        "b": {"c": 5},
    }
    assert base == {"a": {"x": 1, "y": {"z": 2}}, "b": 3}


# ---- files ---------------------------------------------------------------------------


def test_a_recipe_is_read_with_its_overrides(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\nlimit = 3\n[inner]\nwidth = 8\n')
    recipe = load_recipe(Outer, path, ["--inner.rate", "2", "--limit", "none"])
    assert recipe == Outer("x", Inner(8, 2.0))


@pytest.mark.parametrize("content", [b"a = ", b"a = 1\na = 2", b"[a\n", b"a = '\xff'"])
def test_malformed_toml_is_one_line_with_the_file(tmp_path, content):
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path}: not valid TOML: ")
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_is_told(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UserError, match=f"no such recipe: {path}"):
            read_toml(path)


TEXT = st.text(max_size=20)  # everything but surrogates, control characters too


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    value=st.builds(
        Outer,
        name=TEXT,
        inner=st.builds(
            Inner,
            width=st.integers(-(2**60), 2**60),
            rate=st.floats(allow_nan=False, allow_infinity=False),
            kind=st.sampled_from(["a", "b"]),
        ),
        words=st.lists(TEXT, max_size=3).map(tuple),
        deep=st.booleans(),
        limit=st.none() | st.integers(0, 9),
    )
)
def test_written_and_read_again_it_is_the_same(value):
    text = to_toml(value)
    assert build(Outer, tomllib.loads(text)) == value


def test_a_whole_recipe_survives_writing():
    recipe = build(
        PretrainRecipe,
        {"sample": {"prompts": ['"\\', "a\nb\x1b\x7f", "☃"]}, "train": {"length": 8}},
    )
    assert build(PretrainRecipe, tomllib.loads(to_toml(recipe))) == recipe
