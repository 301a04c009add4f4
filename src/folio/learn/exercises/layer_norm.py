"""Exercise: LayerNorm."""

import torch
import torch.nn.functional as F

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import normal, same


def mean_0_and_deviation_1(layer_norm):
    got = layer_norm(torch.tensor([1.0, 3.0]), torch.ones(2), eps=0.0)
    same(got, torch.tensor([-1.0, 1.0]), "(1, 3) has the mean 2 and the deviation 1")


def each_vector_by_itself(layer_norm):
    x = torch.tensor([[1.0, 3.0], [10.0, 50.0]])
    got = layer_norm(x, torch.ones(2), eps=0.0)
    same(got, torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]), "each row is normed by itself")


def gain_and_bias_come_last(layer_norm):
    gain, bias = torch.tensor([2.0, 3.0]), torch.tensor([10.0, 20.0])
    got = layer_norm(torch.tensor([1.0, 3.0]), gain, bias, eps=0.0)
    same(got, torch.tensor([8.0, 23.0]), "(-1, 1) times the gain, plus the bias")


def eps_keeps_constants_finite(layer_norm):
    got = layer_norm(torch.full((3,), 5.0), torch.ones(3))
    same(got, torch.zeros(3), "a vector of equal numbers has the deviation 0")


def it_equals_torch(layer_norm):
    x, gain, bias = normal(4, 5, 8), normal(8, seed=1), normal(8, seed=2)
    wanted = F.layer_norm(x, (8,), gain, bias, 1e-2)
    same(layer_norm(x, gain, bias, 1e-2), wanted, "PyTorch's, with eps = 0.01")


EXERCISE = Exercise(
    title="LayerNorm",
    chapter=11,
    week=2,
    symbol="folio.model.norm:layer_norm",
    task="""
    Bring each vector (the last dimension) to mean 0 and deviation 1; then scale it by
    `gain`, and add `bias` if there is one.
    """,
    hints=(
        "mean(-1, keepdim=True) keeps a dimension, so that it can be subtracted.",
        "The variance is the mean of squares of x - mean, over n, not n - 1.",
        "eps is added to the variance, under the root.",
    ),
    checks=(
        mean_0_and_deviation_1,
        each_vector_by_itself,
        gain_and_bias_come_last,
        eps_keeps_constants_finite,
        it_equals_torch,
    ),
    wrong=(
        Wrong(
            "divided by n - 1",
            "(x - mean).square().mean(-1, keepdim=True)",
            "x.var(-1, keepdim=True)",
            "the deviation 1",
        ),
        Wrong(
            "over the whole batch",
            "x.mean(-1, keepdim=True)",
            "x.mean()",
            "by itself",
        ),
        Wrong(
            "eps outside of the root",
            "(x - mean) * torch.rsqrt(variance + eps) * gain",
            "(x - mean) / (variance.sqrt() + eps) * gain",
            "PyTorch's",
        ),
        Wrong("no mean", "(x - mean) * torch", "x * torch", "the mean 2"),
        Wrong("no eps", "variance + eps", "variance", "NaN"),
    ),
)
