"""Exercise: one step of AdamW."""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import normal, same


def fresh(*values: float):
    """A parameter, and its two averages."""
    parameter = torch.tensor(values)
    return parameter, torch.zeros_like(parameter), torch.zeros_like(parameter)


def the_first_step_has_the_size_of_the_rate(step):
    p, mean, square = fresh(1.0, 1.0)
    step(p, torch.tensor([5.0, -0.01]), mean, square, 1, lr=0.1, weight_decay=0.0)
    same(
        p, torch.tensor([0.9, 1.1]), "the first step is lr, however large the gradient"
    )


def averages_are_updated_in_place(step):
    p, mean, square = fresh(1.0)
    options = {"lr": 0.1, "betas": (0.9, 0.5), "weight_decay": 0.0}
    step(p, torch.tensor([2.0]), mean, square, 1, **options)
    same(mean, torch.tensor([0.2]), "`mean` keeps 0.9 of itself and takes 0.1 of 2")
    same(square, torch.tensor([2.0]), "`square` keeps half and takes half of 2 squared")


def decay_shrinks_the_weight_itself(step):
    p, mean, square = fresh(4.0)
    step(p, torch.tensor([0.0]), mean, square, 1, lr=0.1, weight_decay=0.5)
    same(
        p, torch.tensor([3.8]), "without a gradient, 4 shrinks by lr * decay of itself"
    )


def many_steps_equal_torch(step):
    mine, theirs = normal(5), torch.nn.Parameter(normal(5))
    mean, square = torch.zeros(5), torch.zeros(5)
    options = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.3}
    optimizer = torch.optim.AdamW([theirs], **options)
    for i in range(1, 6):
        gradient = normal(5, seed=i)
        step(mine, gradient.clone(), mean, square, i, **options)
        theirs.grad = gradient
        optimizer.step()
        same(mine, theirs.data, f"torch.optim.AdamW after {i} steps")


EXERCISE = Exercise(
    title="A step of AdamW",
    chapter=15,
    week=3,
    symbol="folio.optim.adamw:adamw_step",
    task="""
    Update `parameter`, `mean` and `square` in place: running averages of the gradient
    and of its square, corrected for having begun at zero; then a step of about lr in
    every number. The weight's decay is apart from all that.
    """,
    hints=(
        "In place: mul_, add_, lerp_, sub_. `mean = ...` would make a new tensor.",
        "An average that began at zero is too small by 1 - beta**step: divide.",
        "parameter -= lr * mean_hat / (sqrt(square_hat) + eps); before that, "
        "parameter *= 1 - lr * weight_decay.",
    ),
    checks=(
        the_first_step_has_the_size_of_the_rate,
        averages_are_updated_in_place,
        decay_shrinks_the_weight_itself,
        many_steps_equal_torch,
    ),
    wrong=(
        Wrong(
            "no correction of the start",
            "mean_hat = mean / (1 - betas[0] ** step)",
            "mean_hat = mean",
            "the first step is lr",
        ),
        Wrong(
            "decay through the gradient, as in Adam",
            "parameter.mul_(1 - lr * weight_decay)",
            "gradient = gradient + weight_decay * parameter",
            "shrinks by lr * decay",
        ),
        Wrong(
            "the square of the average",
            "square.lerp_(gradient.square(), 1 - betas[1])",
            "square.copy_(mean.square())",
            "the first step is lr",
        ),
        Wrong(
            "averages that are not kept",
            "mean.lerp_(gradient, 1 - betas[0])",
            "mean = mean.lerp(gradient, 1 - betas[0])",
            "`mean` keeps",
        ),
        Wrong(
            "eps under the root",
            "square_hat.sqrt() + eps",
            "(square_hat + eps).sqrt()",
            "AdamW after",
        ),
    ),
)
