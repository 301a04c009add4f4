"""Rollouts as a stream: sampled, scored, dealt out in minibatches, and begun anew."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.layout import answers_laid_out, ends_of
from folio.data.order import check_state
from folio.data.prompts import PromptStream
from folio.data.rows import pad_id
from folio.data.shuffle import key_of, shuffled
from folio.data.verifiers import Verifier
from folio.infer.sampling import Sampling
from folio.model.decoder import Decoder
from folio.model.scorer import ActorCritic
from folio.objectives.logprobs import largest_ratio, respond_again
from folio.rl.baseline import Baseline
from folio.rl.control import RolloutLength
from folio.rl.ranks import filled_by_ranks
from folio.rl.rewards import Reward
from folio.rl.rollout import Response, Rollout, as_rows
from folio.rl.sampler import Sampler
from folio.runtime import data_world

PLAIN = Sampling()
NOT_MOVED = 1e-3  # nats per token before a first step; bf16 rounds to 7e-6 at most
FRUITLESS = 3  # rollouts in a row with nothing to learn from, before we give up


@dataclass(frozen=True)
class RolloutOptions:
    """How much is sampled, and how often and in what parts it is learned from."""

    group: int = 1  # responses to each prompt
    epochs: int = 1  # times that a rollout is gone through
    minibatches: int = 1  # updates in each epoch
    accumulate: int = 1  # batches in each update, as `train` is told
    redraw: int = 0  # rounds of new prompts for groups that teach nothing
    stop_kl: float | None = None  # nats per token from old to new; 1.5 times it stops
    seed: int = 0

    @property
    def updates(self) -> int:
        """Of each rollout, unless they stop early."""
        return self.epochs * self.minibatches

    def __post_init__(self) -> None:
        for name in ("group", "epochs", "minibatches", "accumulate"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)}: must be at least 1")
        if self.redraw < 0:
            raise UserError(f"redraw = {self.redraw}: must be 0 or more")
        if self.redraw and self.group == 1:
            raise UserError(
                f"redraw = {self.redraw}: a group of one has no difference to look"
                " for; use a larger group, or 0"
            )
        if self.stop_kl is not None and not self.stop_kl > 0:
            raise UserError(
                f"stop_kl = {self.stop_kl}: must be above 0 nats, or left out"
            )


class Rollouts:
    """Endless batches, for `train`, of what the policy itself says.

    Each rollout: responses to the next prompts are sampled by the model as it now is,
    judged, and scored by the forward of the training; `baseline` makes advantages of
    that. (Where there is but one update, the objective scores in passing.) Then come
    `epochs` times `minibatches` times `accumulate` batches, in an order that depends on
    (seed, number of the rollout, epoch) alone, and then the next one.

    Each rank samples and judges its own prompts. Then all of them hold the whole
    rollout, so that all compute the same advantages and prices, and each takes its
    share of every minibatch: two ranks are one.

    `metrics` tell of the newest rollout: rewards, lengths, unfinished and gold of all
    responses that were drawn, the rest of those that are learned from. Call
    `after_update` after each update, and save only `at_boundary`, that is between two
    rollouts: a resumed run samples the same as one that was never stopped.

    max_new_tokens: END included; a `RolloutLength` changes it between rollouts. gold:
    what is really wanted, measured and not learned from; a learned reward that rises
    while it falls is being cheated. reference: the policy that KL is measured from, a
    copy that nobody trains. autocast: the precision of the training, if it isn't fp32.
    refresh: brings `model` up to date, if it follows the weights that learn.
    """

    def __init__(
        self,
        model: Decoder | ActorCritic,
        prompts: PromptStream,
        reward: Reward,
        baseline: Baseline,
        options: RolloutOptions,
        *,
        max_new_tokens: int | RolloutLength,
        sampling: Sampling = PLAIN,
        reference: Decoder | None = None,
        gold: Verifier | None = None,
        max_batch: int = 128,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        refresh: Callable[[], None] = lambda: None,
    ):
        policy = model.policy if isinstance(model, ActorCritic) else model
        if not isinstance(max_new_tokens, RolloutLength):
            fixed = max_new_tokens
            max_new_tokens = RolloutLength(fixed, fixed, fixed, target=1.0)
        self.model, self.reference = model, reference
        self.autocast, self.refresh = autocast, refresh
        self.prompts, self.temperature = prompts, sampling.temperature
        self.baseline, self.options, self.length = baseline, options, max_new_tokens
        self.sampler = Sampler(
            policy,
            prompts,
            reward,
            group=options.group,
            sampling=sampling,
            gold=gold,
            seed=options.seed,
            max_batch=max_batch,
        )
        self.number = 0  # rollouts so far
        self.updates = 0  # of the newest one
        self.metrics: dict[str, float] = {}
        self.rollout: Rollout | None = None
        self._tensors: dict[str, Tensor] = {}  # of the rollout, as batches have them
        self._left: deque[Tensor] = deque()  # rows of each batch to come
        self._check(policy)

    def _check(self, policy: Decoder) -> None:
        """Raise a UserError for parts that don't fit together."""
        check_no_dropout(self.model)
        config, prompts, options = policy.config, self.prompts, self.options
        if prompts.world != data_world():
            raise ValueError(f"prompts for {prompts.world} ranks, not {data_world()}")
        rows, parts = prompts.batch * options.group, options.minibatches
        if rows % (parts * options.accumulate):
            raise UserError(
                f"{prompts.batch} prompts times group = {options.group}: {rows} rows"
                f" are no multiple of minibatches = {parts} times accumulate ="
                f" {options.accumulate}"
            )
        longest = prompts.length + self.length.most - 1  # the last one is never read
        if longest > config.max_seq_len:
            raise UserError(
                f"prompts of {prompts.length} and {self.length.most} new tokens are"
                f" longer than max_seq_len = {config.max_seq_len}; shorten one of them"
            )
        if self.baseline.needs_critic and not isinstance(self.model, ActorCritic):
            raise UserError("the baseline is a critic, and the model has none")
        if self.reference is policy:
            raise UserError(
                "the reference is the policy itself, and KL would stay 0: give a copy"
            )
        steered = self.length.least < self.length.most
        if self.reference is None and (steered or self.baseline.needs_reference):
            raise UserError("KL is to be measured, but there is no reference")

    # ------------------------------------------------------------------- the stream

    def __iter__(self) -> Rollouts:
        return self

    def __next__(self) -> Batch:
        fruitless = 0
        while not self._left:
            if fruitless == FRUITLESS:
                raise UserError(
                    f"max_new_tokens = {self.length.tokens}: no response of"
                    f" {FRUITLESS} rollouts ended before it; allow more"
                )
            self._begin()
            fruitless += 1
        return self._batch(self._left.popleft())

    @property
    def at_boundary(self) -> bool:
        """Whether the rollout is used up, so that a snapshot can be taken."""
        return not self._left

    def after_update(self, metrics: dict[str, float]) -> None:
        """To be told of every update: ends a rollout that the policy has left behind.

        Raises ValueError if the policy seems to have moved before the first update:
        then the objective reads another distribution than the one sampled from.
        """
        self.updates += 1
        self.metrics["updates"] = self.updates
        kl = metrics["approx_kl"] / metrics.get("filled", 1.0)
        if self.updates == 1 and not kl < NOT_MOVED:
            raise ValueError(
                f"approx_kl = {kl:.3g} before the first step on a rollout: old and new"
                " log-probs are of different distributions; give the objective the"
                f" temperature of the sampling, {self.temperature}, and the rollouts"
                " the precision of the training"
            )
        limit = self.options.stop_kl
        if self.updates > 1 and limit is not None and kl > 1.5 * limit:
            self._left.clear()

    def largest_ratio(self) -> float:
        """The largest new / old of the newest rollout, by the weights as they are.

        As dear as a third of an update; all ranks must ask at once.
        """
        rollout = self.rollout
        if rollout is None:
            return 1.0
        rows = (rollout.inputs, rollout.targets, rollout.weights)
        self.refresh()
        new, _ = self._read(self.model, *rows)
        return largest_ratio(new, rollout.old_logprobs, rollout.learned).item()

    def state_dict(self) -> dict[str, Any]:
        """All that must be remembered between two rollouts (JSON).

        Raises ValueError inside of one: what is left of it is in no snapshot.
        """
        if not self.at_boundary:
            raise ValueError(
                f"rollout {self.number} has {len(self._left)} batches left; save at a"
                " boundary"
            )
        return {
            "prompts": self.prompts.state_dict(),
            "number": self.number,
            "length": self.length.state_dict(),
            "baseline": self.baseline.state_dict(),
            "seed": self.options.seed,
            "group": self.options.group,
            "temperature": self.temperature,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind a rollout; the number of ranks may have changed."""
        moves = {"prompts", "number", "length", "baseline"}
        check_state(state, self.state_dict(), moves)
        self.prompts.load_state_dict(state["prompts"])
        self.length.load_state_dict(state["length"])
        self.baseline.load_state_dict(state["baseline"])
        self.number = int(state["number"])

    # ------------------------------------------------------------------ one rollout

    def _begin(self) -> None:
        """Sample, judge, score; steer what is steered; lay out the batches."""
        start, cap = time.perf_counter(), self.length.tokens
        self.number += 1
        self.refresh()
        drawn = self.sampler.draw(self.length, self.options.redraw)
        rollout = self._score(drawn.kept)
        lesson = self.baseline.lesson(rollout)
        if rollout.kl is not None:
            self.length.update(rollout.kl[0])
        self.rollout, self.updates = rollout, 0
        self._tensors = rollout.tensors | lesson.tensors
        for epoch in range(self.options.epochs):
            for part in self._parts(epoch):  # (accumulate, world, rows)
                if rollout.learned[part.flatten()].any():
                    self._left.extend(part[:, self.prompts.rank])
        seconds = time.perf_counter() - start
        tokens = sum(len(response.ids) for response in drawn.everything)
        self.metrics = {
            **about_responses(drawn.everything),
            **about_rollout(rollout),
            **lesson.metrics,
            "redrawn": float(drawn.rounds),
            "max_new_tokens": float(cap),
            "rollout_seconds": seconds,
            "rollout_tokens_per_second": tokens / seconds,
        }

    def _score(self, responses: Sequence[Response]) -> Rollout:
        """Log-probs and values by the forward of the training, without dropout."""
        rows = as_rows(responses, pad_id(self.prompts.tokenizer))
        scored = self.baseline.needs_scores or self.options.updates > 1
        old, values = rows.logprobs, None
        if scored:
            old, values = self._read(self.model, *rows[:3])
        reference = None
        if self.reference is not None:
            reference, _ = self._read(self.reference, *rows[:3])
        finished = torch.tensor([r.finished for r in responses])
        return Rollout(
            prompts=[r.prompt for r in responses],
            texts=[r.text for r in responses],
            group=self.options.group,
            inputs=rows.inputs,
            targets=rows.targets,
            weights=rows.weights,
            finished=finished,
            counts=self.length.counts(finished),
            rewards=torch.tensor([r.reward for r in responses]),
            sampler_logprobs=rows.logprobs,
            old_logprobs=old,
            scored=scored,
            reference_logprobs=reference,
            values=values,
        )

    @torch.no_grad()
    def _read(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probs of the responses and values, in the batches of the first epoch.

        The same rows beside one another, padded alike: so the first ratio is exactly
        1, and no more memory is needed than for an update.
        """
        weight = next(model.parameters())
        dtype = torch.promote_types(weight.dtype, torch.float32)
        logprobs = torch.zeros(inputs.shape, dtype=dtype, device=weight.device)
        values = torch.zeros_like(logprobs) if isinstance(model, ActorCritic) else None
        was_training = model.training
        model.eval()
        try:
            for share in self._parts(0)[:, :, self.prompts.rank].flatten(0, 1):
                here = share, slice(int(ends_of(weights[share]).max()))
                rows = {"inputs": inputs[here], "targets": targets[here]}
                laid = answers_laid_out(inputs[here], weights[here])
                batch = Batch(1, weights=weights[here], **rows, **laid)
                batch = batch.to(weight.device)
                with self.autocast():
                    output = respond_again(model, batch, self.temperature)
                logprobs[here] = output.logprobs.to(dtype)
                if values is not None:
                    values[here] = output.values.to(dtype)
        finally:
            model.train(was_training)
        logprobs = filled_by_ranks(logprobs).cpu()
        return logprobs, None if values is None else filled_by_ranks(values).cpu()

    def _parts(self, epoch: int) -> Tensor:
        """Rows of each batch: (minibatches, accumulate, ranks, rows).

        Which groups meet is left to chance. A group stays together as far as it can,
        so that its prompt is read once.
        """
        options, prompts = self.options, self.prompts
        count = prompts.batch * prompts.world
        key = key_of(options.seed, self.number, epoch)
        groups = torch.from_numpy(shuffled(np.arange(count), count, key))
        rows = groups[:, None] * options.group + torch.arange(options.group)
        return rows.view(options.minibatches, options.accumulate, prompts.world, -1)

    def _batch(self, rows: Tensor) -> Batch:
        """These rows of the rollout, as wide as the longest of them."""
        width = int(ends_of(self.rollout.weights[rows]).max())
        mask = self.rollout.learned[rows, :width]
        weights, denominator = self.baseline.weigh(mask)
        cut = {
            name: x[rows, :width] if x.ndim > 1 else x[rows]
            for name, x in self._tensors.items()
        }
        laid = answers_laid_out(cut["inputs"], self.rollout.weights[rows, :width])
        return Batch(denominator, weights=weights, **cut, **laid)


def about_responses(drawn: Sequence[Response]) -> dict[str, float]:
    """Means over everything that was drawn, redrawn groups and all.

    What redrawing leaves over is neither all right nor all wrong, so its mean would
    stand still while the policy learns.
    """
    rewards = torch.tensor([r.reward for r in drawn])
    lengths = [len(r.ids) for r in drawn]
    return {
        "reward": rewards.mean().item(),
        "reward_std": rewards.std(correction=0).item(),
        **{name: fmean(r.measures[name] for r in drawn) for name in drawn[0].measures},
        "length_mean": fmean(lengths),
        "length_max": float(max(lengths)),
        "unfinished": fmean(not r.finished for r in drawn),
    }


def about_rollout(rollout: Rollout) -> dict[str, float]:
    """What its log-probs say."""
    found = {}
    if rollout.scored:
        found["sampler_difference"] = rollout.sampler_difference
    if rollout.kl is not None:
        found["kl_sequence"], found["kl_token"] = rollout.kl
    return found


def check_no_dropout(model: nn.Module) -> None:
    """Raise a UserError where the ratio of new to old would measure dropout.

    Old log-probs are without it. With it in training, the ratio is not 1 before the
    first step, and the clip throws tokens away by chance.
    """
    for name, module in model.named_modules():
        share = getattr(module, "dropout", None)
        if isinstance(module, nn.Dropout):
            share = module.p
        if isinstance(share, float) and share > 0:
            raise UserError(
                f"dropout = {share} ({name}): ratios would measure dropout; load the"
                " model with dropout = 0"
            )
