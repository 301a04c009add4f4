"""Configuration: dataclasses are the schema, TOML files and dotted flags fill them."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class UserError(ValueError):
    """Something only the user can mend: the command line prints it as one line.

    The message names the field or file, its value, and the remedy.
    """


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for a mistyped name.

    >>> nearest("learning_rat", ["learning_rate", "seed"])
    "; did you mean 'learning_rate'?"
    """
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if match:
        return f"; did you mean {match[0]!r}?"
    return f"; known: {', '.join(sorted(known))}"


def build(schema: type[T], values: dict[str, Any], where: str = "") -> T:
    """Make a dataclass from nested dictionaries, refusing what the schema lacks."""
    types_of = typing.get_type_hints(schema)
    fields = {f.name for f in dataclasses.fields(schema) if f.init}
    ready = {}
    for name, value in values.items():
        path = f"{where}.{name}" if where else name
        if name not in fields:
            raise UserError(f"unknown key '{path}'{nearest(name, sorted(fields))}")
        ready[name] = _convert(types_of[name], value, path)
    try:
        return schema(**ready)
    except TypeError as error:
        raise UserError(f"{where or schema.__name__}: {error}") from None


def _convert(kind: Any, value: Any, path: str) -> Any:
    """Check one value against its annotation; nested tables become dataclasses."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        errors = []
        for option in options:
            if option is type(None):
                continue
            try:
                return _convert(option, value, path)
            except UserError as error:
                errors.append(error)
        raise errors[0]
    if origin is typing.Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            shown = ", ".join(map(str, choices))
            raise UserError(f"{path} = {value!r}: choose one of {shown}")
        return value
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{path} = {value!r}: expected a table [{path}]")
        return build(kind, value, path)
    if origin in (tuple, list):
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{path} = {value!r}: expected a list")
        inner = typing.get_args(kind)[0]
        return origin(_convert(inner, v, f"{path}[{i}]") for i, v in enumerate(value))
    if kind is Any:
        return value
    return _convert_scalar(kind, value, path)


def _convert_scalar(kind: type, value: Any, path: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise UserError(f"{path} = {value!r}: expected {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{path} = {value!r}: expected a finite number")
    if kind is str and any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(f"{path} = {value!r}: not valid Unicode")
    return value


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Dotted flags to nested dictionaries; values are read as TOML, else as text.

    >>> parse_overrides(["--train.steps", "200", "--data.path=a.txt"])
    {'train': {'steps': 200}, 'data': {'path': 'a.txt'}}
    """
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"unexpected argument {flag!r}; overrides are --key value")
        name, given, text = flag[2:].partition("=")
        if not given:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"--{name} needs a value")
            text = rest.pop(0)
        *tables, last = name.replace("-", "_").split(".")
        table = values
        for key in tables:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise UserError(f"--{name}: {key!r} was already given as a value")
        table[last] = _parse_value(text)
    return values


def _parse_value(text: str) -> Any:
    if text in ("none", "None"):
        return None
    for candidate in (text, text.lower()):
        try:
            return tomllib.loads(f"value = {candidate}")["value"]
        except tomllib.TOMLDecodeError:
            continue
    return text


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on top of `base`, table by table.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    result = dict(base)
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merge(result[name], value)
        else:
            result[name] = value
    return result


def read_toml(path: str | Path) -> dict[str, Any]:
    """Parse a TOML file; a missing or malformed one is a one-line error."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such recipe: {path}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: can't read: {error.strerror}") from None


def load_recipe(schema: type[T], path: str | Path, overrides: Sequence[str] = ()) -> T:
    """The recipe in `path` with the command line's overrides on top."""
    return build(schema, merge(read_toml(path), parse_overrides(overrides)))


def to_toml(value: Any) -> str:
    """Write a (nested) dataclass as TOML: `build(read)` gives the same value back.

    Fields that are None are left out, since TOML has no null and None is a default.
    """
    lines: list[str] = []
    _write_table(dataclasses.asdict(value), "", lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: dict[str, Any], name: str, lines: list[str]) -> None:
    if name:
        lines += ["", f"[{name}]"]
    for key, value in table.items():
        if value is not None and not isinstance(value, dict):
            lines.append(f"{key} = {toml_value(value)}")
    for key, value in table.items():
        if isinstance(value, dict):
            _write_table(value, f"{name}.{key}" if name else key, lines)


def toml_value(value: Any) -> str:
    """One value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(map(_toml_character, escaped)) + '"'


def _toml_character(character: str) -> str:
    """TOML wants control characters, also the invisible DEL, written as escapes."""
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    if character < " " or character == "\x7f":
        return named.get(character, f"\\u{ord(character):04x}")
    return character
