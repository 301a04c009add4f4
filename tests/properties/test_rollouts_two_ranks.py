"""Two ranks = one: responses, rewards, advantages, prices, and what is learned."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from folio.data.prompts import PromptStream
from folio.model.scorer import Scorer
from folio.objectives.grpo import GRPO
from folio.objectives.ppo import PPO
from folio.rl.baseline import CriticBaseline, GroupBaseline
from folio.rl.control import AdaptiveKL, RolloutLength, RunningScale
from folio.rl.rewards import MixedReward, ModelReward, VerifierReward
from folio.runtime import init_distributed
from folio.training.learner import Learner
from helpers import free_port
from rl.letters import (
    PROMPTS,
    TOKENIZER,
    actor_critic,
    eager_to_stop,
    grpo_rollouts,
    letter,
    ppo_rollouts,
    tiny_policy,
)

pytestmark = pytest.mark.multi


def mixed_reward() -> MixedReward:
    """Of a verifier and a model, which asks what the worst of all ranks is."""
    scorer = Scorer(tiny_policy(7))
    torch.nn.init.normal_(scorer.value_head.weight, std=3.0)
    model = ModelReward(scorer, TOKENIZER)
    return MixedReward([(1.0, VerifierReward(letter), "letter"), (0.5, model, "model")])


def learn(kind: str, rank: int, world: int):
    """4 rollouts by one of `world` ranks: metrics of each update, weights."""
    policy, accumulate = eager_to_stop(), 4 // world
    options = {
        "prompts": PromptStream(
            PROMPTS, TOKENIZER, batch=8 // world, length=6, rank=rank, world=world
        ),
        "reward": mixed_reward(),
        "gold": letter,
        "max_new_tokens": RolloutLength(6, 3, 8, 1e-3),
        "accumulate": accumulate,
        "minibatches": 2,
    }
    if kind == "grpo":
        model, objective = policy, GRPO()
        baseline = GroupBaseline(aggregation="sequence")
        rollouts = grpo_rollouts(model, redraw=1, baseline=baseline, **options)
    else:
        model, objective = actor_critic(policy), PPO(value_clip=0.5)
        baseline = CriticBaseline(AdaptiveKL(0.1, 1e-3, 100), scale=RunningScale())
        rollouts = ppo_rollouts(
            model, baseline=baseline, epochs=2, **options | {"minibatches": 1}
        )
    # Adam would blow the rounding of a gradient that is all but 0 up to a whole step
    learner = Learner(model, torch.optim.SGD(model.parameters(), lr=0.05))
    curve, said = [], []
    while rollouts.number < 4 or not rollouts.at_boundary:
        batches = [next(rollouts) for _ in range(accumulate)]
        metrics = learner.update(batches, objective)
        rollouts.after_update(metrics)
        told = {n: x for n, x in rollouts.metrics.items() if "second" not in n}
        curve.append(metrics | told)
        said.append(rollouts.rollout.texts)
    told = {"curve": curve, "said": said, "state": rollouts.state_dict()}
    return told, {n: x.clone() for n, x in model.state_dict().items()}


def one_rank(rank: int, port: int, folder: str, kind: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    init_distributed()
    try:
        told, tensors = learn(kind, rank, 2)
        save_file(tensors, f"{folder}/{rank}.st")
        with open(f"{folder}/{rank}.json", "w") as file:
            json.dump(told, file)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["grpo", "ppo"])
def test_two_ranks_are_one(kind, tmp_path):
    wanted, tensors = learn(kind, 0, 1)
    torch.multiprocessing.spawn(one_rank, (free_port(), str(tmp_path), kind), nprocs=2)
    assert wanted["curve"][-1]["max_new_tokens"] != 6
    assert any(0 < told["unfinished"] < 1 for told in wanted["curve"])
    both = []
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found["said"] == wanted["said"]
        state = found["state"]
        assert state["prompts"] == wanted["state"]["prompts"]
        assert state["length"] == wanted["state"]["length"]
        assert len(found["curve"]) == len(wanted["curve"])
        for theirs, ours in zip(found["curve"], wanted["curve"], strict=True):
            assert theirs == pytest.approx(ours, rel=1e-3, abs=1e-5)
        weights = load_file(tmp_path / f"{rank}.st")
        for name, x in tensors.items():
            torch.testing.assert_close(weights[name], x, rtol=2e-3, atol=2e-4)
        both.append((found["curve"], state, weights))
    assert both[0][:2] == both[1][:2]  # to the bit
    for name, x in both[0][2].items():
        assert torch.equal(x, both[1][2][name]), name
