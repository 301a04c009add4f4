"""docs/asked.md: ninety rows, and every link leads to something that is there."""

import ast
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "asked.md"
ROW = re.compile(r"\| (\d+) \| (.+) \| ([^|]*) \|")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def rows(page: str) -> list[tuple[int, str, str]]:
    """(number, asked, where) of each row of the table."""
    return [
        (int(match[1]), match[2].strip(), match[3].strip())
        for match in map(ROW.fullmatch, page.splitlines())
        if match
    ]


def python_symbols(path: Path) -> set[str]:
    """Names a module defines: `function`, `Class`, `Class.method`, `CONSTANT`."""
    names: set[str] = set()

    def visit(body: list[ast.stmt], outer: str) -> None:
        for node in body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                names.add(outer + node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{outer}{node.name}.")
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = (
                    node.targets if isinstance(node, ast.Assign) else [node.target]
                )
                names.update(outer + t.id for t in targets if isinstance(t, ast.Name))

    visit(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return names


def headings(path: Path) -> set[str]:
    """The anchors of a Markdown page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {title.replace(" ", "-") for title in plain}


def dead_links(page: Path) -> list[str]:
    """Every link of the table that leads nowhere, with the reason."""
    dead = []
    for number, _, where in rows(page.read_text(encoding="utf-8")):
        targets = LINK.findall(where)
        if not targets and where != "—":
            dead.append(f"{number}: neither a link nor an em dash: {where!r}")
        for target in targets:
            file, _, symbol = target.partition("#")
            path = page.parent / file
            if not path.is_file():
                dead.append(f"{number}: no such file: {file}")
            elif symbol and symbol not in (
                python_symbols(path) if path.suffix == ".py" else headings(path)
            ):
                dead.append(f"{number}: {file} has no {symbol}")
    return dead


def test_the_ninety_rows_are_all_there_once_and_in_order():
    numbers = [number for number, _, _ in rows(PAGE.read_text(encoding="utf-8"))]
    assert numbers == list(range(1, 91))


def test_no_link_is_dead():
    assert dead_links(PAGE) == []


def test_the_notes_are_kept():
    assert "\n## Notes on some rows\n" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("[`f`](../code.py#f)", None),
        ("[`A.g`](../code.py#A.g) · [page](page.md#the-loop-again)", None),
        ("[`LIMIT`](../code.py#LIMIT)", None),
        ("—", None),
        ("[`f`](../gone.py#f)", "1: no such file: ../gone.py"),
        ("[`h`](../code.py#h)", "1: ../code.py has no h"),
        ("[`g`](../code.py#g)", "1: ../code.py has no g"),
        ("[page](page.md#loop)", "1: page.md has no loop"),
        ("[folder](..)", "1: no such file: .."),
        ("soon", "1: neither a link nor an em dash: 'soon'"),
    ],
)
def test_a_dead_link_is_found(tmp_path, where, problem):
    (tmp_path / "docs").mkdir()
    (tmp_path / "code.py").write_text(
        "LIMIT: int = 3\n\n\ndef f():\n    pass\n\n\nclass A:\n    def g(self): ...\n"
    )
    (tmp_path / "docs" / "page.md").write_text("# A page\n## The loop, again\n")
    page = tmp_path / "docs" / "asked.md"
    page.write_text(
        f"| # | asked | where |\n|---|---|---|\n| 1 | a thing | {where} |\n"
    )
    assert dead_links(page) == ([problem] if problem else [])
