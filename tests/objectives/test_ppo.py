"""PPO's loss against a longhand, at the corners of its clip, and on padding."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.ppo import PPO, policy_loss
from folio.training.learner import Learner
from tabular import Table, check_gradient

WEIGHTS = [[0, 1, 1, 1, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
ROLLOUT = ("old_logprobs", "old_values", "advantages", "returns")


def make_batch(model=None, spread=0.6, seed=1) -> Batch:
    """A rollout; its old policy is near `model`'s, `spread` away."""
    make = torch.Generator().manual_seed(seed)
    noise = {
        name: torch.randn(4, 5, generator=make, dtype=torch.float64) for name in ROLLOUT
    }
    targets = torch.randint(6, (4, 5), generator=make)
    if model is not None:
        with torch.no_grad():
            said = model(None, targets).logprobs
        noise["old_logprobs"] = said + spread * noise["old_logprobs"]
        noise["old_values"] = model.values.detach() + noise["old_values"]
    return Batch(
        13,
        inputs=torch.zeros(4, 5, dtype=torch.long),
        targets=targets,
        weights=torch.tensor(WEIGHTS, dtype=torch.float64),
        return_std=torch.full((4,), 0.5, dtype=torch.float64),
        **noise,
    )


def longhand(options: PPO, model: Table, batch: Batch) -> dict[str, float]:
    with torch.no_grad():
        new = model(None, batch.targets).logprobs.tolist()
    found = dict.fromkeys(
        ("policy", "value", "low", "high", "kl", "ratio", "value_clipped"), 0.0
    )
    for row in range(4):
        for t in range(5):
            if not WEIGHTS[row][t]:
                continue
            d = new[row][t] - batch.old_logprobs[row, t].item()
            ratio, advantage = math.exp(d), batch.advantages[row, t].item()
            near = min(max(ratio, 1 - options.clip), 1 + options.clip)
            found["policy"] -= min(ratio * advantage, near * advantage)
            found["low"] += ratio < 1 - options.clip and advantage < 0
            found["high"] += ratio > 1 + options.clip and advantage > 0
            found["kl"] += ratio - 1 - d
            found["ratio"] += ratio
            value, old = model.values[row, t].item(), batch.old_values[row, t].item()
            error = (value - batch.returns[row, t].item()) ** 2
            if options.value_clip is not None:
                room = options.value_clip * 0.5
                moved = old + min(max(value - old, -room), room)
                error = max(error, (moved - batch.returns[row, t].item()) ** 2)
                found["value_clipped"] += abs(value - old) > room
            found["value"] += error / 2
    return found


@pytest.mark.parametrize(
    "options", [PPO(), PPO(clip=0.4, value_weight=0.1), PPO(value_clip=1.0)]
)
def test_loss_metrics_and_gradient_are_the_longhand(options):
    model = Table()
    batch = make_batch(model)
    loss, metrics = options(model, batch)
    wanted = longhand(options, model, batch)
    assert min(wanted["low"], wanted["high"]) >= 1, "nothing is clipped"
    total = wanted["policy"] + options.value_weight * wanted["value"]
    assert loss.item() == pytest.approx(total, rel=1e-12)
    for name, key in (
        ("policy_loss", "policy"),
        ("value_loss", "value"),
        ("clipped_low", "low"),
        ("clipped_high", "high"),
        ("approx_kl", "kl"),
        ("ratio", "ratio"),
    ):
        assert metrics[name].item() == pytest.approx(wanted[key], rel=1e-10), name
    if options.value_clip is not None:
        assert 1 <= wanted["value_clipped"] < 13
        assert metrics["value_clipped"].item() == wanted["value_clipped"]
    check_gradient(options, model, batch, ["logits", "values"])


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1.5, 1.0, False),  # has gone far enough up
        (1.5, -1.0, True),  # too far up, and bad: it may come back
        (0.5, 1.0, True),
        (0.5, -1.0, False),
        (1.1, 1.0, True),
        (0.9, -1.0, True),
    ],
)
def test_the_clip_stops_only_what_goes_on(ratio, advantage, moves):
    log_ratio = torch.tensor(ratio).log().requires_grad_()
    policy_loss(log_ratio, torch.tensor(advantage), 0.2, 0.2).backward()
    wanted = -ratio * advantage if moves else 0.0
    assert log_ratio.grad.item() == pytest.approx(wanted)


def test_the_first_step_is_reinforce_and_nothing_is_clipped():
    model = Table()
    batch = make_batch(model, spread=0.0)
    _, metrics = PPO()(model, batch)
    assert metrics["ratio"].item() == 13.0
    assert metrics["approx_kl"].item() == 0
    assert metrics["clipped_low"].item() == metrics["clipped_high"].item() == 0
    metrics["policy_loss"].backward()
    found = model.logits.grad.clone()
    model.zero_grad()
    said = model(None, batch.targets).logprobs
    (-(said * batch.advantages) * batch.weights).sum().backward()
    torch.testing.assert_close(found, model.logits.grad)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30])
def test_padding_of_the_rollout_is_never_read(garbage):
    model = Table()
    batch = make_batch(model)
    options = PPO(value_clip=1.0)

    def result(batch):
        model.zero_grad()
        loss, metrics = options(model, batch)
        loss.backward()
        numbers = {name: value.item() for name, value in metrics.items()}
        return numbers, model.logits.grad.clone(), model.values.grad.clone()

    clean = result(batch)
    spoiled = {n: batch[n].masked_fill(batch.weights == 0, garbage) for n in ROLLOUT}
    found = result(Batch(13, **dict(batch) | spoiled))
    assert found[0] == clean[0]
    for got, wanted in zip(found[1:], clean[1:], strict=True):
        assert torch.equal(got, wanted)
        assert got[batch.weights == 0].abs().max() == 0


def test_entropy_is_of_the_full_distribution_of_weighted_tokens_and_only_a_metric():
    model = Table()
    batch = make_batch(model)
    loss, metrics = PPO(entropy=True)(model, batch)
    wanted = 0.0
    for row in range(4):
        for t in range(5):
            for x in model.logits[row, t].log_softmax(-1).tolist():
                wanted -= WEIGHTS[row][t] * x * math.exp(x)
    assert metrics["entropy"].item() == pytest.approx(wanted)
    plain, without = PPO()(model, batch)
    assert plain.item() == loss.item()
    assert "entropy" not in without
    assert len(model.calls) == 3  # one of them ours, for the rollout


class ActorCritic(nn.Module):
    """A real decoder with a value read off its last hidden state."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        config = ModelConfig(vocab_size=6, d_model=16, n_heads=2, max_seq_len=8)
        self.decoder, self.read = Decoder(config), nn.Linear(16, 1)

    def forward(self, inputs, targets, **asked):
        hidden, _ = self.decoder.hidden(inputs)
        logits = self.decoder.read(hidden).log_softmax(-1)
        return SimpleNamespace(
            logprobs=logits.gather(-1, targets[..., None])[..., 0],
            values=self.read(hidden)[..., 0],
        )


def test_micro_batches_of_unequal_lengths_are_one_batch():
    batch = {
        name: x.float() if x.is_floating_point() else x
        for name, x in make_batch(Table(), spread=0.1).items()
    }

    def after(cuts):
        model = ActorCritic()
        learner = Learner(model, torch.optim.SGD(model.parameters(), lr=0.1))
        parts = []
        for start, stop in cuts:
            part = {name: x[start:stop] for name, x in batch.items()}
            parts.append(Batch(part["weights"].sum().item(), **part))
        return learner.update(parts, PPO(value_clip=1.0)), model.read.weight.detach()

    whole, weights = after([(0, 4)])
    parts, same = after([(0, 1), (1, 2), (2, 4)])
    torch.testing.assert_close(weights, same, atol=1e-6, rtol=1e-5)
    assert whole == pytest.approx(parts, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0.0}, "clip = 0.0"),
        ({"clip": 1.0}, "clip = 1.0"),
        ({"value_weight": 0.0}, "value_weight = 0.0"),
        ({"value_clip": 0.0}, "value_clip = 0.0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        PPO(**options)
