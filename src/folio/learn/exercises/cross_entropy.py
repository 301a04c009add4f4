"""Exercise: the loss of a language model."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import same

CHANCE = np.random.default_rng(0)
LOGITS, TARGETS = CHANCE.normal(size=(2, 3, 5)) * 3, CHANCE.integers(0, 5, (2, 3))


def loss(cross_entropy, logits, targets):
    from folio.scratch.autograd import Tensor

    return np.asarray(cross_entropy(Tensor(logits), np.array(targets)).data)


def two_equal_scores_cost_log_2(cross_entropy):
    got = loss(cross_entropy, [[0.0, 0.0]], [1])
    same(got, np.array(math.log(2)), "of two equal scores, the surprise is log 2")


def only_the_target_counts(cross_entropy):
    got = loss(cross_entropy, [[0.0, math.log(3)]], [0])
    same(got, np.array(math.log(4)), "a target of chance 1/4 costs log 4")


def it_is_the_mean(cross_entropy):
    got = loss(cross_entropy, [[0.0, 0.0]] * 3, [0, 1, 0])
    same(got, np.array(math.log(2)), "three targets cost as much as one: the mean")


def impossible_targets_stay_finite(cross_entropy):
    with np.errstate(divide="ignore"):
        got = loss(cross_entropy, [[0.0, 2000.0]], [0])
    same(got, np.array(2000.0), "a chance of exp(-2000) costs 2000")


def it_equals_torch(cross_entropy):
    wanted = F.cross_entropy(
        torch.from_numpy(LOGITS).flatten(0, 1), torch.from_numpy(TARGETS).flatten()
    )
    got = loss(cross_entropy, LOGITS, TARGETS)
    same(got, wanted.numpy(), "PyTorch's, of rows of a batch")


def its_gradient_is_chance_minus_truth(cross_entropy):
    from folio.scratch.autograd import Tensor

    logits = Tensor([[0.0, 0.0]])
    cross_entropy(logits, np.array([1])).backward()
    same(logits.grad, np.array([[0.5, -0.5]]), "the gradient is chance minus truth")


EXERCISE = Exercise(
    title="Cross-entropy",
    chapter=14,
    week=3,
    symbol="folio.scratch.autograd:cross_entropy",
    given=("Tensor", "log_softmax"),
    task="""
    The mean surprise, -log(chance), at the targets: scores (..., V) and whole numbers
    (...) give one number. Use our own autograd, so that it has a gradient.
    """,
    hints=(
        "`log_softmax` gives logarithms of chances. Which of them count?",
        "An index per dimension picks them: np.indices(targets.shape), and targets.",
        "-log_softmax(logits)[(*np.indices(targets.shape), targets)].mean()",
    ),
    checks=(
        two_equal_scores_cost_log_2,
        only_the_target_counts,
        it_is_the_mean,
        impossible_targets_stay_finite,
        it_equals_torch,
        its_gradient_is_chance_minus_truth,
    ),
    wrong=(
        Wrong("the sum", ".mean()", ".sum()", "the mean"),
        Wrong("the sign", "-log_softmax(logits)", "log_softmax(logits)", "log 2"),
        Wrong(
            "scores taken for logarithms",
            "-log_softmax(logits)[",
            "-logits[",
            "log 2",
        ),
        Wrong(
            "over all tokens",
            "-log_softmax(logits)[(*places, targets)].mean()",
            "-log_softmax(logits).mean()",
            "log 4",
        ),
        Wrong(
            "the logarithm of a rounded chance",
            "-log_softmax(logits)[",
            "-log_softmax(logits).exp().log()[",
            "costs 2000",
        ),
    ),
)
