"""The smallest real rollouts: a decoder that is to answer with the letter asked for.

Prompts are "a?", "b?", ...; half of the reward is for beginning with the letter, the
other half for ending, too. Of 12 tokens one is right, so chance earns less than 0.1.
"""

import copy
from dataclasses import fields

import torch

from folio.data.prompts import PromptStream
from folio.data.records import Prompt
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.scorer import ActorCritic, Scorer
from folio.optim.adamw import adamw
from folio.rl.baseline import Baseline, CriticBaseline, GroupBaseline
from folio.rl.control import FixedKL
from folio.rl.rewards import Reward, VerifierReward
from folio.rl.stream import RolloutOptions, Rollouts
from folio.text.char import CharTokenizer
from folio.training.learner import Learner

TOKENIZER = CharTokenizer("abcd?")
END = TOKENIZER.special_id("<|end|>")
PROMPTS = [
    Prompt(({"role": "user", "content": f"{letter}?"},), letter, letter)
    for letter in "abcd"
]


def letter(prompt: Prompt, text: str, finished: bool) -> float:
    """Half for beginning with the letter, half for ending after that."""
    return text.startswith(prompt.answer) * (0.5 + 0.5 * finished)


def tiny_policy(seed: int = 0, **shape) -> Decoder:
    torch.manual_seed(seed)
    shape = {"d_model": 32, "n_layers": 1, "n_heads": 2, "max_seq_len": 24} | shape
    return Decoder(ModelConfig(vocab_size=TOKENIZER.vocab_size, **shape))


def eager_to_stop(seed: int = 0, **shape) -> Decoder:
    """END is likely after some tokens, so that lengths differ."""
    policy = tiny_policy(seed, **shape)
    policy.head.weight.data[END] *= 8
    return policy


def tiny_prompts(batch: int = 4, seed: int = 0, **options) -> PromptStream:
    return PromptStream(PROMPTS, TOKENIZER, batch=batch, length=6, seed=seed, **options)


def grpo_rollouts(
    model: Decoder | ActorCritic,
    batch: int = 4,
    *,
    prompts: PromptStream | None = None,
    reward: Reward | None = None,
    baseline: Baseline | None = None,
    **changes,
) -> Rollouts:
    """16 responses, 4 to each prompt; `changes` go to the options or the stream."""
    names = {field.name for field in fields(RolloutOptions)}
    options = {"group": 4} | {n: x for n, x in changes.items() if n in names}
    others = {name: x for name, x in changes.items() if name not in names}
    if "reference" not in others:
        others["reference"] = copy.deepcopy(getattr(model, "policy", model))
    return Rollouts(
        model,
        prompts or tiny_prompts(batch, seed=options.get("seed", 0)),
        reward or VerifierReward(letter),
        baseline or GroupBaseline(),
        RolloutOptions(**options),
        **({"max_new_tokens": 3} | others),
    )


def ppo_rollouts(model: ActorCritic, batch: int = 16, **changes) -> Rollouts:
    """16 responses, each to a prompt of its own."""
    changes = {"baseline": CriticBaseline(FixedKL(0.01)), "group": 1} | changes
    return grpo_rollouts(model, batch, **changes)


def actor_critic(policy: Decoder) -> ActorCritic:
    return ActorCritic(policy, Scorer(copy.deepcopy(policy)))


def learner_of(model, lr: float = 1e-2) -> Learner:
    return Learner(model, adamw(model, lr))
