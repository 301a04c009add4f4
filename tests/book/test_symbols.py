"""Quotes: found without importing, cut by patterns, refused where they don't fit."""

import pytest

from folio.book.symbols import QuoteError, quote

SOURCE = '''"""A module."""

LIMIT: int = 3


def outer(x):
    """What it does."""

    total = 0
    for step in range(x):
        total += step
    return total


class Box:
    width = 4

    @property
    def area(self):
        return self.width**2
'''


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "__init__.py").write_text("NAME = 'pack'\n")
    (folder / "part.py").write_text(SOURCE)
    return tmp_path


def text_of(quoted):
    return "\n".join(line for piece in quoted.pieces for line in piece.lines)


def test_a_function_has_the_lines_of_the_file(root):
    quoted = quote("pack.part.outer", [root])
    assert (quoted.shown, quoted.first, quoted.last) == ("pack/part.py", 6, 12)
    assert text_of(quoted) == "\n".join(SOURCE.splitlines()[5:12])


def test_a_method_comes_with_its_decorator_and_moves_left(root):
    quoted = quote("pack.part.Box.area", [root])
    assert quoted.first == 18
    assert text_of(quoted).splitlines()[:2] == ["@property", "def area(self):"]


@pytest.mark.parametrize(
    ("name", "line"),
    [("pack.part.LIMIT", 3), ("pack.part.Box.width", 16), ("pack.NAME", 1)],
)
def test_constants_attributes_and_packages_are_found(root, name, line):
    assert quote(name, [root]).first == line


def test_without_its_docstring_the_numbers_jump(root):
    pieces = quote("pack.part.outer", [root], docstring=False).pieces
    assert [(piece.first, piece.last) for piece in pieces] == [(6, 6), (9, 12)]


def test_patterns_choose_lines(root):
    quoted = quote("pack.part.outer", [root], start="for step", end="+=")
    assert (quoted.first, quoted.last) == (10, 11)
    assert text_of(quoted) == "for step in range(x):\n    total += step"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pack.part.inner", {}, "no 'inner' in part.py"),
        ("nowhere.x", {}, "no module for 'nowhere.x'"),
        ("pack.part.outer", {"start": "while"}, "no line of pack.part.outer holds"),
        ("pack.part.outer", {"start": "return", "end": "for"}, "holds 'for'"),
    ],
)
def test_what_is_not_there_is_named(root, name, options, message):
    with pytest.raises(QuoteError, match=message):
        quote(name, [root], **options)


def test_a_line_that_a_page_does_not_hold_is_refused(root):
    (root / "pack" / "wide.py").write_text(f"x = '{'a' * 82}'\ny = '{'a' * 84}'\n")
    quote("pack.wide.x", [root])
    with pytest.raises(QuoteError, match=r"pack/wide.py:2 has 90 columns; .* 88"):
        quote("pack.wide.y", [root])
