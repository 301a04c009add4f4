"""The live source of a symbol, and the stub that a learner starts from.

Both are read from the package's files with `ast`, so neither can go stale.
"""

from __future__ import annotations

import ast
import textwrap
from importlib.util import find_spec
from pathlib import Path

from folio.learn.exercise import Exercise

BLANK = "raise NotImplementedError"


def live_source(exercise: Exercise) -> str:
    """The symbol as the package has it, moved to the left margin."""
    lines, node = _find(exercise)
    return "\n".join(_lines_of(lines, node)) + "\n"


def stub(exercise: Exercise) -> str:
    """The task as a comment, imports, and the symbol with all bodies left blank."""
    lines, node = _find(exercise)
    parts = [
        _comment(exercise, _helpers(exercise, lines, node)),
        "from __future__ import annotations\n\n" + _imports(exercise, lines, node),
        "\n".join(_blanked(lines, node)),
    ]
    return "\n\n".join(part.strip("\n") for part in parts[:2]) + f"\n\n\n{parts[2]}\n"


def answer(exercise: Exercise, written: str) -> str:
    """A whole file: what the module would have in scope, then what was written.

    So the live source, or one that differs from it in a line, can be an answer.
    """
    lines, node = _find(exercise)
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    own = [
        name
        for statement in ast.parse("\n".join(lines)).body
        for name in _defined(statement)
        if name in used and name not in (*exercise.given, exercise.path[0])
    ]
    imports = _imports(exercise, lines, node)
    if own:
        imports += f"\nfrom {exercise.module} import {', '.join(own)}"
    return f"from __future__ import annotations\n\n{imports}\n\n\n{written}"


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module defines itself."""
    if isinstance(statement, ast.Assign):
        return [t.id for t in statement.targets if isinstance(t, ast.Name)]
    name = getattr(statement, "name", None)
    return [name] if isinstance(name, str) else []


def _find(exercise: Exercise) -> tuple[list[str], ast.AST]:
    """The lines of the module's file, and the node of the symbol."""
    text = Path(find_spec(exercise.module).origin).read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    for name in exercise.path:
        found = [n for n in ast.iter_child_nodes(node) if getattr(n, "name", 0) == name]
        if not found:
            raise LookupError(f"exercise {exercise.name}: no symbol {exercise.symbol}")
        node = found[-1]
    return text.splitlines(), node


def _lines_of(lines: list[str], node: ast.AST) -> list[str]:
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])).splitlines()


def _comment(exercise: Exercise, helpers: list[str]) -> str:
    """The head of the file: what to do, with what, and which commands help."""
    method = ""
    if len(exercise.path) > 1 and exercise.path[-1] != exercise.path[0]:
        method = f"\n\nIt is a method of `{exercise.path[0]}`; write it here by itself."
    text = f"{exercise.title}  (week {exercise.week}, chapter {exercise.chapter})\n\n"
    text += textwrap.dedent(exercise.task).strip() + method
    if helpers:
        text += "\n\nGiven:\n" + "\n".join(f"  {line}" for line in helpers)
    text += f"\n\nfolio learn check {exercise.name}\nfolio learn hint {exercise.name}"
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())


def _imports(exercise: Exercise, lines: list[str], node: ast.AST) -> str:
    """The module's imports that the symbol needs, and what is given of the module."""
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    found = []
    for statement in ast.parse("\n".join(lines)).body:
        if not isinstance(statement, (ast.Import, ast.ImportFrom)):
            continue
        kept = [a for a in statement.names if _bound(a) in used]
        if kept and getattr(statement, "module", "") != "__future__":
            statement.names = kept
            found.append(ast.unparse(statement))
    own = ", ".join(exercise.given)
    if own:
        found.append(f"from {exercise.module} import {own}")
    return "\n".join(found)


def _helpers(exercise: Exercise, lines: list[str], node: ast.AST) -> list[str]:
    """How each function and class of the package that the stub imports is called."""
    found = []
    for statement in ast.parse(_imports(exercise, lines, node)).body:
        module = getattr(statement, "module", None) or ""
        if module.partition(".")[0] != "folio":
            continue
        text = Path(find_spec(module).origin).read_text(encoding="utf-8")
        defined = {getattr(n, "name", None): n for n in ast.parse(text).body}
        found += [_call(defined[a.name]) for a in statement.names if a.name in defined]
    return [call for call in found if call]


def _call(node: ast.AST) -> str:
    """A function or class as it is called, without types; "" if it doesn't say how.

    >>> _call(ast.parse("def scaled(x: float, *, by: float = 2.0): ...").body[0])
    'scaled(x, *, by=2.0)'
    """
    function, bound = node, 0
    if isinstance(node, ast.ClassDef):
        made = [n for n in node.body if getattr(n, "name", None) == "__init__"]
        if not made:
            return ""
        function, bound = made[0], 1
    arguments = function.args
    arguments.args = arguments.args[bound:]
    for each in ast.walk(arguments):
        if isinstance(each, ast.arg):
            each.annotation = None
    return f"{node.name}({ast.unparse(arguments)})"


def _bound(alias: ast.alias) -> str:
    return (alias.asname or alias.name).partition(".")[0]


def _blanked(lines: list[str], node: ast.AST) -> list[str]:
    """The symbol's lines with every body but its docstring replaced."""
    keep = list(lines)
    functions = [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef)]
    inner = [f for g in functions for f in ast.walk(g) if f is not g]
    outer = [f for f in functions if f not in inner]
    for function in sorted(outer, key=lambda f: -f.lineno):
        body = function.body
        told = ast.get_docstring(function) is not None
        start = body[0].end_lineno if told else body[0].lineno - 1
        blank = " " * body[0].col_offset + BLANK
        keep[start : function.end_lineno] = [blank]
    dropped = len(lines) - len(keep)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    kept = keep[first - 1 : node.end_lineno - dropped]
    return textwrap.dedent("\n".join(kept)).splitlines()
