"""Cells: what they print, what they show, how they fail, and what is kept of them."""

import pytest

from folio.book import cells
from folio.book.cells import Cell, CellError, Output, outputs_of


def run(*sources, **options):
    asked = [Cell(source, line=10 * at + 1) for at, source in enumerate(sources)]
    answer = cells.run_all(asked, "chapter.md")
    return answer


def test_what_is_printed_and_the_last_value_are_the_output():
    answer = run("x = 2\nprint(x)", "x + 1", "x = 4")
    assert answer["outputs"] == [
        [{"kind": "text", "value": "2\n"}],
        [{"kind": "text", "value": "3\n"}],
        [],
    ]


def test_a_drawing_is_kept_with_the_names_of_its_colors():
    code = """
from folio.book.show import show
show('<svg viewBox="0 0 1 1"><rect fill="var(--train)"/></svg>')"""
    [[output]] = run(code)["outputs"]
    assert output["kind"] == "drawing"
    assert "var(--train)" in output["value"]


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ("x = 1\n1 / 0", 12, "ZeroDivisionError: division by zero"),
        ("x = 1\n\nif", 13, "SyntaxError"),
        ("def f():\n    return y\nf()", 12, "NameError"),
        ("import sys\nsys.exit(3)", 12, "SystemExit"),
    ],
)
def test_a_failure_has_the_line_of_the_chapter(source, line, message):
    answer = run("pass", source)
    assert answer["line"] == line
    assert message in answer["error"]


def test_an_error_that_is_meant_is_output():
    answer = cells.run_all([Cell("print(1)\n[][0]", raises="IndexError")], "c.md")
    assert answer["outputs"][0] == [
        {"kind": "text", "value": "1\n"},
        {"kind": "error", "value": "IndexError: list index out of range"},
    ]


@pytest.mark.parametrize("source", ["pass", "{}['a']"])
def test_an_error_that_does_not_come_or_is_another_fails(source):
    answer = cells.run_all([Cell(source, raises="IndexError")], "c.md")
    assert "outputs" not in answer


def test_outputs_are_kept_by_cells_and_by_the_package(tmp_path, monkeypatch):
    asked = []
    answer = {"outputs": [[{"kind": "text", "value": "1\n"}]]}
    monkeypatch.setattr(cells, "_run", lambda *what: asked.append(what) or answer)

    def outputs(source):
        return outputs_of([Cell(source)], "c.md", tmp_path / "kept", tmp_path)

    assert outputs("print(1)") == outputs("print(1)") == [[Output("text", "1\n")]]
    assert len(asked) == 1
    outputs("print(1) ")
    assert len(asked) == 2
    monkeypatch.setattr(cells, "package_hash", lambda: "another")
    outputs("print(1)")
    assert len(asked) == 3


def test_a_failure_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "_run", lambda *_: {"line": 7, "error": "no"})
    with pytest.raises(CellError) as error:
        outputs_of([Cell("x")], "c.md", tmp_path / "kept", tmp_path)
    assert error.value.line == 7
    assert not (tmp_path / "kept").exists()


def test_cells_run_in_a_process_of_their_own(tmp_path):
    asked = [Cell("import os; print(os.environ['OMP_NUM_THREADS'])")]
    outputs = outputs_of(asked, "c.md", tmp_path / "kept", tmp_path)
    assert outputs == [[Output("text", "1\n")]]


def test_modules_of_the_book_can_be_imported_and_make_outputs_anew(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "shape.py").write_text("SIDES = 4")

    def printed(own: str, source: str) -> str:
        (tmp_path / "own.py").write_text(own)
        [[output]] = outputs_of([Cell(source)], "c.md", tmp_path / "kept", tmp_path)
        return output.value

    both = "import own, shape\nprint(own.x, shape.SIDES)"
    assert printed("x = 1", both) == "1 4\n"
    assert printed("x = 2", both) == "2 4\n"
    assert printed("x = 3", "from shape import SIDES\nSIDES") == "4\n"


def test_modules_that_no_cell_imports_change_nothing(tmp_path):
    (tmp_path / "own.py").write_text("x = 1")
    assert cells.own_modules([Cell("owner = 1\nimport owns")], tmp_path) == []
    assert cells.own_modules([Cell("1"), Cell("if 1:\n import own")], tmp_path)
    (tmp_path / "own.py").unlink()
    assert cells.own_modules([Cell("import math")], tmp_path) == []


def test_a_chapter_that_takes_too_long_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "TIME_LIMIT", 0.05)
    with pytest.raises(CellError, match=r"took over 0\.05 seconds"):
        outputs_of([Cell("while True: pass")], "c.md", tmp_path / "kept", tmp_path)
