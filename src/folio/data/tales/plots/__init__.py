"""Plots: what happens, and why.

Each plot is a chain of causes: a wish leads to a request, a refusal to a search
elsewhere, a find to a return, a kindness to gratitude. A plot acts on the world and
returns whoever helped the hero, so that a later episode can pay the debt.
"""

from folio.data.tales.plots.brief import BRIEF_PLOTS
from folio.data.tales.plots.giving import contest, errand, harvest, picnic, surprise
from folio.data.tales.plots.losing import found, lost, repay, seek, thief
from folio.data.tales.plots.wanting import borrow, earn, trade

PLOTS = {
    plot.__name__: plot
    for plot in (
        borrow,
        contest,
        earn,
        errand,
        found,
        harvest,
        lost,
        picnic,
        seek,
        surprise,
        thief,
        trade,
    )
}
# Borrowing and losing have the most ways to go on: they are drawn more often.
WEIGHTED_PLOTS = (*PLOTS, "borrow", "borrow", "lost", "lost", "trade")

__all__ = ["BRIEF_PLOTS", "PLOTS", "WEIGHTED_PLOTS", "repay"]
