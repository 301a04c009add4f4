"""PPO and GRPO find what is best where every possibility can be counted."""

import itertools

import pytest
import torch

from folio.data.batch import Batch
from folio.objectives.grpo import GRPO, response_weights
from folio.objectives.ppo import PPO
from folio.rl.advantage import explained_variance, gae, group_advantages, whiten
from folio.rl.kl import shaped_rewards
from folio.training.learner import Learner
from folio.training.loop import train
from rl.letters import (
    actor_critic,
    grpo_rollouts,
    learner_of,
    letter,
    ppo_rollouts,
    tiny_policy,
)
from tabular import States

ACTIONS, STEPS = 3, 3
PREFIXES = [
    prefix
    for length in range(STEPS)
    for prefix in itertools.product(range(ACTIONS), repeat=length)
]
STATE = {prefix: number for number, prefix in enumerate(PREFIXES)}
# What each of the 27 ways is worth. On average the last first step is the best one,
# the best way begins with the first, and the second best is worth 0.94 of it.
WORTH = torch.rand(27, generator=torch.Generator().manual_seed(11))


def worth(actions: torch.Tensor) -> torch.Tensor:
    """Actions (B, 3) -> reward (B,), known only at the end."""
    return WORTH[(actions * torch.tensor([9, 3, 1])).sum(1)]


def states_of(actions: torch.Tensor) -> torch.Tensor:
    return torch.tensor(
        [[STATE[tuple(row[:t])] for t in range(3)] for row in actions.tolist()]
    )


def sample(model: States, rows: int, make: torch.Generator) -> torch.Tensor:
    """Ways (B, 3) that the policy takes."""
    actions = torch.zeros(rows, 0, dtype=torch.long)
    for _ in range(STEPS):
        here = torch.tensor([STATE[tuple(row)] for row in actions.tolist()])
        chances = model.logits[here].softmax(-1)
        actions = torch.cat([actions, chances.multinomial(1, generator=make)], 1)
    return actions


def expected(model: States) -> float:
    """The policy's worth, over all 27 ways."""
    ways = torch.tensor(list(itertools.product(range(ACTIONS), repeat=STEPS)))
    with torch.no_grad():
        chances = model(states_of(ways), ways).logprobs.sum(1).exp()
    return (chances * worth(ways)).sum().item()


def table_learner(model: States, lr: float) -> Learner:
    return Learner(model, torch.optim.Adam(model.parameters(), lr=lr), max_norm=None)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("aggregation", ["token", "constant"])
def test_grpo_finds_the_best_of_27_ways_in_6400_samples(seed, aggregation):
    model, make = States(len(PREFIXES), ACTIONS), torch.Generator().manual_seed(seed)
    learner = table_learner(model, lr=0.1)
    for _ in range(100):
        actions = sample(model, 64, make)
        states = states_of(actions)
        with torch.no_grad():
            old = model(states, actions).logprobs
        advantages = group_advantages(worth(actions), 8)
        weights, denominator = response_weights(torch.ones(64, 3), aggregation, 3)
        batch = Batch(
            denominator,
            inputs=states,
            targets=actions,
            weights=weights,
            old_logprobs=old,
            advantages=advantages[:, None].expand(64, 3),
        )
        metrics = learner.update([batch], GRPO(beta=0.0))
        assert metrics["ratio"] == pytest.approx(1)
        assert metrics["clipped_high"] == metrics["clipped_low"] == 0
    assert expected(model) > 0.96 * WORTH.max().item()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ppo_finds_the_best_of_27_ways_in_3200_samples(seed):
    model, make = States(len(PREFIXES), ACTIONS), torch.Generator().manual_seed(seed)
    learner, mask, explained = table_learner(model, lr=0.1), torch.ones(64, 3), []
    for _ in range(50):
        actions = sample(model, 64, make)
        states = states_of(actions)
        with torch.no_grad():
            output = model(states, actions)
        rewards = shaped_rewards(
            worth(actions), output.logprobs, output.logprobs, mask, beta=0.1
        )
        advantages, returns = gae(rewards, output.values, mask)
        explained.append(explained_variance(output.values, returns, mask))
        batch = Batch(
            192,
            inputs=states,
            targets=actions,
            weights=mask,
            old_logprobs=output.logprobs,
            old_values=output.values,
            advantages=whiten(advantages, mask),
            returns=returns,
        )
        ratios = [learner.update([batch], PPO())["ratio"] for _ in range(4)]
        assert ratios[0] == pytest.approx(1)
    assert expected(model) > 0.96 * WORTH.max().item()
    assert explained[0] == pytest.approx(0, abs=1e-6)  # it says 0 of everything
    assert model.critic[0].item() == pytest.approx(expected(model), abs=0.1)


REWARD = torch.tensor([1.0, 0.2, 0.6, 0.0, 0.9])
REFERENCE = torch.tensor([0.1, 0.3, 0.2, 0.35, 0.05])
PRICE = 0.3


def best_for(price: float) -> torch.Tensor:
    """Greatest reward less price · KL has reference · exp(reward / price)."""
    tilted = REFERENCE * (REWARD / price).exp()
    return tilted / tilted.sum()


def settle(objective, advantages, steps: int = 400) -> torch.Tensor:
    """A bandit of five arms learned without chance: each arm weighs its probability.

    advantages: (old_logprobs, values) -> advantages and returns, all (5, 1).
    """
    model, arms = States(1, 5), torch.arange(5)[:, None]
    model.logits.data = REFERENCE.log()[None].clone()
    learner, inputs = table_learner(model, lr=0.03), torch.zeros(5, 1, dtype=torch.long)
    for _ in range(steps):
        with torch.no_grad():
            output = model(inputs, arms)
        gains, returns = advantages(output.logprobs, output.values)
        batch = Batch(
            1,
            inputs=inputs,
            targets=arms,
            weights=output.logprobs.exp(),
            old_logprobs=output.logprobs,
            old_values=output.values,
            reference_logprobs=REFERENCE.log()[:, None],
            advantages=gains,
            returns=returns,
        )
        learner.update([batch], objective)
    return model.logits.softmax(-1)[0].detach()


def baseline(old, values):
    return (REWARD - (old[:, 0].exp() * REWARD).sum())[:, None], values


def shaped(old, values):
    reference, mask = REFERENCE.log()[:, None], torch.ones(5, 1)
    rewards = shaped_rewards(REWARD, old, reference, mask, beta=PRICE)
    return gae(rewards, values, mask)


def test_ppo_with_a_price_in_the_reward_ends_at_the_tilted_reference():
    found = settle(PPO(), shaped)
    torch.testing.assert_close(found, best_for(PRICE), atol=2e-3, rtol=0)


def test_grpo_with_k2_ends_at_the_tilted_reference():
    found = settle(GRPO(beta=PRICE, kl="k2"), baseline)
    torch.testing.assert_close(found, best_for(PRICE), atol=2e-3, rtol=0)


def test_grpo_with_k3_ends_where_forward_kl_pulls_it():
    """Another place: there π (r - J) = β (π - reference), J the mean reward."""
    found = settle(GRPO(beta=PRICE), baseline)
    mean = (found * REWARD).sum()
    wanted = PRICE * REFERENCE / (PRICE + mean - REWARD)
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)
    assert (found - best_for(PRICE)).abs().max() > 0.02


# ---- a decoder, an engine and rollouts, as in a stage --------------------------------


def rewards_while(model, rollouts, objective, lr: float, steps: int) -> list[float]:
    """The mean reward of each rollout of a training."""
    rewards = []

    def hook(learner, metrics):
        rollouts.after_update(metrics)
        if rollouts.at_boundary:
            rewards.append(rollouts.metrics["reward"])

    train(learner_of(model, lr), rollouts, objective, steps=steps, hooks=[hook])
    return rewards


@pytest.mark.parametrize("seed", [0, 1])
def test_grpo_answers_with_the_letter_that_is_asked_for_after_3840_samples(seed):
    policy = tiny_policy(seed, d_model=64)
    rollouts = grpo_rollouts(policy, 8, group=8, seed=seed, max_new_tokens=4)
    rewards = rewards_while(policy, rollouts, GRPO(beta=0.01), lr=5e-3, steps=60)
    assert rewards[0] < 0.15
    assert sum(rewards[-5:]) / 5 > 0.85
    assert rollouts.metrics["unfinished"] < 0.1


@pytest.mark.parametrize("seed", [0, 1])
def test_ppo_answers_with_the_letter_that_is_asked_for_after_3840_samples(seed):
    model = actor_critic(tiny_policy(seed, d_model=64))
    rollouts = ppo_rollouts(model, 64, epochs=2, seed=seed, max_new_tokens=4)
    # At 5e-3 rounding decides whether a seed gets there: one in four does not.
    rewards = rewards_while(model, rollouts, PPO(), lr=2e-3, steps=120)
    assert rewards[0] < 0.15
    assert sum(rewards[-5:]) / 5 > 0.85
    assert rollouts.metrics["unfinished"] < 0.1
    assert len(rewards) == 60


def test_without_a_reward_nothing_is_learned():
    """Else the tests above would measure something else than learning."""
    policy = tiny_policy(d_model=64)
    rollouts = grpo_rollouts(
        policy, 8, group=8, max_new_tokens=4, reward=lambda *said: torch.zeros(64)
    )
    rollouts.sampler.gold = letter
    before = policy.embedding.weight.clone()
    learner = learner_of(policy, lr=5e-3)
    learner.optimizer.param_groups[0]["weight_decay"] = 0.0
    train(learner, rollouts, GRPO(beta=0.0), steps=5)
    assert rollouts.metrics["gold"] < 0.15
    assert rollouts.metrics["dead_groups"] == 1.0
    torch.testing.assert_close(policy.embedding.weight, before)
