"""Exercise: only the k likeliest tokens."""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import normal, same

OUT = float("-inf")


def the_k_highest_stay_as_they_are(keep):
    got = keep(torch.tensor([[1.0, 3.0, 2.0]]), 2)
    same(got, torch.tensor([[OUT, 3.0, 2.0]]), "of 1, 3, 2 the two highest stay")


def each_row_has_its_own_edge(keep):
    got = keep(torch.tensor([[1.0, 2.0], [20.0, 10.0]]), 1)
    same(got, torch.tensor([[OUT, 2.0], [20.0, OUT]]), "one of each row stays")


def equals_at_the_edge_stay(keep):
    got = keep(torch.tensor([[1.0, 2.0, 2.0, 3.0]]), 2)
    same(got, torch.tensor([[OUT, 2.0, 2.0, 3.0]]), "ties at the edge stay")


def k_may_exceed_the_vocabulary(keep):
    logits = normal(2, 3)
    same(keep(logits, 10), logits, "with k = 10 of 3 tokens, all stay")


def what_came_in_is_left_alone(keep):
    logits = normal(2, 3)
    before = logits.clone()
    keep(logits, 1)
    same(logits, before, "the logits that came in must not change")


EXERCISE = Exercise(
    title="Top-k",
    chapter=16,
    place=2,
    week=4,
    symbol="folio.infer.sampling:keep_top_k",
    task="""
    Of each row of scores (B, V), the k highest survive; the others become -inf, so that
    no chance remains for them. Ties at the edge survive too.
    """,
    hints=(
        "What is the lowest score that survives? One number per row.",
        "logits.topk(k, dim=-1).values is sorted, highest first.",
        "logits.masked_fill(logits < edge, float('-inf')), with edge (B, 1).",
    ),
    checks=(
        the_k_highest_stay_as_they_are,
        each_row_has_its_own_edge,
        equals_at_the_edge_stay,
        k_may_exceed_the_vocabulary,
        what_came_in_is_left_alone,
    ),
    wrong=(
        Wrong(
            "a score of 0 instead of -inf",
            'float("-inf")',
            "0.0",
            "the two highest stay",
        ),
        Wrong(
            "one edge for all rows",
            "values[..., -1:]",
            "values[..., -1:].max()",
            "of each row",
        ),
        Wrong(
            "the edge itself is out",
            "logits < edge",
            "logits <= edge",
            "the two highest",
        ),
        Wrong("too large a k", "min(k, logits.shape[-1])", "k", "RuntimeError"),
        Wrong(
            "in place", "logits.masked_fill(", "logits.masked_fill_(", "must not change"
        ),
    ),
)
