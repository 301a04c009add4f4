"""Exercise: the loss over a whole text."""

import math

import torch
from torch import nn

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import equal, expect


class Constant(nn.Module):
    """Says that each target has the chance 1 / (1 + target)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, tokens, targets):
        from folio.model.decoder import Output

        self.seen_mode = self.training
        return Output(logprobs=-(1.0 + targets).log() + self.weight)


def batch(targets, weights):
    from folio.data.batch import Batch

    rows, weights = torch.tensor([targets]), torch.tensor([weights])
    return Batch(weights.sum(), inputs=rows, targets=rows, weights=weights)


def near(got, wanted, broken):
    equal(type(got), float, "the result is a plain number")
    expect(abs(got - wanted) < 1e-5, f"{broken}: {got:.4g}, expected {wanted:.4g}")


def one_batch_is_its_mean_surprise(mean_loss):
    got = mean_loss(Constant(), [batch([1, 3], [1.0, 1.0])])
    near(got, (math.log(2) + math.log(4)) / 2, "chances of 1/2 and 1/4")


def batches_count_by_their_tokens(mean_loss):
    got = mean_loss(Constant(), [batch([1, 1, 1], [1.0] * 3), batch([3], [1.0])])
    wanted = (3 * math.log(2) + math.log(4)) / 4
    near(got, wanted, "four targets in two batches: a mean over targets, not of means")


def padding_does_not_count(mean_loss):
    got = mean_loss(Constant(), [batch([1, 99], [1.0, 0.0])])
    near(got, math.log(2), "a target of weight 0 is padding")


def the_model_is_left_as_it_was(mean_loss):
    model = Constant().train()
    mean_loss(model, [batch([1], [1.0])])
    expect(not model.seen_mode, "measure in model.eval(): dropout must be off")
    expect(model.training, "the model was training; put it back with model.train()")


EXERCISE = Exercise(
    title="Loss and perplexity of a text",
    chapter=14,
    place=2,
    week=3,
    symbol="folio.evals.perplexity:mean_loss",
    task="""
    The mean loss of a model over all batches of a text, in nats per target; its
    exponential is the perplexity. `model(inputs, targets=targets).logprobs` is (B, T).
    Targets of weight 0 are padding. A batch has inputs, targets, weights, and its
    `denominator`, the sum of its weights. (`autocast` may be left aside.)
    """,
    hints=(
        "Batches may differ in size: which two sums do you need?",
        "total += -(logprobs * weights).sum(), count += denominator; divide once.",
        "Remember model.training, call model.eval(), and put it back at the end.",
    ),
    checks=(
        one_batch_is_its_mean_surprise,
        batches_count_by_their_tokens,
        padding_does_not_count,
        the_model_is_left_as_it_was,
    ),
    wrong=(
        Wrong(
            "a mean of means",
            "total -= (logprobs.cpu().double() * batch.weights).sum().item()\n"
            "            count += batch.denominator",
            "total -= (logprobs.cpu().double() * batch.weights).sum().item() "
            "/ batch.denominator\n            count += 1",
            "not of means",
        ),
        Wrong("padding counts", " * batch.weights).sum()", ").sum()", "padding"),
        Wrong("dropout stays on", "    model.eval()\n", "", "model.eval()"),
        Wrong(
            "never back to training", "model.train(was_training)", "pass", "put it back"
        ),
        Wrong("the sum", "return total / count", "return total", "1/2 and 1/4"),
    ),
)
