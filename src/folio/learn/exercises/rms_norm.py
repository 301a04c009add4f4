"""Exercise: RMSNorm."""

import torch
import torch.nn.functional as F

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import normal, same


def the_root_mean_square_becomes_1(rms_norm):
    got = rms_norm(torch.tensor([1.0, 7.0]), torch.ones(2), eps=0.0)
    same(got, torch.tensor([0.2, 1.4]), "the root mean square of (1, 7) is 5")


def the_mean_stays(rms_norm):
    got = rms_norm(torch.tensor([3.0, 3.0]), torch.ones(2), eps=0.0)
    same(got, torch.ones(2), "no mean is subtracted: (3, 3) becomes (1, 1)")


def each_vector_by_itself(rms_norm):
    got = rms_norm(torch.tensor([[1.0, 1.0], [8.0, 8.0]]), torch.ones(2), eps=0.0)
    same(got, torch.ones(2, 2), "each row is normed by itself")


def the_gain_scales_each_number(rms_norm):
    got = rms_norm(torch.tensor([1.0, 7.0]), torch.tensor([10.0, 100.0]), eps=0.0)
    same(got, torch.tensor([2.0, 140.0]), "times the gain")


def nothing_stays_nothing(rms_norm):
    same(rms_norm(torch.zeros(3), torch.ones(3)), torch.zeros(3), "zeros stay zeros")


def it_equals_torch(rms_norm):
    x, gain = normal(4, 5, 8), normal(8, seed=1)
    wanted = F.rms_norm(x, (8,), gain, 0.1)
    same(rms_norm(x, gain, 0.1), wanted, "PyTorch's, with eps = 0.1")


EXERCISE = Exercise(
    title="RMSNorm",
    chapter=18,
    week=4,
    symbol="folio.model.norm:rms_norm",
    task="""
    Divide each vector (the last dimension) by its root mean square, and scale it by
    `gain`. No mean is subtracted, no bias added.
    """,
    hints=(
        "Root mean square, read backwards: square, mean, root.",
        "x.square().mean(-1, keepdim=True) is one number per vector.",
        "eps is added to the mean square, under the root; torch.rsqrt is 1 / sqrt.",
    ),
    checks=(
        the_root_mean_square_becomes_1,
        the_mean_stays,
        each_vector_by_itself,
        the_gain_scales_each_number,
        nothing_stays_nothing,
        it_equals_torch,
    ),
    wrong=(
        Wrong(
            "the length of the vector",
            ".mean(-1, keepdim=True)",
            ".sum(-1, keepdim=True)",
            "of (1, 7) is 5",
        ),
        Wrong(
            "the deviation",
            "x.square().mean(-1, keepdim=True)",
            "x.var(-1, keepdim=True, unbiased=False)",
            "of (1, 7) is 5",
        ),
        Wrong("over the batch", ".mean(-1, keepdim=True)", ".mean()", "by itself"),
        Wrong("not the root", "torch.rsqrt(x.square()", "1 / (x.square()", "is 5"),
        Wrong(
            "no eps", ".mean(-1, keepdim=True) + eps", ".mean(-1, keepdim=True)", "NaN"
        ),
    ),
)
