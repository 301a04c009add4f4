"""The learner's symbol in the package: as if it had been written there.

`install` puts it in while its module is imported, so that whoever imports it later gets
the learner's; that is for a process of its own. `placed` puts it into modules that are
loaded already and takes it out again: for many wrong answers in one test.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from folio.learn.exercise import Exercise

Make = Callable[[], Any]  # makes the learner's object, once its module is there


class Overlay(MetaPathFinder):
    """Finds modules as Python does, but changes some right after they have run."""

    def __init__(self, pieces: Mapping[str, list[tuple[Exercise, Make]]]):
        self.pieces = pieces

    def find_spec(self, name: str, path: Any = None, target: Any = None):
        if name not in self.pieces:
            return None
        spec = PathFinder.find_spec(name, path, target)
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            for exercise, make in self.pieces[name]:
                put(module, exercise.path, make())

        spec.loader.exec_module = exec_module
        return spec


def install(pieces: list[tuple[Exercise, Make]]) -> None:
    """From now on, modules are imported with the learner's pieces in them.

    Raises RuntimeError if one is loaded already: others may hold its symbol.
    """
    by_module: dict[str, list[tuple[Exercise, Make]]] = {}
    for exercise, make in pieces:
        if exercise.module in sys.modules:
            raise RuntimeError(f"{exercise.module} is loaded: too late for an overlay")
        by_module.setdefault(exercise.module, []).append((exercise, make))
    sys.meta_path.insert(0, Overlay(by_module))


def put(module: ModuleType, path: list[str], value: Any) -> None:
    """Let `module.A.b` be `value`, for the path ["A", "b"]."""
    *outer, last = path
    owner: Any = module
    for name in outer:
        owner = getattr(owner, name)
    setattr(owner, last, value)


@contextlib.contextmanager
def placed(exercise: Exercise, value: Any) -> Iterator[None]:
    """Wherever a loaded module of the package has the symbol, it is `value`."""
    module, path = sys.modules[exercise.module], exercise.path
    if len(path) > 1:
        holders = [getattr(module, path[0])]
    else:
        live = getattr(module, path[0])
        holders = [
            other
            for name, other in list(sys.modules.items())
            if name.startswith("folio.") and vars(other).get(path[0]) is live
        ]
    kept = vars(holders[0])[path[-1]]
    try:
        for holder in holders:
            setattr(holder, path[-1], value)
        yield
    finally:
        for holder in holders:
            setattr(holder, path[-1], kept)
