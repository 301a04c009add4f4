"""Exercise: one step of AdamW."""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import same


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


def paper(p, mean, square, g, step, lr, betas, eps, decay):
    """Algorithm 2 of Loshchilov & Hutter (2019) for one number: p, mean, square."""
    mean = betas[0] * mean + (1 - betas[0]) * g
    square = betas[1] * square + (1 - betas[1]) * g * g
    means = mean / (1 - betas[0] ** step), square / (1 - betas[1] ** step)
    return p - lr * (means[0] / (means[1] ** 0.5 + eps) + decay * p), mean, square


def many_steps_follow_the_paper(step):
    p, mean, square = fresh(1.5)
    number = 1.5, 0.0, 0.0
    rates = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 0.01}
    for i, gradient in enumerate((0.3, -0.1, 0.02, 1.0), 1):
        step(p, torch.tensor([gradient]), mean, square, i, weight_decay=0.3, **rates)
        number = paper(*number, gradient, i, *rates.values(), 0.3)
        same(p, torch.tensor([number[0]]), f"the paper's algorithm after {i} steps")


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
        many_steps_follow_the_paper,
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
            "the paper's algorithm after",
        ),
    ),
)
