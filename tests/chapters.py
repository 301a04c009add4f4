"""The book's chapters, as its tests read them."""

from __future__ import annotations

import re
from pathlib import Path

BOOK = Path(__file__).resolve().parents[1] / "book"
CHAPTERS = sorted(set(BOOK.glob("*.md")) - {BOOK / "WRITING.md"})


def blocks(path: Path, directive: str) -> list[tuple[int, str, dict[str, str], str]]:
    """(line, argument, options, body) of each directive of that name in a chapter."""
    found = []
    lines = path.read_text(encoding="utf-8").splitlines()
    opening = re.compile(r"^(`{3,})\{" + re.escape(directive) + r"\}\s*(.*)$")
    for at, line in enumerate(lines):
        if not (match := opening.match(line)):
            continue
        end = lines.index(match[1], at + 1)
        inside = lines[at + 1 : end]
        options = {}
        while inside and (option := re.match(r"^:([\w-]+):\s*(.*)$", inside[0])):
            options[option[1]] = option[2]
            inside.pop(0)
        found.append((at + 1, match[2].strip(), options, "\n".join(inside)))
    return found
