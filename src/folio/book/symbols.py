"""What a chapter quotes, found in the source by name, without importing it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

LONGEST = 88  # columns: what a printed page holds


class QuoteError(ValueError):
    """A quote that can't be made; the message says why, and of what."""


@dataclass(frozen=True)
class Piece:
    """Consecutive lines of a file; `first` is the number of the first."""

    first: int
    lines: tuple[str, ...]

    @property
    def last(self) -> int:
        return self.first + len(self.lines) - 1


@dataclass(frozen=True)
class Quoted:
    """A symbol's source: the file, what to call it, and the lines in pieces."""

    path: Path
    shown: str
    pieces: tuple[Piece, ...]

    @property
    def first(self) -> int:
        return self.pieces[0].first

    @property
    def last(self) -> int:
        return self.pieces[-1].last


def quote(
    dotted: str,
    roots: list[Path],
    *,
    docstring: bool = True,
    start: str = "",
    end: str = "",
) -> Quoted:
    """The source of `dotted`, e.g. "folio.model.attention.Attention.forward".

    roots: folders in which packages are looked for. Without `docstring`, it is left
    out. `start` and `end` are pieces of text: the quote runs from the first line that
    holds the one to the next that holds the other. Raises QuoteError.
    """
    path, shown, node = _find(dotted, roots)
    lines = path.read_text(encoding="utf-8").splitlines()
    span = _span(node, len(lines))
    chosen = list(range(span[0], span[1] + 1))
    if not docstring:
        chosen = [n for n in chosen if n not in _docstring_lines(node)]
    chosen = _between(chosen, lines, start, end, dotted)
    _check_width(chosen, lines, shown)
    return Quoted(path, shown, _pieces(chosen, lines))


def _find(dotted: str, roots: list[Path]) -> tuple[Path, str, ast.AST]:
    """The file, its name below its root, and the node that defines the symbol."""
    parts = dotted.split(".")
    for root in roots:
        for cut in range(len(parts), 0, -1):
            base = root.joinpath(*parts[:cut])
            for path in (base.with_suffix(".py"), base / "__init__.py"):
                if path.is_file():
                    node = _descend(path, parts[cut:], dotted)
                    return path, path.relative_to(root).as_posix(), node
    raise QuoteError(f"no module for {dotted!r}")


def _descend(path: Path, names: list[str], dotted: str) -> ast.AST:
    node: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    for name in names:
        children = list(ast.iter_child_nodes(node))
        found = [child for child in children if name in _names(child)]
        if not found:
            known = [n for child in children for n in _names(child)]
            raise QuoteError(
                f"no {name!r} in {path.name} (quoting {dotted}); "
                f"there: {', '.join(known)}"
            )
        node = found[-1]
    return node


def _names(node: ast.AST) -> list[str]:
    """What a statement defines."""
    if isinstance(node, ast.Assign):
        return [t.id for t in node.targets if isinstance(t, ast.Name)]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    name = getattr(node, "name", None)
    return [name] if isinstance(name, str) else []


def _span(node: ast.AST, count: int) -> tuple[int, int]:
    if isinstance(node, ast.Module):
        return 1, count
    decorators = [d.lineno for d in getattr(node, "decorator_list", [])]
    return min([node.lineno, *decorators]), node.end_lineno


def _docstring_lines(node: ast.AST) -> range:
    body = getattr(node, "body", None)
    first = body[0] if isinstance(body, list) and body else None
    value = getattr(first, "value", None)
    if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
        return range(0)
    return range(first.lineno, first.end_lineno + 1)


def _between(
    chosen: list[int], lines: list[str], start: str, end: str, dotted: str
) -> list[int]:
    """Cut to the lines from the first with `start` to the next with `end`."""
    for text, keep in ((start, slice(0, None)), (end, slice(0, 1))):
        if not text:
            continue
        at = [i for i, n in enumerate(chosen) if text in lines[n - 1]]
        if not at:
            raise QuoteError(f"no line of {dotted} holds {text!r}")
        chosen = chosen[at[0] :] if keep.stop is None else chosen[: at[0] + 1]
    return chosen


def _check_width(chosen: list[int], lines: list[str], shown: str) -> None:
    for n in chosen:
        if len(lines[n - 1]) > LONGEST:
            width = len(lines[n - 1])
            raise QuoteError(f"{shown}:{n} has {width} columns; a page holds {LONGEST}")


def _pieces(chosen: list[int], lines: list[str]) -> tuple[Piece, ...]:
    """Runs of consecutive lines, all moved left by what they have in common."""
    margin = min(
        (len(s) - len(s.lstrip()) for n in chosen if (s := lines[n - 1]).strip()),
        default=0,
    )
    runs: list[list[int]] = []
    for n in chosen:
        if not runs or n != runs[-1][-1] + 1:
            runs.append([])
        runs[-1].append(n)
    for run in runs:  # a blank line where a docstring was
        while len(run) > 1 and not lines[run[0] - 1].strip():
            del run[0]
    return tuple(
        Piece(run[0], tuple(lines[n - 1][margin:] for n in run)) for run in runs
    )
