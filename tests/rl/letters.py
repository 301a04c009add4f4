"""The smallest real rollouts: a decoder that is to answer with the letter asked for.

Prompts are "a?", "b?", ...; half of the reward is for beginning with the letter, the
other half for ending, too. Of 12 tokens one is right, so chance earns less than 0.1.
"""

import copy

import torch

from folio.data.prompts import PromptStream
from folio.data.records import Prompt
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.scorer import ActorCritic, Scorer
from folio.optim.adamw import adamw
from folio.rl.baseline import CriticBaseline, GroupBaseline
from folio.rl.control import FixedKL
from folio.rl.rewards import VerifierReward
from folio.rl.stream import RolloutOptions, Rollouts
from folio.text.char import CharTokenizer
from folio.training.learner import Learner

TOKENIZER = CharTokenizer("abcd?")
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


def tiny_prompts(batch: int = 4, seed: int = 0, **options) -> PromptStream:
    return PromptStream(PROMPTS, TOKENIZER, batch=batch, length=6, seed=seed, **options)


def grpo_rollouts(policy: Decoder, batch: int = 4, *, prompts=None, **changes):
    """16 responses, 4 to each prompt, unless `changes` say otherwise."""
    baseline = changes.pop("baseline", None) or GroupBaseline()
    reward = changes.pop("reward", VerifierReward(letter))
    names = RolloutOptions.__dataclass_fields__
    options = {name: changes.pop(name) for name in names if name in changes}
    return Rollouts(
        policy,
        prompts or tiny_prompts(batch, seed=options.get("seed", 0)),
        reward,
        baseline,
        RolloutOptions(**({"group": 4} | options)),
        **(
            {
                "max_new_tokens": 3,
                "reference": copy.deepcopy(getattr(policy, "policy", policy)),
            }
            | changes
        ),
    )


def ppo_rollouts(model: ActorCritic, batch: int = 16, **changes):
    """16 responses, each to a prompt of its own."""
    baseline = changes.pop("baseline", None) or CriticBaseline(FixedKL(0.01))
    return grpo_rollouts(model, batch, baseline=baseline, **({"group": 1} | changes))


def actor_critic(policy: Decoder) -> ActorCritic:
    return ActorCritic(policy, Scorer(copy.deepcopy(policy)))


def learner_of(model, lr: float = 1e-2) -> Learner:
    return Learner(model, adamw(model, lr))
