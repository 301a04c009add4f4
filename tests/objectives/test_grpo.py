"""GRPO's loss against a longhand: aggregation, clip-higher, KL in the loss."""

import math

import pytest
import torch

from folio.config import UserError
from folio.data.batch import Batch
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.grpo import AGGREGATIONS, GRPO, response_weights
from folio.training.learner import Learner
from tabular import Table, check_gradient

MASK = [[0, 1, 1, 1, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]


def make_batch(model, aggregation="token", spread=0.6) -> Batch:
    make = torch.Generator().manual_seed(4)
    targets = torch.randint(6, (4, 5), generator=make)
    with torch.no_grad():
        said = model(None, targets).logprobs
    weights, denominator = response_weights(torch.tensor(MASK), aggregation, longest=8)

    def noise(*shape):
        return torch.randn(*shape, generator=make, dtype=torch.float64)

    return Batch(
        denominator,
        inputs=torch.zeros(4, 5, dtype=torch.long),
        targets=targets,
        weights=weights.double(),
        old_logprobs=said + spread * noise(4, 5),
        reference_logprobs=said + noise(4, 5),
        advantages=noise(4, 5),
    )


def longhand(options: GRPO, model: Table, batch: Batch, aggregation: str) -> float:
    """The loss as each paper writes it: a mean."""
    with torch.no_grad():
        new = model(None, batch.targets).logprobs.tolist()
    rows = []
    for row in range(4):
        tokens = []
        for t in range(5):
            if not MASK[row][t]:
                continue
            ratio = math.exp(new[row][t] - batch.old_logprobs[row, t].item())
            near = min(max(ratio, 1 - options.clip_low), 1 + options.clip_high)
            advantage = batch.advantages[row, t].item()
            d = batch.reference_logprobs[row, t].item() - new[row][t]
            kl = math.exp(d) - 1 - d if options.kl == "k3" else d * d / 2
            tokens.append(-min(ratio * advantage, near * advantage) + options.beta * kl)
        rows.append(tokens)
    if aggregation == "token":
        return sum(map(sum, rows)) / sum(map(len, rows))
    if aggregation == "sequence":
        return sum(sum(row) / len(row) for row in rows) / len(rows)
    return sum(map(sum, rows)) / (len(rows) * 8)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("options", [GRPO(), GRPO(beta=0.3, kl="k2"), GRPO(beta=0.0)])
def test_loss_and_gradient_are_the_longhand(options, aggregation):
    model = Table()
    batch = make_batch(model, aggregation)
    loss, metrics = options(model, batch)
    wanted = longhand(options, model, batch, aggregation)
    # weights of 1/3 are made in fp32
    assert loss.item() / batch.denominator == pytest.approx(wanted, rel=1e-6)
    assert metrics["clipped_low"].item() > 0
    assert metrics["clipped_high"].item() > 0
    check_gradient(options, model, batch, ["logits"])


@pytest.mark.parametrize(
    ("aggregation", "short", "long"),
    [("token", 1 / 6, 5 / 6), ("sequence", 0.5, 0.5), ("constant", 0.1, 0.5)],
)
def test_what_a_short_and_a_long_response_weigh(aggregation, short, long):
    mask = torch.arange(12) < torch.tensor([[2], [10]])
    weights, denominator = response_weights(mask, aggregation, longest=10)
    found = weights.sum(1) / denominator
    assert found.tolist() == pytest.approx([short, long])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_row_left_out_counts_nowhere(aggregation):
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    more = torch.cat([mask, torch.zeros(2, 3, dtype=torch.long)])
    weights, denominator = response_weights(more, aggregation, longest=3)
    wanted = response_weights(mask, aggregation, longest=3)
    assert torch.equal(weights[:2], wanted[0])
    assert weights[2:].sum() == 0
    assert denominator == wanted[1]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_micro_batches_are_one_batch(aggregation):
    source = make_batch(Table(), spread=0.1)

    def after(cuts):
        torch.manual_seed(0)
        model = Decoder(ModelConfig(vocab_size=6, d_model=16, n_heads=2, max_seq_len=8))
        learner = Learner(model, torch.optim.SGD(model.parameters(), lr=0.1))
        parts = []
        for start, stop in cuts:
            mask = torch.tensor(MASK)[start:stop]
            weights, denominator = response_weights(mask, aggregation, longest=8)
            part = {
                name: x[start:stop].float() if x.is_floating_point() else x[start:stop]
                for name, x in source.items()
            }
            parts.append(Batch(denominator, **part | {"weights": weights}))
        return learner.update(parts, GRPO()), model.embedding.weight.detach()

    whole, weights = after([(0, 4)])
    parts, same = after([(0, 1), (1, 2), (2, 4)])
    torch.testing.assert_close(weights, same, atol=1e-6, rtol=1e-5)
    assert whole == pytest.approx(parts, rel=1e-4)
    means = [after([(i, i + 1)])[0]["policy_loss"] for i in range(4)]
    if aggregation == "token":  # a mean of means is another number
        assert sum(means) / 4 != pytest.approx(whole["policy_loss"], rel=1e-2)


def test_the_upper_clip_is_its_own():
    model = Table()
    batch = make_batch(model)
    with torch.no_grad():
        said = model(None, batch.targets).logprobs
    old = said - math.log(1.25)
    batch = Batch(
        13, **dict(batch) | {"old_logprobs": old, "advantages": torch.ones(4, 5)}
    )
    _, inside = GRPO(beta=0)(model, batch)
    _, outside = GRPO(beta=0, clip_high=0.2)(model, batch)
    assert (inside["clipped_high"].item(), outside["clipped_high"].item()) == (0, 13)
    assert inside["policy_loss"].item() == pytest.approx(-1.25 * 13)
    assert outside["policy_loss"].item() == pytest.approx(-1.2 * 13)


def test_the_penalty_knows_the_reference():
    """The gradient of k1 as a loss would be the same for every reference."""
    model = Table()
    batch = make_batch(model)
    for options in (GRPO(beta=1.0), GRPO(beta=1.0, kl="k2")):
        gradients = []
        for shift in (0.0, -2.0):
            moved = {"reference_logprobs": batch.reference_logprobs + shift}
            model.zero_grad()
            options(model, Batch(13, **dict(batch) | moved))[0].backward()
            gradients.append(model.logits.grad.clone())
        assert (gradients[0] - gradients[1]).abs().max() > 0.1


def test_without_advantage_and_at_the_reference_nothing_moves():
    model = Table()
    batch = make_batch(model, spread=0.0)
    still = {
        "advantages": torch.zeros(4, 5),
        "reference_logprobs": batch.old_logprobs,
    }
    loss, metrics = GRPO()(model, Batch(13, **dict(batch) | still))
    loss.backward()
    assert model.logits.grad.abs().max() == 0
    assert metrics["kl"].item() == 0
    assert metrics["ratio"].item() == 13


def test_padding_is_never_read():
    model = Table()
    batch = make_batch(model)
    loss, _ = GRPO()(model, batch)
    loss.backward()
    wanted, clean = model.logits.grad.clone(), loss.item()
    pads = batch.weights == 0
    spoiled = {
        name: batch[name].masked_fill(pads, math.nan)
        for name in ("old_logprobs", "reference_logprobs", "advantages")
    }
    model.zero_grad()
    loss, _ = GRPO()(model, Batch(13, **dict(batch) | spoiled))
    loss.backward()
    assert loss.item() == clean
    assert torch.equal(model.logits.grad, wanted)


def test_without_a_price_no_reference_is_needed_and_the_model_is_called_once():
    model = Table()
    batch = make_batch(model)
    del batch["reference_logprobs"]
    model.calls.clear()
    _, metrics = GRPO(beta=0.0)(model, batch)
    assert "kl" not in metrics
    assert len(model.calls) == 1
    with pytest.raises(AttributeError, match="reference_logprobs"):
        GRPO()(model, batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl": "k1"}, "kl = 'k1': its gradient"),
        ({"kl": "k4"}, "kl = 'k4'"),
        ({"clip_low": 1.0}, "clip_low = 1.0"),
        ({"clip_high": 0.0}, "clip_high = 0.0"),
        ({"beta": -0.1}, "beta = -0.1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        GRPO(**options)


def test_an_impossible_aggregation_is_refused():
    with pytest.raises(UserError, match="aggregation = 'mean'"):
        response_weights(torch.ones(1, 2), "mean")
    with pytest.raises(UserError, match="longest = None"):
        response_weights(torch.ones(1, 2), "constant")
