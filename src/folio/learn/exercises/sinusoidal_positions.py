"""Exercise: positions as sines and cosines."""

import math

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import same


def paper(positions, width):
    """The formula, a number at a time: sine in even columns, cosine in odd ones."""
    rows = []
    for p in positions:
        row = []
        for column in range(width):
            angle = p / 10_000 ** (column // 2 * 2 / width)
            row.append(math.cos(angle) if column % 2 else math.sin(angle))
        rows.append(row)
    return torch.tensor(rows)


def position_0_is_sines_of_0_and_cosines_of_0(sinusoidal):
    got = sinusoidal(torch.tensor([0]), 4)
    same(got, torch.tensor([[0.0, 1.0, 0.0, 1.0]]), "at 0, sine is 0 and cosine is 1")


def even_columns_are_sines_and_odd_ones_cosines(sinusoidal):
    got = sinusoidal(torch.tensor([1]), 2)
    same(got, paper([1], 2), "columns alternate: sin(1), cos(1)")


def later_pairs_turn_more_slowly(sinusoidal):
    got = sinusoidal(torch.tensor([3, 50]), 8)
    same(got, paper([3, 50], 8), "pair i turns by 10000^(-2 i / width) per position")


def rows_of_a_batch_are_kept(sinusoidal):
    got = sinusoidal(torch.tensor([[0, 1], [2, 3]]), 4)
    same(got, paper(range(4), 4).view(2, 2, 4), "(B, T) positions give (B, T, width)")


EXERCISE = Exercise(
    title="Sinusoidal positions",
    chapter=6,
    week=1,
    symbol="folio.model.positions:sinusoidal",
    task="""
    Give each position a vector of sines and cosines. Pair i turns by 10000^(-2i/width)
    per position; even columns are sines, odd ones cosines.
    """,
    hints=(
        "First the angles, (T, width / 2): position times frequency of each pair.",
        "torch.arange(0, width, 2) is 2i for each pair i.",
        "torch.stack([angle.sin(), angle.cos()], -1).flatten(-2) alternates.",
    ),
    checks=(
        position_0_is_sines_of_0_and_cosines_of_0,
        even_columns_are_sines_and_odd_ones_cosines,
        later_pairs_turn_more_slowly,
        rows_of_a_batch_are_kept,
    ),
    wrong=(
        Wrong(
            "first all sines, then all cosines",
            "torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)",
            "torch.cat([angle.sin(), angle.cos()], -1)",
            "at 0, sine is 0",
        ),
        Wrong(
            "cosine first",
            "[angle.sin(), angle.cos()]",
            "[angle.cos(), angle.sin()]",
            "at 0, sine is 0",
        ),
        Wrong(
            "later pairs turn faster",
            "(-pair / width)",
            "(pair / width)",
            "per position",
        ),
        Wrong("half the exponent", "(-pair / width)", "(-pair / 2 / width)", "pair i"),
    ),
)
