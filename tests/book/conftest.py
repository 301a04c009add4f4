"""A small guide, for the tests that build."""

from __future__ import annotations

import pytest

PACKAGES = ("sphinx", "myst_parser", "furo", "sphinx_copybutton", "pypandoc", "typst")


@pytest.fixture(scope="session")
def extra():
    """Tests that build need the extra."""
    for package in PACKAGES:
        pytest.importorskip(package)


@pytest.fixture(scope="session")
def guide(extra, tmp_path_factory):
    """The template of `folio book new`, written into a folder."""
    from folio.book import build

    return build.new(tmp_path_factory.mktemp("guide") / "mine")
