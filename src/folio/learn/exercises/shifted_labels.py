"""Exercise: inputs, and what comes next at each place."""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import equal, same

ROWS = torch.tensor([[7, 8, 9, 10], [1, 2, 3, 4]])


def inputs_are_all_but_the_last(batch):
    same(batch(ROWS).inputs, ROWS[:, :3], "inputs leave out the last token")


def targets_are_the_next_tokens(batch):
    same(batch(ROWS).targets, ROWS[:, 1:], "the target at each place is the next token")


def every_target_has_weight_1(batch):
    same(batch(ROWS).weights, torch.ones(2, 3), "each target counts, with weight 1")


def the_denominator_counts_targets(batch):
    equal(batch(ROWS).denominator, 6.0, "the summed loss is divided by 2 x 3 targets")


EXERCISE = Exercise(
    title="Batches and shifted labels",
    chapter=13,
    week=3,
    symbol="folio.data.text:next_token_batch",
    task="""
    Rows of T + 1 tokens become a `Batch` of T inputs and T targets: at each place, the
    target is the token that comes next. Weights are 1.0 everywhere, and the
    denominator, by which the summed loss is divided, is the number of targets.
    """,
    hints=(
        "Of 7 8 9, inputs are 7 8 and targets are 8 9.",
        "All but the last, rows[:, :-1]; all but the first, rows[:, 1:].",
        "Batch(weights.numel(), inputs=..., targets=..., weights=...)",
    ),
    checks=(
        inputs_are_all_but_the_last,
        targets_are_the_next_tokens,
        every_target_has_weight_1,
        the_denominator_counts_targets,
    ),
    wrong=(
        Wrong(
            "targets are the inputs", "rows[:, 1:]", "rows[:, :-1]", "the next token"
        ),
        Wrong(
            "shifted the wrong way",
            "rows[:, :-1].contiguous()",
            "rows[:, 1:].contiguous()",
            "leave out the last",
        ),
        Wrong(
            "the batch is what is divided by",
            "Batch(weights.numel(),",
            "Batch(len(rows),",
            "2 x 3 targets",
        ),
        Wrong(
            "rows are shifted, not tokens",
            "rows[:, 1:]",
            "rows.roll(1, 0)[:, 1:]",
            "next",
        ),
    ),
)
