"""The size meter: the largest files, classes and functions of the package.

    python bench/meter.py            tables
    python bench/meter.py --json     the same as data

Lines are physical lines, docstrings and comments included: it is what a reader
scrolls past. The aims are aims: a whole idea in one place beats two halves in two.
"""

import argparse
import ast
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

SOURCE = Path(__file__).resolve().parent.parent / "src" / "folio"
AIMS = {"file": 350, "class": 120, "function": 40}
PLURAL = {"file": "files", "class": "classes", "function": "functions"}


@dataclass(frozen=True)
class Part:
    """One file, class or function and its length in lines."""

    kind: str
    where: str
    name: str
    lines: int

    @property
    def over(self) -> bool:
        return self.lines > AIMS[self.kind]


def measure(source: Path) -> list[Part]:
    """Every file, class and function below `source`, the longest first."""
    parts = []
    for path in sorted(source.rglob("*.py")):
        where = path.relative_to(source).as_posix()
        text = path.read_text(encoding="utf-8")
        parts.append(Part("file", where, "", len(text.splitlines())))
        parts += definitions(ast.parse(text), where)
    return sorted(parts, key=lambda part: -part.lines)


def definitions(tree: ast.AST, where: str, outer: str = "") -> Iterator[Part]:
    """The classes and functions in `tree`, nested ones included, decorators too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            name = f"{outer}{node.name}"
            yield Part(kind, where, name, node.end_lineno - first + 1)
            yield from definitions(node, where, f"{name}.")
        else:
            yield from definitions(node, where, outer)


def package_totals(parts: list[Part]) -> dict[str, dict[str, int]]:
    """Files and lines per package; a module at the top counts as its own package."""
    files, lines = Counter(), Counter()
    for part in parts:
        if part.kind == "file":
            package = part.where.split("/")[0]
            files[package] += 1
            lines[package] += part.lines
    return {
        name: {"files": files[name], "lines": count}
        for name, count in lines.most_common()
    }


def show(parts: list[Part], top: int, console: Console) -> None:
    """One table per kind, the parts over their aim in red, then the packages."""
    for kind, aim in AIMS.items():
        chosen = [part for part in parts if part.kind == kind]
        over = sum(part.over for part in chosen)
        title = f"{len(chosen)} {PLURAL[kind]}, aim {aim} lines, {over} over it"
        table = Table(box=None)
        table.add_column("lines", justify="right")
        table.add_column(kind)
        for part in chosen[:top]:
            name = f"{part.where}  {part.name}".rstrip()
            table.add_row(str(part.lines), name, style="red" if part.over else "")
        console.print(title, table, "", sep="\n")
    totals = package_totals(parts)
    lines = sum(total["lines"] for total in totals.values())
    table = Table(box=None)
    for heading in ("lines", "files"):
        table.add_column(heading, justify="right")
    table.add_column("package")
    for name, total in totals.items():
        table.add_row(str(total["lines"]), str(total["files"]), name)
    console.print(f"{lines} lines in all", table, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the largest parts.")
    parser.add_argument("--top", type=int, default=10, help="rows per table")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    parts = measure(SOURCE)
    if arguments.json:
        rows = [asdict(part) | {"over": part.over} for part in parts]
        report = {"aims": AIMS, "packages": package_totals(parts), "parts": rows}
        print(json.dumps(report, indent=1))
    else:
        show(parts, arguments.top, Console(highlight=False))


if __name__ == "__main__":
    main()
