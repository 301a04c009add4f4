"""What a family of models is: a table of names, and how its configuration reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from folio.config import UserError
from folio.hub.keys import REQUIRED, Keys
from folio.hub.names import Table
from folio.model.config import ModelConfig


class Field(NamedTuple):
    """A key of theirs that means the same as a field of ours, for both directions."""

    theirs: str
    ours: str  # a field of ModelConfig
    kind: type
    default: Any = REQUIRED  # what a file means that lacks it
    value: str | None = None  # the property that gives it when the field is None


@dataclasses.dataclass(frozen=True)
class Family:
    """One `model_type` of Hugging Face.

    `read` gives the fields of ModelConfig that need a thought, `write` their keys.
    `write` says what it can and leaves out what the family has no key for; whether
    that was enough shows when it is read back (`folio.hub.convert.config_to_hf`).
    """

    name: str  # model_type
    architecture: str  # the class with the head
    table: Table
    fields: tuple[Field, ...]
    read: Callable[[Keys], dict[str, Any]]
    write: Callable[[ModelConfig], dict[str, Any]]

    def config(self, values: dict[str, Any]) -> ModelConfig:
        """The model of a parsed config.json, every key of it accounted for."""
        architectures = values.get("architectures") or [self.architecture]
        if type(architectures) is not list or self.architecture not in architectures:
            raise UserError(
                f"architectures = {architectures}: of {self.name!r} only "
                f"{self.architecture} is supported"
            )
        keys = Keys(values)
        same = {f.ours: keys.take(f.theirs, f.kind, f.default) for f in self.fields}
        if not 1 <= same["n_layers"] <= 10_000:  # before anything is made per layer
            raise UserError(
                f"a model of {same['n_layers']} layers: is the file damaged?"
            )
        parts = same | self.read(keys)
        keys.finish()
        return ModelConfig(**parts)

    def values(self, config: ModelConfig) -> dict[str, Any]:
        """The config.json of a model, as far as this family has keys for it."""
        same = {f.theirs: getattr(config, f.value or f.ours) for f in self.fields}
        named = {"architectures": [self.architecture], "model_type": self.name}
        return named | same | self.write(config)


def shortest_pattern(letters: str) -> str:
    """The shortest pattern that, repeated, begins with `letters`.

    >>> shortest_pattern("wfwfw"), shortest_pattern("ffw"), shortest_pattern("fff")
    ('wf', 'ffw', 'f')
    """
    for length in range(1, len(letters)):
        if (letters[:length] * len(letters))[: len(letters)] == letters:
            return letters[:length]
    return letters
