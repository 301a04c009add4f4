"""One update: sums divided once, clipped, scheduled, decayed where it should be."""

import math

import pytest
import torch

from folio.config import UserError
from folio.data.batch import Batch
from folio.infer.engine import Engine
from folio.infer.sampling import GREEDY
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.schedule import constant, make_schedule
from folio.training.learner import Learner
from helpers import (
    VOCABULARY,
    assert_same,
    everything,
    losses,
    tiny_learner,
    tiny_model,
    tiny_stream,
)


def test_it_learns():
    learner = tiny_learner()
    stream = tiny_stream(batch=8)
    metrics = losses(learner, stream, 60)
    assert metrics[-1]["loss"] < metrics[0]["loss"] - 0.3


def test_the_metrics_are_means_over_the_whole_step():
    learner = tiny_learner()
    stream = tiny_stream()
    batches = [next(stream) for _ in range(3)]
    with torch.no_grad():
        sums = [next_token(learner.model, batch)[0] for batch in batches]
    expected = float(sum(sums)) / sum(batch.denominator for batch in batches)

    def objective(model, batch):
        return next_token(model, batch)[0], {"two": 2 * batch.weights.sum()}

    metrics = learner.update(batches, objective)
    assert metrics["loss"] == pytest.approx(expected, rel=1e-6)
    assert metrics["two"] == pytest.approx(2.0)
    assert set(metrics) == {"loss", "two", "grad_norm", "lr"}
    assert learner.step == 1
    assert learner.denominator == 3 * 2 * 16


def test_the_gradient_is_clipped_to_its_norm_and_the_whole_norm_is_logged():
    before, seen = {}, {}
    for max_norm in (None, 0.01):
        learner = tiny_learner(max_norm=max_norm)

        def note(optimizer, *rest, key=max_norm):
            gradients = [p.grad for g in optimizer.param_groups for p in g["params"]]
            seen[key] = float(torch.nn.utils.get_total_norm(gradients))

        learner.optimizer.register_step_pre_hook(note)
        before[max_norm] = losses(learner, tiny_stream(), 1)[0]["grad_norm"]
    assert before[None] == before[0.01] == pytest.approx(seen[None])
    assert seen[0.01] == pytest.approx(0.01, rel=1e-3)


def test_a_gradient_below_the_limit_is_left_alone():
    one, other = tiny_learner(max_norm=None), tiny_learner(max_norm=1e6)
    for learner in (one, other):
        losses(learner, tiny_stream(), 3)
    assert_same(everything(one), everything(other))


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "wsd"])
def test_the_first_update_is_not_at_the_peak_and_the_end_stays_low(name):
    model = tiny_model()
    steps, peak = 10, 1e-2
    learner = Learner(model, adamw(model, peak), make_schedule(name, 4, steps, 0.1))
    used = []
    learner.optimizer.register_step_pre_hook(
        lambda optimizer, *rest: used.append([g["lr"] for g in optimizer.param_groups])
    )
    logged = [m["lr"] for m in losses(learner, tiny_stream(), steps + 8)]
    assert used == [[rate, rate] for rate in logged]
    assert logged[:4] == pytest.approx([peak * k / 4 for k in (1, 2, 3, 4)])
    assert logged[4:] == sorted(logged[4:], reverse=True)
    assert max(logged) <= peak
    if name != "constant":
        assert logged[steps:] == pytest.approx([peak * 0.1] * 8)


def test_only_matrices_decay():
    """With gradients of zero, what shrinks is what decays."""
    model = tiny_model(bias=True, norm="layernorm", mlp="gelu", positions="learned")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    learner = Learner(model, adamw(model, 0.1, weight_decay=0.5), constant())

    def nothing(model, batch):
        return next_token(model, batch)[0] * 0.0, {}

    losses_before = {n: p.clone() for n, p in model.named_parameters()}
    learner.update([next(tiny_stream())], nothing)
    shrunk = {
        name
        for name, parameter in model.named_parameters()
        if not torch.equal(parameter, losses_before[name])
    }
    assert shrunk == {n for n, p in model.named_parameters() if p.dim() == 2}
    kept = set(losses_before) - shrunk
    assert {"norm.gain", "norm.bias", "blocks.0.attention.query.bias"} <= kept
    for name in shrunk:
        weight = dict(model.named_parameters())[name]
        assert torch.allclose(weight, torch.full_like(weight, 1 - 0.1 * 0.5))


def test_gradients_are_gone_after_the_update():
    learner = tiny_learner()
    losses(learner, tiny_stream(), 1)
    assert all(parameter.grad is None for parameter in learner.model.parameters())


def test_a_batch_without_weight_is_refused():
    """Dividing by zero would poison the weights."""
    inputs = torch.zeros(1, 4, dtype=torch.long)
    batch = Batch(0.0, inputs=inputs, targets=inputs, weights=torch.zeros(1, 4))
    learner = tiny_learner()
    with pytest.raises(UserError, match="every token is masked"):
        learner.update([batch, batch], next_token)
    whole = next(tiny_stream())
    learner.update([batch, whole], next_token)  # one empty micro-batch is harmless


def test_a_masked_micro_batch_changes_nothing():
    one, other = tiny_learner(), tiny_learner()
    batch = next(tiny_stream())
    empty = Batch(0.0, **{**batch, "weights": torch.zeros_like(batch.weights)})
    a = one.update([batch, empty], next_token)
    b = other.update([batch], next_token)
    assert a == b
    assert_same(everything(one), everything(other))


def test_a_wrong_precision_is_refused():
    with pytest.raises(UserError, match="precision = 'fp8': choose fp32, bf16, fp16"):
        tiny_learner(precision="fp8")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_computes_in_half_and_keeps_weights_whole(precision):
    learner = tiny_learner(precision=precision)
    seen = set()
    learner.model.blocks[0].mlp.register_forward_hook(
        lambda module, inputs, output: seen.add(output.dtype)
    )
    half = losses(learner, tiny_stream(batch=8), 40)
    assert seen == {{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert {p.dtype for p in learner.model.parameters()} == {torch.float32}
    assert half[0]["loss"] == pytest.approx(math.log(VOCABULARY), rel=0.1)
    full = losses(tiny_learner(), tiny_stream(batch=8), 40)
    assert half[-1]["loss"] == pytest.approx(full[-1]["loss"], rel=0.1)


def test_an_engine_that_remembers_prompts_sees_every_update():
    """torch's fused AdamW writes into weights without counting it as a change."""
    learner = tiny_learner(model=tiny_model(), lr=0.1)
    prompt = list(range(9))  # whole pages of it are remembered

    def logprobs(engine: Engine) -> list[float]:
        [found] = engine.generate([prompt], max_new_tokens=6, sampling=GREEDY)
        return found.logprobs

    engine = Engine(learner.model, page_size=4)
    first = logprobs(engine)
    for _ in range(2):
        learner.update([next(tiny_stream())], next_token)
    assert logprobs(engine) == logprobs(Engine(learner.model)) != first
