"""Rollouts as a stream: what is scored, dealt out, measured, stopped and resumed."""

import copy
import json
import math

import pytest
import torch

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.prompts import PromptStream
from folio.data.records import Prompt
from folio.infer.sampling import Sampling
from folio.model.scorer import Scorer
from folio.objectives.grpo import AGGREGATIONS, GRPO
from folio.objectives.ppo import PPO
from folio.optim.adamw import adamw
from folio.rl.baseline import CriticBaseline, GroupBaseline
from folio.rl.control import AdaptiveKL, FixedKL, RolloutLength, RunningScale
from folio.rl.rewards import MixedReward, ModelReward, VerifierReward
from folio.rl.stream import RolloutOptions
from folio.training.learner import Learner
from folio.training.loop import train
from folio.training.snapshot import newest_snapshot, restore, save_snapshot
from rl.letters import (
    END,
    TOKENIZER,
    actor_critic,
    eager_to_stop,
    grpo_rollouts,
    learner_of,
    letter,
    ppo_rollouts,
    tiny_policy,
)


def alone(model, rollout, row, temperature=1.0):
    """Log-probs of one response, by itself and without padding: (targets,)."""
    weights = rollout.weights[row]
    width = int(weights.nonzero().max()) + 1
    with torch.no_grad():
        logits = model(rollout.inputs[row : row + 1, :width]).logits[0] / temperature
    said = logits.log_softmax(-1).gather(-1, rollout.targets[row, :width, None])[:, 0]
    return torch.nn.functional.pad(said, (0, len(weights) - width)) * weights


ENDS = (END, TOKENIZER.end_of_text)


def decided_policy(seed: int = 0):
    """Far from uniform, so that a temperature makes a difference."""
    policy = tiny_policy(seed, tie_embeddings=False)
    policy.head.weight.data *= 20
    return policy


def everything(rollouts, batches):
    """The batches of one rollout."""
    found = [next(rollouts) for _ in range(batches)]
    assert rollouts.at_boundary
    return found


# -------------------------------------------------------------------- what is scored


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_old_log_probs_are_the_policys_and_the_samplers(temperature):
    policy = eager_to_stop()
    rollouts = grpo_rollouts(
        policy, sampling=Sampling(temperature), max_new_tokens=8, minibatches=2
    )
    next(rollouts)
    rollout = rollouts.rollout
    assert len(rollout.lengths.unique()) > 2
    for row in range(16):
        wanted = alone(policy, rollout, row, temperature)
        for found in (rollout.old_logprobs[row], rollout.sampler_logprobs[row]):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert rollouts.metrics["sampler_difference"] < 1e-5
    assert torch.equal(rollout.old_logprobs, rollout.reference_logprobs)


def test_scored_at_another_temperature_is_noticed():
    policy = decided_policy()
    rollouts = grpo_rollouts(policy, sampling=Sampling(0.7))
    batch = next(rollouts)
    wrong = torch.stack([alone(policy, rollouts.rollout, row) for row in range(16)])
    assert (wrong - rollouts.rollout.sampler_logprobs).abs().max() > 0.1
    metrics = learner_of(policy).update([batch], GRPO())
    with pytest.raises(ValueError, match=r"temperature of the sampling, 0\.7"):
        rollouts.after_update(metrics)
    rollouts = grpo_rollouts(policy, sampling=Sampling(0.7))
    metrics = learner_of(policy).update([next(rollouts)], GRPO(temperature=0.7))
    rollouts.after_update(metrics)
    assert metrics["ratio"] == pytest.approx(1.0)
    assert metrics["approx_kl"] < 1e-9  # the sampler's and the training's rounding


def test_the_reference_speaks_without_dropout():
    noisy = eager_to_stop(dropout=0.5).train()
    rollouts = grpo_rollouts(
        eager_to_stop(), reference=noisy, max_new_tokens=8, epochs=2
    )
    next(rollouts)
    rollout = rollouts.rollout
    assert torch.equal(rollout.old_logprobs, rollout.reference_logprobs)


def test_the_first_weight_is_the_first_token_and_the_last_is_end():
    rollouts = grpo_rollouts(eager_to_stop(), max_new_tokens=8)
    batch = next(rollouts)
    finished = 0
    for inputs, targets, weights in zip(
        batch.inputs, batch.targets, batch.weights, strict=True
    ):
        places = weights.nonzero().flatten()
        assert places.tolist() == list(range(int(places[0]), int(places[-1]) + 1))
        assert inputs[places[0]] == TOKENIZER.special_id("<|assistant|>")
        finished += int(targets[places[-1]] in ENDS)
        assert not any(end in targets[places[:-1]] for end in ENDS)
    assert finished == int(rollouts.rollout.finished.sum()) > 4
    assert batch.denominator == rollouts.rollout.weights.sum()


def test_values_are_the_critics_of_the_state_before_each_token():
    model = actor_critic(eager_to_stop())
    torch.nn.init.normal_(model.critic.value_head.weight)
    rollouts = ppo_rollouts(model, max_new_tokens=8)
    batch = next(rollouts)
    with torch.no_grad():
        wanted = model.critic(rollouts.rollout.inputs).values
    learned = rollouts.rollout.learned
    torch.testing.assert_close(rollouts.rollout.values[learned], wanted[learned])
    assert batch.old_values[batch.weights == 0].abs().max() == 0
    assert batch.keys() == {
        *("inputs", "targets", "weights", "old_logprobs", "reference_logprobs"),
        *("advantages", "returns", "old_values", "return_std"),
        *("slots", "slot_documents"),
    }


@pytest.mark.parametrize("accumulate", [1, 2])
def test_before_the_first_step_every_ratio_is_exactly_one(accumulate):
    for model, rollouts, objective in (
        (
            p := eager_to_stop(),
            grpo_rollouts(p, **TWICE, accumulate=accumulate),
            GRPO(),
        ),
        (m := actor_critic(p), ppo_rollouts(m, **TWICE, accumulate=accumulate), PPO()),
    ):
        learner, seen = learner_of(model), []
        for _ in range(4):
            batches = [next(rollouts) for _ in range(accumulate)]
            ratio = rollouts.largest_ratio()
            seen.append(learner.update(batches, objective) | {"largest": ratio})
        first = seen[0]
        assert first["ratio"] == first["largest"] == 1.0
        assert first["approx_kl"] == first["clipped_low"] == first["clipped_high"] == 0
        assert all(later["approx_kl"] > 1e-5 for later in seen[1:])
        assert all(later["largest"] > 1.001 for later in seen[1:])


TWICE = {"epochs": 2, "minibatches": 2, "max_new_tokens": 8}


def test_the_largest_ratio_is_of_the_weights_as_they_are():
    policy = eager_to_stop()
    rollouts, learner = grpo_rollouts(policy, max_new_tokens=8), learner_of(policy)
    assert rollouts.largest_ratio() == 1.0  # nothing to compare yet
    learner.update([next(rollouts)], GRPO())
    rollout = rollouts.rollout
    new = torch.stack([alone(policy, rollout, row) for row in range(16)])
    wanted = (new - rollout.old_logprobs)[rollout.weights != 0].max().exp()
    assert rollouts.largest_ratio() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_each_rollout_is_sampled_by_the_newest_weights(fused):
    """An engine remembers prompts; what the old weights made of them must go."""
    asked = [Prompt(({"role": "user", "content": "abcd" * 6},), "a", "a")]
    policy = tiny_policy(max_seq_len=48)
    prompts = PromptStream(asked, TOKENIZER, batch=4, length=30)
    rollouts = grpo_rollouts(policy, prompts=prompts, epochs=2)
    learner = Learner(
        policy, torch.optim.AdamW(policy.parameters(), lr=0.05, fused=fused)
    )
    for _ in range(3):
        for _ in range(2):
            learner.update([next(rollouts)], GRPO())
        assert rollouts.metrics["sampler_difference"] < 1e-4
    assert rollouts.metrics["kl_sequence"] > 0.01  # the policy did move


@pytest.mark.parametrize("kind", ["grpo", "ppo"])
def test_a_twin_in_bf16_speaks_as_it_scores_and_as_it_learns(kind):
    """Rounded anew for each rollout; the ratio begins at 1.

    But for what bf16 makes of attention, which has a faster path without gradients.
    """
    policy = eager_to_stop(max_seq_len=48)
    model = policy if kind == "grpo" else actor_critic(policy)
    learner = Learner(model, adamw(model, 0.02), precision="bf16-weights")
    make, objective = (
        (grpo_rollouts, GRPO()) if kind == "grpo" else (ppo_rollouts, PPO())
    )
    rollouts = make(learner.computing, refresh=learner.refresh, **TWICE)
    for _ in range(3):
        for update in range(4):
            metrics = learner.update([next(rollouts)], objective)
            rollouts.after_update(metrics)
            if update == 0:
                assert metrics["ratio"] == pytest.approx(1.0, abs=0.01)
                assert metrics["approx_kl"] < 1e-4
        rollout = rollouts.rollout
        assert rollouts.metrics["sampler_difference"] < 0.1
    assert rollouts.metrics["kl_sequence"] > 0.05  # the policy did move
    learner.refresh()
    twin = getattr(learner.computing, "policy", learner.computing)
    assert twin.embedding.weight.dtype == torch.bfloat16
    assert torch.equal(twin.embedding.weight, policy.embedding.weight.bfloat16())
    assert rollout.old_logprobs.dtype == torch.float32
    if kind == "ppo":
        assert rollout.values.dtype == torch.float32


def test_a_twin_that_is_not_refreshed_is_noticed():
    policy = eager_to_stop()
    learner = Learner(policy, adamw(policy, 0.1), precision="bf16-weights")
    rollouts = grpo_rollouts(learner.computing, max_new_tokens=8)
    rollouts.after_update(learner.update([next(rollouts)], GRPO()))
    with pytest.raises(ValueError, match="before the first step on a rollout"):
        rollouts.after_update(learner.update([next(rollouts)], GRPO()))


def test_reference_and_reward_model_are_left_as_they_were():
    policy = eager_to_stop()
    model, scorer = actor_critic(policy), Scorer(tiny_policy(5, dropout=0.5))
    torch.nn.init.normal_(scorer.value_head.weight)
    reference = copy.deepcopy(policy)
    frozen = {"reference": reference.train(), "scorer": scorer.train()}
    before = {n: copy.deepcopy(m.state_dict()) for n, m in frozen.items()}
    rollouts = ppo_rollouts(
        model, reference=reference, reward=ModelReward(scorer, TOKENIZER)
    )
    learner = learner_of(model)
    for _ in range(3):
        learner.update([next(rollouts)], PPO())
    assert not torch.equal(policy.embedding.weight, reference.embedding.weight)
    for name, frozen_model in frozen.items():
        assert all(p.grad is None for p in frozen_model.parameters()), name
        assert frozen_model.training
        for key, x in frozen_model.state_dict().items():
            assert torch.equal(x, before[name][key]), (name, key)
    next(rollouts)
    assert model.training
    assert not rollouts.rollout.old_logprobs.requires_grad


# ---------------------------------------------------------------------- what is dealt


def test_each_epoch_deals_every_row_once_in_an_order_of_its_own():
    rollouts = grpo_rollouts(
        eager_to_stop(), max_new_tokens=8, epochs=2, minibatches=2, accumulate=2
    )

    def dealt():
        batches = everything(rollouts, 8)
        order = []
        for batch in batches:
            assert len(batch.inputs) == 4
            assert batch.weights[:, -1].any()  # no wider than its longest row
            for i in range(4):
                order.append(key_of_row(batch, i))
        epochs = [order[:16], order[16:]]
        rollout = rollouts.rollout
        rows = [key_of_row(rollout, row) for row in range(16)]
        assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(rows)
        total = rollout.weights.sum().item()
        assert sum(batch.denominator for batch in batches) == 2 * total
        return [[rows.index(key) for key in epoch] for epoch in epochs]

    first, second = dealt(), dealt()
    orders = [tuple(order) for order in (*first, *second)]
    assert len(set(orders)) == 4


def test_later_rollouts_have_orders_of_their_own():
    rollouts = grpo_rollouts(tiny_policy(), max_new_tokens=8, accumulate=16)
    rollouts.sampler.engine.vocab_size = 5  # nothing but letters: all are as long
    orders = set()
    for _ in range(2):
        dealt = [key_of_row(batch, 0) for batch in everything(rollouts, 16)]
        rows = [key_of_row(rollouts.rollout, row) for row in range(16)]
        orders.add(tuple(rows.index(key) for key in dealt))
    assert len(orders) == 2


@pytest.mark.parametrize("minibatches", [1, 2])
def test_the_prompt_of_a_group_is_read_once(minibatches):
    rollouts = grpo_rollouts(eager_to_stop(), max_new_tokens=8, minibatches=minibatches)
    for batch in everything(rollouts, minibatches):
        rows = batch.inputs.shape[0]
        prompts = int(batch.weights[0].nonzero()[0])  # all as long, and before END
        read = (batch.slots >= 0).sum().item()
        assert read == rows // 4 * prompts + batch.weights.sum()
        assert batch.slots.numel() < batch.inputs.numel() / 1.3


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_learned_from_once_is_learned_from_as_scored_before(aggregation):
    """Where there is one update, nobody scores beforehand; the gradient is the same."""
    policy = eager_to_stop()
    baseline = GroupBaseline(aggregation=aggregation, longest=8)
    rollouts = grpo_rollouts(policy, baseline=baseline, max_new_tokens=8)
    batch, rollout = next(rollouts), rollouts.rollout
    assert "old_logprobs" not in batch
    order = [key_of_row(rollout, row) for row in range(16)]
    rows = [order.index(key_of_row(batch, i)) for i in range(16)]
    gradients = []
    scored = dict(batch)
    old = torch.stack([alone(policy, rollout, row) for row in rows])
    scored["old_logprobs"] = old[:, : batch.inputs.shape[1]]
    del scored["sampler_logprobs"]
    for each in (batch, Batch(batch.denominator, **scored)):
        policy.zero_grad()
        loss, metrics = GRPO()(policy, each)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters()]))
        assert metrics["approx_kl"] < 1e-6
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def key_of_row(holder, row):
    said = holder.weights[row] != 0
    tokens = holder.targets[row][said].tolist()
    scored = hasattr(holder, "old_logprobs")
    logprobs = holder.old_logprobs if scored else holder.sampler_logprobs
    return (*tokens, *(round(x, 4) for x in logprobs[row][said].tolist()))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("accumulate", [2, 8])
def test_accumulated_is_one_big_batch(aggregation, accumulate):
    def after(accumulate):
        policy = eager_to_stop()
        rollouts = grpo_rollouts(
            policy,
            max_new_tokens=8,
            accumulate=accumulate,
            baseline=GroupBaseline(aggregation=aggregation, longest=8),
        )
        learner = Learner(policy, torch.optim.SGD(policy.parameters(), lr=1.0))
        batches = everything(rollouts, accumulate)
        metrics = learner.update(batches, GRPO())
        lengths = rollouts.rollout.lengths
        total = {"token": lengths.sum(), "sequence": 16, "constant": 128}
        assert sum(b.denominator for b in batches) == total[aggregation]
        return metrics, policy.embedding.weight

    whole, weights = after(1)
    parts, same = after(accumulate)
    assert parts == pytest.approx(whole, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(same, weights, atol=1e-6, rtol=1e-4)


def test_a_groups_advantages_sum_to_zero_and_are_its_own():
    rollouts = grpo_rollouts(
        eager_to_stop(), max_new_tokens=8, baseline=GroupBaseline("none")
    )
    batch = next(rollouts)
    rollout = rollouts.rollout
    rewards = rollout.rewards.view(4, 4)
    wanted = (rewards - rewards.mean(1, keepdim=True)).flatten()
    assert rewards.std(1).max() > 0.1
    rows = [key_of_row(rollout, row) for row in range(16)]
    for i in range(16):
        found = batch.advantages[i][batch.weights[i] != 0]
        expected = wanted[rows.index(key_of_row(batch, i))].item()
        assert found.tolist() == pytest.approx([expected] * len(found))


# ----------------------------------------------------------- rows cut short, by us


def test_rows_cut_by_a_shortened_cap_are_not_learned_from():
    length = RolloutLength(4, least=2, most=8, target=1e9)
    policy = eager_to_stop()
    rollouts = grpo_rollouts(policy, max_new_tokens=length)
    batch = next(rollouts)
    rollout = rollouts.rollout
    cut = ~rollout.finished
    assert 0 < cut.sum() < 16
    assert torch.equal(rollout.learned.any(1), rollout.finished)
    assert batch.denominator == rollout.lengths[rollout.finished].sum()
    assert batch.advantages[batch.weights == 0].abs().max() == 0
    # at its longest, a cap is the policy's own business
    rollouts = grpo_rollouts(policy, max_new_tokens=RolloutLength(4, 2, 4, 1e9))
    next(rollouts)
    assert rollouts.rollout.learned.any(1).all()


def test_minibatches_with_nothing_to_learn_are_left_out():
    rollouts = grpo_rollouts(
        eager_to_stop(),
        max_new_tokens=RolloutLength(4, 4, 8, 1e9),
        minibatches=8,
        epochs=3,
    )
    batches = [next(rollouts)]
    while not rollouts.at_boundary:
        batches.append(next(rollouts))
    assert all(batch.denominator > 0 for batch in batches)
    assert len(batches) < 24
    rows = rollouts.rollout.lengths[rollouts.rollout.finished].sum().item()
    assert sum(batch.denominator for batch in batches) == 3 * rows


def test_a_batch_without_a_weight_beside_others_is_no_trouble():
    """One of several micro-batches, or ranks, may have nothing to learn from."""
    policy = eager_to_stop()
    rollouts = grpo_rollouts(
        policy, max_new_tokens=RolloutLength(4, 4, 8, 1e9), accumulate=16
    )
    batches = everything(rollouts, 16)
    assert 0 in [batch.denominator for batch in batches]
    metrics = learner_of(policy).update(batches, GRPO())
    assert math.isfinite(metrics["grad_norm"])
    assert metrics["ratio"] == 1.0


def test_if_nothing_ever_ends_that_is_said():
    rollouts = grpo_rollouts(tiny_policy(), max_new_tokens=RolloutLength(1, 1, 8, 1e9))
    rollouts.sampler.engine.vocab_size = 5  # nothing but letters
    with pytest.raises(UserError, match="no response of 3 rollouts ended"):
        next(rollouts)


# ---------------------------------------------------------------------- what is steered


def test_the_cap_changes_between_rollouts_and_by_their_kl():
    rollouts = grpo_rollouts(
        decided_policy(0),
        reference=decided_policy(1),
        max_new_tokens=RolloutLength(8, 2, 8, 0.01),
    )
    caps = []
    for _ in range(3):
        next(rollouts)
        caps.append(rollouts.metrics["max_new_tokens"])
        assert rollouts.metrics["kl_sequence"] > 0.015
        assert rollouts.metrics["length_max"] <= caps[-1]
        assert rollouts.rollout.lengths.max() == caps[-1]
    assert caps == [8, 7, 6]
    assert rollouts.length.tokens == 5


def test_the_price_of_kl_is_that_of_before_and_moves_by_this_rollout():
    kl = AdaptiveKL(0.1, target=1e-3, horizon=100)
    policy = eager_to_stop()
    model = actor_critic(policy)
    rollouts = ppo_rollouts(
        model, baseline=CriticBaseline(kl), reference=eager_to_stop(1), max_new_tokens=8
    )
    betas = []
    for _ in range(3):
        next(rollouts)
        assert rollouts.metrics["kl_sequence"] > 2e-3
        betas.append(rollouts.metrics["beta"])
    assert betas == pytest.approx([0.1 * (1 + 0.2 * 16 / 100) ** n for n in range(3)])


def test_a_policy_that_has_gone_too_far_starts_a_new_rollout():
    rollouts = grpo_rollouts(tiny_policy(), epochs=4, minibatches=2, stop_kl=0.1)
    next(rollouts)
    rollouts.after_update({"approx_kl": 0.0})
    for kl in (0.0, 0.15, 0.09):
        next(rollouts)
        rollouts.after_update({"approx_kl": kl})
        assert not rollouts.at_boundary
    next(rollouts)
    rollouts.after_update({"approx_kl": 0.08, "filled": 0.5})  # 0.16 a token
    assert rollouts.at_boundary
    assert rollouts.metrics["updates"] == 5
    next(rollouts)
    assert rollouts.number == 2
    rollouts.after_update({"approx_kl": 0.0})  # is the first one again
    assert not rollouts.at_boundary
    strict = grpo_rollouts(tiny_policy(), epochs=4, stop_kl=1e-4)
    next(strict)
    strict.after_update({"approx_kl": 5e-4})  # rounding, before any step was made
    assert not strict.at_boundary
    patient = grpo_rollouts(tiny_policy(), epochs=4)
    for kl in (0.0, 99.0):
        next(patient)
        patient.after_update({"approx_kl": kl})
    assert not patient.at_boundary


def test_dead_groups_are_drawn_again_and_the_means_are_of_all():
    def rare(prompt, text, finished):
        return text.startswith(prompt.answer)

    policy = eager_to_stop()
    plain = grpo_rollouts(policy, reward=VerifierReward(rare))
    next(plain)
    again = grpo_rollouts(policy, reward=VerifierReward(rare), redraw=2)
    next(again)
    assert plain.metrics["dead_groups"] > again.metrics["dead_groups"]
    assert again.metrics["redrawn"] == 2 > plain.metrics["redrawn"] == 0
    assert again.prompts.index == 12
    assert again.metrics["reward"] < again.rollout.rewards.mean()  # not chosen


# ------------------------------------------------------------------------ measures


def test_metrics_are_those_of_the_rollout():
    def gold(prompt, text, finished):
        return 2.0 * finished

    mixed = MixedReward([(1.0, VerifierReward(letter), "letter")])
    rollouts = grpo_rollouts(
        eager_to_stop(),
        max_new_tokens=8,
        reward=mixed,
        gold=gold,
        reference=eager_to_stop(1),
    )
    next(rollouts)
    found, rollout = rollouts.metrics, rollouts.rollout
    worth = [
        letter(*said)
        for said in zip(
            rollout.prompts, rollout.texts, rollout.finished.tolist(), strict=True
        )
    ]
    assert rollout.rewards.tolist() == worth
    mean = sum(worth) / 16
    assert found["reward"] == found["reward_letter"] == pytest.approx(mean)
    spread = math.sqrt(sum((w - mean) ** 2 for w in worth) / 16)
    assert found["reward_std"] == pytest.approx(spread)
    finished = rollout.finished.float().mean().item()
    assert found["gold"] == pytest.approx(2 * finished)
    assert found["unfinished"] == pytest.approx(1 - finished)
    assert found["length_mean"] == pytest.approx(rollout.lengths.mean().item())
    assert found["length_max"] == rollout.lengths.max()
    gaps = (rollout.old_logprobs - rollout.reference_logprobs) * rollout.weights
    assert found["kl_sequence"] == pytest.approx(gaps.sum(1).mean().item(), rel=1e-5)
    tokens = (torch.exp(-gaps) - 1 + gaps).sum() / rollout.weights.sum()
    assert found["kl_token"] == pytest.approx(tokens.item(), rel=1e-3)
    assert found["max_new_tokens"] == 8
    assert found["rollout_seconds"] > 0
    speed = rollout.weights.sum().item() / found["rollout_seconds"]
    assert found["rollout_tokens_per_second"] == pytest.approx(speed)
    assert "sampler_difference" not in found  # nobody else has scored them yet
    json.dumps(found)  # plain numbers


# ------------------------------------------------------------------------- resuming


def run(
    kind: str,
    steps: int,
    folder=None,
    at: int | None = None,
    seed: int = 0,
    precision: str = "fp32",
):
    """Train; save where it may be saved, or go on from the snapshot of step `at`."""
    policy = eager_to_stop()
    model = policy if kind == "grpo" else actor_critic(policy)
    learner, curve = Learner(model, adamw(model, 1e-2), precision=precision), []
    options = {"seed": seed, "max_new_tokens": RolloutLength(6, 3, 8, 0.5)}
    options["refresh"] = learner.refresh
    if kind == "grpo":
        objective = GRPO()
        rollouts = grpo_rollouts(learner.computing, minibatches=2, redraw=1, **options)
    else:
        objective = PPO(value_clip=0.5)
        baseline = CriticBaseline(AdaptiveKL(0.1, 0.05, 100), scale=RunningScale())
        options |= {"epochs": 2, "baseline": baseline}
        rollouts = ppo_rollouts(learner.computing, **options)
    if at is not None:
        snapshot = newest_snapshot(folder, say=pytest.fail)
        assert snapshot.state["learner"]["step"] == at
        restore(snapshot, learner)
        rollouts.load_state_dict(snapshot.state["stream"])

    def hook(learner, metrics):
        rollouts.after_update(metrics)
        timeless = {n: x for n, x in rollouts.metrics.items() if "seconds" not in n}
        timeless.pop("rollout_tokens_per_second")
        curve.append(metrics | timeless)
        if rollouts.at_boundary and folder is not None and at is None:
            save_snapshot(folder, learner, {"stream": rollouts.state_dict()})

    train(learner, rollouts, objective, steps=steps, hooks=[hook])
    return curve, {n: x.clone() for n, x in model.state_dict().items()}, rollouts


@pytest.mark.parametrize("precision", ["fp32", "bf16-weights"])
@pytest.mark.parametrize("kind", ["grpo", "ppo"])
def test_resumed_is_never_stopped(kind, precision, tmp_path):
    curve, weights, whole = run(kind, 12, precision=precision)
    run(kind, 6, tmp_path, precision=precision)
    later, same, resumed = run(kind, 12, tmp_path, at=6, precision=precision)
    assert later == curve[6:]
    for name, x in weights.items():
        assert torch.equal(same[name], x), name
    assert resumed.state_dict() == whole.state_dict()
    assert whole.number == 6
    assert whole.length.cap != 6


def test_equal_seeds_give_equal_curves_and_others_do_not():
    assert run("grpo", 4)[0] == run("grpo", 4)[0]
    assert run("grpo", 4)[0] != run("grpo", 4, seed=1)[0]


def test_inside_a_rollout_there_is_nothing_to_save():
    rollouts = grpo_rollouts(eager_to_stop(), minibatches=2)
    assert rollouts.at_boundary
    start = rollouts.state_dict()
    assert start["prompts"]["index"] == start["number"] == 0
    next(rollouts)
    assert not rollouts.at_boundary
    with pytest.raises(ValueError, match="rollout 1 has 1 batches left"):
        rollouts.state_dict()
    next(rollouts)
    assert rollouts.at_boundary
    json.dumps(rollouts.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed was 0"),
        ({"group": 2}, "group was 4"),
        ({"sampling": Sampling(0.9)}, "temperature was 1.0"),
    ],
)
def test_a_position_of_other_rollouts_is_refused(changes, message):
    state = grpo_rollouts(tiny_policy()).state_dict()
    with pytest.raises(UserError, match=message):
        grpo_rollouts(tiny_policy(), **changes).load_state_dict(state)


# ------------------------------------------------------------------------- refusals


def free() -> CriticBaseline:
    return CriticBaseline(FixedKL(0.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": Sampling(1.0, top_k=3)}, "top_k = 3"),
        ({"max_new_tokens": 20}, "max_seq_len = 24"),
        ({"minibatches": 3}, "16 rows are no multiple of minibatches = 3"),
        ({"minibatches": 4, "accumulate": 8}, "accumulate = 8"),
        ({"baseline": free()}, "the model has none"),
        ({"reference": None, "max_new_tokens": RolloutLength(3, 2, 4, 1.0)}, "KL is"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        grpo_rollouts(tiny_policy(), **changes)


def test_the_last_token_is_never_read_so_one_more_fits():
    grpo_rollouts(tiny_policy(), max_new_tokens=19)


def test_a_reference_must_be_there_if_it_costs_and_be_another_model():
    model = actor_critic(tiny_policy())
    with pytest.raises(UserError, match="no reference"):
        ppo_rollouts(model, reference=None)
    next(ppo_rollouts(model, reference=None, baseline=free()))
    with pytest.raises(UserError, match="the policy itself"):
        ppo_rollouts(model, reference=model.policy)
    batch = next(grpo_rollouts(tiny_policy(), reference=None))
    assert "reference_logprobs" not in batch


@pytest.mark.parametrize("part", ["policy", "critic"])
def test_dropout_is_refused(part):
    noisy = tiny_policy(dropout=0.1)
    model = actor_critic(tiny_policy())
    if part == "policy":
        model.policy = noisy
    else:
        model.critic = Scorer(noisy)
    with pytest.raises(UserError, match=r"dropout = 0\.1"):
        ppo_rollouts(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 0}, "group = 0"),
        ({"epochs": 0}, "epochs = 0"),
        ({"minibatches": 0}, "minibatches = 0"),
        ({"accumulate": 0}, "accumulate = 0"),
        ({"redraw": -1}, "redraw = -1"),
        ({"redraw": 1}, "a group of one"),
        ({"stop_kl": 0.0}, "stop_kl = 0.0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        RolloutOptions(**options)


def test_prompts_of_other_ranks_are_refused():
    prompts = PromptStream(
        [Prompt(({"role": "user", "content": "a"},), "a", "a")],
        TOKENIZER,
        batch=4,
        length=6,
        world=2,
    )
    with pytest.raises(ValueError, match="2 ranks, not 1"):
        grpo_rollouts(tiny_policy(), prompts=prompts)
