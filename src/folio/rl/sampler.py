"""Responses to prompts: sampled, judged, drawn again where they teach nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from folio.config import UserError
from folio.data.prompts import Asked, PromptStream
from folio.data.verifiers import Verifier, verify
from folio.infer.engine import Engine
from folio.infer.request import Completion, Request
from folio.infer.sampling import Sampling
from folio.model.decoder import Decoder
from folio.rl.advantage import dead_groups
from folio.rl.control import RolloutLength
from folio.rl.ranks import of_all_ranks
from folio.rl.rewards import Reward, judge
from folio.rl.rollout import Response

AT_ONCE = 2048  # tokens of prompts in one step: nobody waits for a first token here


class Drawn(NamedTuple):
    """Responses of all ranks, in the order of their prompts; groups stay together."""

    everything: Sequence[Response]
    kept: Sequence[Response]  # to learn from
    rounds: int  # of new prompts, beyond the first


class Sampler:
    """`group` responses to each of the next prompts, from the policy as it now is.

    Chances depend on the seed and the prompt's place in the training, so they are the
    same for any number of ranks, and after resuming. Only the temperature may differ
    from plain sampling: under a cut, or a penalty, a token has another probability
    than the policy gives it, and every ratio would be biased.
    """

    def __init__(
        self,
        policy: Decoder,
        prompts: PromptStream,
        reward: Reward,
        *,
        group: int,
        sampling: Sampling,
        gold: Verifier | None,
        seed: int,
        max_batch: int,
    ):
        check_sampling(sampling)
        self.engine = Engine(
            policy, prompts.tokenizer, max_batch=max_batch, chunk=AT_ONCE
        )
        self.prompts, self.reward, self.gold = prompts, reward, gold
        self.group, self.sampling, self.seed = group, sampling, seed

    def draw(self, length: RolloutLength, redraw: int = 0) -> Drawn:
        """A rollout's responses, END included in at most `length.tokens` tokens.

        Dynamic sampling (Yu et al. 2025, DAPO): where all rewards of a group are equal,
        a live group of a new round of prompts takes its place, for `redraw` rounds at
        most. What they could not fill stays dead.
        """
        kept = everything = self.round(length.tokens)
        dead, rounds = self._dead(kept, length), 0
        while dead and rounds < redraw:
            new, rounds = self.round(length.tokens), rounds + 1
            everything = everything + new
            none, size = set(self._dead(new, length)), self.group
            for live in [g for g in range(len(new) // size) if g not in none]:
                if dead:
                    place = dead.pop(0) * size
                    fresh = new[live * size : (live + 1) * size]
                    kept = [*kept[:place], *fresh, *kept[place + size :]]
        return Drawn(everything, kept, rounds)

    def _dead(self, responses: Sequence[Response], length: RolloutLength) -> list[int]:
        """Groups that teach nothing."""
        rewards = torch.tensor([r.reward for r in responses])
        counts = length.counts(torch.tensor([r.finished for r in responses]))
        return dead_groups(rewards, self.group, counts).nonzero().flatten().tolist()

    def round(self, max_new_tokens: int) -> list[Response]:
        """Responses to the next prompts, of all ranks."""
        said = self._complete(next(self.prompts), max_new_tokens)
        prompts = [ask.prompt for ask, _ in said]
        texts = [completion.text for _, completion in said]
        finished = [completion.finish == "stop" for _, completion in said]
        rewards, parts = judge(self.reward, prompts, texts, finished)
        measures = {f"reward_{name}": part.tolist() for name, part in parts.items()}
        if self.gold is not None:
            answers = zip(prompts, texts, finished, strict=True)
            measures["gold"] = [verify(self.gold, *answer) for answer in answers]
        mine = [
            Response(
                prompt=ask.prompt,
                prompt_ids=ask.ids,
                ids=completion.ids,
                logprobs=completion.logprobs,
                text=completion.text,
                finished=finished[i],
                reward=rewards[i].item(),
                measures={name: values[i] for name, values in measures.items()},
            )
            for i, (ask, completion) in enumerate(said)
        ]
        return of_all_ranks(mine)

    def _complete(
        self, asked: Sequence[Asked], max_new_tokens: int
    ) -> list[tuple[Asked, Completion]]:
        """Each answer beside its prompt. The engine stops at END: none goes on."""
        requests = [
            Request(
                ask.ids,
                max_new_tokens,
                self.sampling,
                seed=(self.seed << 40) + ask.place,
                n=self.group,
            )
            for ask in asked
        ]
        handles, policy = [], self.engine.model
        was_training = policy.training
        policy.eval()  # once: engines switch back and forth at every step
        try:
            handles += map(self.engine.submit, requests)
            said = [
                (ask, completion)
                for ask, handle in zip(asked, handles, strict=True)
                for completion in handle.result()
            ]
        finally:
            for handle in handles:
                handle.cancel()
            policy.train(was_training)
        for _, completion in said:
            if completion.error is not None:
                raise RuntimeError(f"rollout: {completion.error}")
        return said


def check_sampling(sampling: Sampling) -> None:
    """Raise a UserError unless log-probs of the samples are those of the policy."""
    if sampling.temperature == 0:
        raise UserError(
            "temperature = 0.0: greedy responses are all alike and nothing is learned"
            " from them; sample at 1.0"
        )
    plain = Sampling(sampling.temperature)
    for name in ("top_k", "top_p", "min_p", "repetition_penalty"):
        value = getattr(sampling, name)
        if value != getattr(plain, name):
            raise UserError(
                f"{name} = {value}: reinforcement learning samples from the policy"
                " itself; cut or penalized, ratios and KL are biased; leave it out"
            )
