"""Drawings and pages: reports of runs, comparisons, and the figures of the book.

Reading order: `color` (what colors mean), `markup` (escaping), `scale` and `svg`
(charts), `tokens`, `samples`, `attention`, `experts`, `dots` (views), `folder` (what a
run left on disk), `page`, `panels`, `tuned`, `report`, for several runs `groups` and
`compare`, for experiments `experiment`, and for a whole path `bars` and `alignment`.
"""

from folio.viz.alignment import write_gains
from folio.viz.compare import write_compare
from folio.viz.groups import compare_table, main_columns
from folio.viz.report import write_report

__all__ = [
    "compare_table",
    "main_columns",
    "write_compare",
    "write_gains",
    "write_report",
]
