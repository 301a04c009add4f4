"""Every worked example in a docstring is run, and every module can be imported."""

import doctest
import importlib
import pkgutil

import pytest

import folio

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(folio.__path__, "folio.")
    if not module.name.endswith(".__main__")  # which runs
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_there_are_examples():
    counts = {
        name: sum(
            len(test.examples)
            for test in doctest.DocTestFinder().find(importlib.import_module(name))
        )
        for name in MODULES
    }
    assert sum(counts.values()) > 100
    for part in ("norm", "positions", "mask", "heads"):
        assert counts[f"folio.model.{part}"], part
