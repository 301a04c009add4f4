"""Exercise: the smallest set of tokens that reaches a probability."""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import same

FOUR = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()


def stays(keep, p: float, logits: torch.Tensor = FOUR) -> torch.Tensor:
    return keep(logits.clone(), p).isfinite().int()


def flags(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32)


def the_token_that_crosses_p_stays(keep):
    broken = "p = 0.7 of 0.5, 0.3, 0.15, 0.05: 0.5 is too little, so 0.3 stays"
    same(stays(keep, 0.7), flags([1, 1, 0, 0]), broken)


def what_is_reached_exactly_is_enough(keep):
    equal_ = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    broken = "p = 0.5 of four times 0.25: two are exactly enough"
    same(stays(keep, 0.5, equal_), flags([1, 1, 0, 0]), broken)


def the_likeliest_always_stays(keep):
    same(stays(keep, 0.01), flags([1, 0, 0, 0]), "however small p, one token stays")


def tokens_stay_in_their_places(keep):
    mixed = FOUR[:, [3, 0, 2, 1]]
    broken = "the survivors are the likeliest, wherever they stand"
    same(stays(keep, 0.7, mixed), flags([0, 1, 0, 1]), broken)


def rows_are_cut_by_themselves(keep):
    rows = torch.cat([FOUR, FOUR.flip(1)])
    same(stays(keep, 0.7, rows), flags([1, 1, 0, 0], [0, 0, 1, 1]), "rows differ")


def scores_that_stay_are_unchanged(keep):
    got = keep(FOUR.clone(), 0.7)[:, :2]
    same(got, FOUR[:, :2], "survivors keep their scores")


def p_of_1_keeps_all(keep):
    same(stays(keep, 1.0), flags([1, 1, 1, 1]), "p = 1 keeps all")


EXERCISE = Exercise(
    title="Top-p",
    chapter=16,
    place=3,
    week=4,
    symbol="folio.infer.sampling:keep_top_p",
    task="""
    Keep the smallest set of likeliest tokens whose probabilities sum to p or more; the
    others become -inf. The token that crosses p stays.
    """,
    hints=(
        "Sort the scores, highest first, and look at the sums of their probabilities.",
        "A token is out if the likelier ones *before* it already reach p.",
        "before = probability.cumsum(-1) - probability; then scatter before >= p back "
        "by the order of the sort.",
    ),
    checks=(
        the_token_that_crosses_p_stays,
        what_is_reached_exactly_is_enough,
        the_likeliest_always_stays,
        tokens_stay_in_their_places,
        rows_are_cut_by_themselves,
        scores_that_stay_are_unchanged,
        p_of_1_keeps_all,
    ),
    wrong=(
        Wrong(
            "the token that crosses p is out",
            "probability.cumsum(-1) - probability",
            "probability.cumsum(-1)",
            "so 0.3 stays",
        ),
        Wrong(
            "never put back in order",
            "(before >= p).scatter(-1, order, before >= p)",
            "before >= p",
            "wherever they stand",
        ),
        Wrong(
            "the order of the sort the wrong way",
            ".scatter(-1, order, before >= p)",
            ".gather(-1, order)",
            "wherever they stand",
        ),
        Wrong(
            "the unlikeliest first", "descending=True", "descending=False", "0.7 of 0.5"
        ),
    ),
)
