"""Drawings and pages: reports of runs, comparisons, and the figures of the book.

Reading order: `color` (what colors mean), `markup` (escaping), `scale` and `svg`
(charts), `tokens`, `samples`, `attention`, `experts`, `dots` (views), `folder` (what a
run left on disk), `page`, `report`, for several runs `groups` and `compare`, and for
experiments `experiment`.
"""

from folio.viz.compare import write_compare
from folio.viz.groups import compare_table
from folio.viz.report import write_report

__all__ = ["compare_table", "write_compare", "write_report"]
