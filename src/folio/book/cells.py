"""Code of a chapter, run from top to bottom in a process of its own.

What a cell prints, and the value of its last line, is its output. Results are kept by
a hash of the cells and of the whole package: who changes either sees new numbers.

    python -m folio.book.cells < CELLS.json > OUTPUTS.json

is that process.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import linecache
import os
import re
import subprocess
import sys
import tempfile
import traceback
import types
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

TIME_LIMIT = 300  # seconds for a chapter; what needs more belongs to experiments/
PACKAGE = Path(__file__).resolve().parent.parent
FORMAT = "1"  # of the kept outputs
LAST = "__last__"  # what a cell's last line was worth


@dataclass(frozen=True)
class Cell:
    """Code; `line` is where it begins in its chapter, `raises` the error it shows."""

    source: str
    line: int = 1
    raises: str = ""


@dataclass(frozen=True)
class Output:
    """What a cell left: "text", "drawing" (an SVG) or "error" (a line)."""

    kind: str
    value: str


class CellError(Exception):
    """A cell failed: the line of the chapter, and what Python said."""

    def __init__(self, line: int, message: str):
        super().__init__(message)
        self.line = line


@cache
def package_hash() -> str:
    """Of all code that a cell may call: the package, but for these builders."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent != PACKAGE / "book":
            digest.update(path.relative_to(PACKAGE).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def outputs_of(
    cells: Sequence[Cell], chapter: str, kept: Path, folder: Path
) -> list[list[Output]]:
    """The outputs of each cell, from `kept` or by running them.

    chapter: its name in error messages. folder: the book's, whose own modules can be
    imported. Raises CellError for the first cell that fails, or that should and
    doesn't.
    """
    if not cells:
        return []
    asked = json.dumps([chapter, *map(asdict, cells)])
    own = "".join(path.read_text("utf-8") for path in own_modules(cells, folder))
    name = hashlib.sha256((FORMAT + package_hash() + own + asked).encode()).hexdigest()
    path = kept / f"{name}.json"
    if path.is_file():
        answer = json.loads(path.read_text(encoding="utf-8"))
    else:
        answer = _run(asked, folder)
        if "error" not in answer:
            kept.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(answer), encoding="utf-8")
    if "error" in answer:
        raise CellError(answer["line"], answer["error"])
    return [[Output(**one) for one in outputs] for outputs in answer["outputs"]]


def own_modules(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """All modules of the book in `folder`, if a cell imports one of them."""
    found = [path for place in places(folder) for path in sorted(place.glob("*.py"))]
    names = "|".join(path.stem for path in found)
    imports = re.compile(rf"^\s*(?:from|import)\s+(?:{names})\b", re.MULTILINE)
    return found if any(imports.search(cell.source) for cell in cells) else []


def places(folder: Path) -> list[Path]:
    """Where the modules of a book lie: beside its chapters, and in figures/."""
    return [folder, folder / "figures"]


def _run(asked: str, folder: Path) -> dict:
    """Ask a fresh Python, with one thread and fixed hashes."""
    own = [str(place.resolve()) for place in places(folder)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *own]),
        "PYTHONDONTWRITEBYTECODE": "1",  # a module changed within a second is read anew
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as empty:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "folio.book.cells"],
                input=asked,
                capture_output=True,
                text=True,
                cwd=empty,
                env=environment,
                timeout=TIME_LIMIT,
            )
        except subprocess.TimeoutExpired:
            line = json.loads(asked)[1]["line"]
            return {"line": line, "error": f"the cells took over {TIME_LIMIT} seconds"}
    if done.returncode:
        line = json.loads(asked)[1]["line"]
        return {"line": line, "error": done.stderr.strip()[-500:] or "Python died"}
    return json.loads(done.stdout)


# ---- in that process -----------------------------------------------------------------


def run_all(cells: Sequence[Cell], chapter: str) -> dict:
    """{"outputs": ...} of all cells, or {"line", "error"} of the first that fails."""
    module = types.ModuleType("chapter")
    sys.modules["chapter"] = module
    outputs = []
    for cell in cells:
        try:
            outputs.append([asdict(one) for one in run(cell, chapter, module)])
        except CellError as error:
            return {"line": error.line, "error": str(error)}
    return {"outputs": outputs}


def run(cell: Cell, chapter: str, module: types.ModuleType) -> list[Output]:
    """Run one cell; lines in tracebacks are those of the chapter."""
    blank = "\n" * (cell.line - 1)
    name = f"{chapter}:{cell.line}"
    linecache.cache[name] = (1, None, (blank + cell.source).splitlines(True), name)
    printed, value, failed = io.StringIO(), None, None
    with contextlib.redirect_stdout(printed):
        try:
            value = _execute(blank + cell.source, name, module)
        except BaseException as error:
            failed = error
    outputs = [Output("text", printed.getvalue())] if printed.getvalue() else []
    if failed is not None:
        return [*outputs, _expected(cell, failed, name)]
    if cell.raises:
        raise CellError(cell.line, f"the cell was to raise {cell.raises}, and didn't")
    return outputs + ([] if value is None else [_shown(value)])


def _execute(source: str, name: str, module: types.ModuleType) -> object:
    """All statements; the value of the last, if it is an expression."""
    tree = ast.parse(source, name)
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        kept = ast.Assign([ast.Name(LAST, ast.Store())], last.value)
        tree.body[-1] = ast.copy_location(kept, last)
    ast.fix_missing_locations(tree)
    exec(compile(tree, name, "exec"), module.__dict__)
    return module.__dict__.pop(LAST, None)


def _expected(cell: Cell, error: BaseException, name: str) -> Output:
    """The error as a line of output, if the chapter means to show it."""
    text = "".join(traceback.format_exception_only(error)).strip()
    if cell.raises and type(error).__name__ == cell.raises:
        return Output("error", text)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == name]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else cell.line)
    raise CellError(line, f"a cell failed: {text}")


def _shown(value: object) -> Output:
    drawing = getattr(value, "drawing", None)
    return Output("drawing", drawing) if drawing else Output("text", repr(value) + "\n")


if __name__ == "__main__":
    chapter, *asked = json.load(sys.stdin)
    answer = run_all([Cell(**cell) for cell in asked], chapter)
    json.dump(answer, sys.stdout)
