"""The table of docs/reliability.md, from what was recorded: `python -m
reliability.table` writes it there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reliability.record import RESULTS
from reliability.rows import ROWS
from reliability.runner import ROOT

PAGE = ROOT / "docs" / "reliability.md"
HEAD = (
    "| row | trials | failures | rarer than (95 %) | broken build noticed | when |\n"
    "|---|---|---|---|---|---|"
)
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"


def table(results: Path = RESULTS) -> str:
    """One line for each row, in the order of the specification."""
    return "\n".join([HEAD, *(_line(name, results) for name in ROWS)]) + "\n"


def _line(name: str, results: Path) -> str:
    path = results / f"{name}.json"
    if not path.is_file():
        return f"| `{name}` | not yet run at full size | | | | |"
    return _cells(name, json.loads(path.read_text(encoding="utf-8")))


def _cells(name: str, found: dict[str, Any]) -> str:
    bound, broken = found["upper_bound_95"], found["broken"]
    cells = [
        f"`{name}`",
        f"{found['trials']:,}",
        str(found["failures"]),
        "" if bound is None else f"{100 * bound:.2g} %",
        f"{broken['failures']} of {broken['trials']} trials",
        f"{found['date'][:10]}, {found['commit']}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Put the table between its two marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
