"""Exercise: turn queries and keys by their positions."""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import normal, same


def angles(*positions: int, width: int = 8):
    """What `rotate` takes, of tokens that stand there: both (1, 1, T, width)."""
    frequencies = 1 / 10_000 ** (torch.arange(0, width, 2) / width)
    angle = torch.tensor(positions)[:, None] * frequencies
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], -1)[None, None], torch.cat([-sin, sin], -1)[None, None]


def position_0_turns_nothing(rotate):
    x = normal(1, 1, 1, 8)
    same(rotate(x, angles(0)), x, "at position 0 all angles are 0")


def a_quarter_turn(rotate):
    quarter = torch.zeros(1, 1, 1, 2), torch.tensor([[[[-1.0, 1.0]]]])
    got = rotate(torch.tensor([[[[1.0, 0.0]]]]), quarter)
    same(got, torch.tensor([[[[0.0, 1.0]]]]), "(1, 0) turned by 90 degrees is (0, 1)")


def halves_are_paired_not_neighbors(rotate):
    x = torch.tensor([[[[0.0, 1.0, 0.0, 0.0]]]])
    quarter = torch.zeros(1, 1, 1, 4), torch.tensor([[[[-1.0, -1.0, 1.0, 1.0]]]])
    wanted = torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]])
    same(rotate(x, quarter), wanted, "number 1 of 4 is paired with number 3")


def lengths_stay(rotate):
    x = normal(2, 3, 4, 8)
    got = rotate(x, angles(0, 3, 7, 99)).norm(dim=-1)
    same(got, x.norm(dim=-1), "a turned vector keeps its length")


def only_the_distance_counts(rotate):
    q, k = normal(1, 1, 1, 8), normal(1, 1, 1, 8, seed=1)

    def score(query: int, key: int) -> torch.Tensor:
        return (rotate(q, angles(query)) * rotate(k, angles(key))).sum()

    same(
        score(5, 2),
        score(105, 102),
        "the score of 5 and 2 is that of 105 and 102",
        1e-4,
    )


def what_is_wider_than_the_angles_stays(rotate):
    x = normal(1, 1, 2, 10)
    got = rotate(x, angles(3, 4))
    same(got[..., 8:], x[..., 8:], "angles are for 8 numbers: the other two stay")


def it_keeps_the_dtype(rotate):
    x = normal(1, 1, 1, 8).bfloat16()
    same(rotate(x, angles(0)), x, "queries in bf16 stay in bf16")


EXERCISE = Exercise(
    title="Rotary positions",
    chapter=19,
    week=4,
    symbol="folio.model.positions:rotate",
    task="""
    Turn each pair (x[i], x[i + width / 2]) by its angle. `angles` is cosines and sines,
    (B, 1, T, width) each; the first half of the sines is negative already, so that
    (a, b) becomes a cos + b sin and b cos + a sin.
    """,
    hints=(
        "Exchange the two halves of x: x.chunk(2, -1) gives them.",
        "x * cos + torch.cat([b, a], -1) * sin turns all pairs at once.",
        "If x is wider than cos, turn x[..., :width] and put the rest behind it; bring "
        "cos and sin to x.dtype first.",
    ),
    checks=(
        position_0_turns_nothing,
        a_quarter_turn,
        halves_are_paired_not_neighbors,
        lengths_stay,
        only_the_distance_counts,
        what_is_wider_than_the_angles_stays,
        it_keeps_the_dtype,
    ),
    wrong=(
        Wrong(
            "neighbors are paired",
            "a, b = x.chunk(2, -1)",
            "a, b = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2).chunk(2, -1)[::-1]",
            "is paired with number 3",
        ),
        Wrong(
            "halves are not exchanged",
            "torch.cat([b, a], -1)",
            "torch.cat([a, b], -1)",
            "turned by 90 degrees",
        ),
        Wrong(
            "turned the other way",
            "torch.cat([b, a], -1)",
            "-torch.cat([b, a], -1)",
            "turned by 90 degrees",
        ),
        Wrong(
            "in fp32, whatever came",
            "(part.to(x.dtype) for part in angles)",
            "angles",
            "wrong dtype",
        ),
        Wrong(
            "all of it is turned",
            "if x.shape[-1] > width:",
            "if False:",
            "RuntimeError",
        ),
    ),
)
