"""Figures of the first chapter."""

from folio.viz.svg import bar_chart


def chances(values: list[float]) -> str:
    """A bar for each of the values."""
    names = [f"score {index}" for index in range(1, len(values) + 1)]
    return bar_chart(names, values, color="train")
