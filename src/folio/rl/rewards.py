"""What a response is worth: what can be checked, what a model thinks, or both.

A reward is asked of many responses at once: (prompts, texts, finished) -> (N,), where a
text is what stands before END, and finished says whether END came. Nothing that might
follow END can be seen, so nothing there can be paid for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from folio.config import UserError
from folio.data.records import Prompt, Say
from folio.data.rows import encode, make_row, pad_id
from folio.data.verifiers import Verifier, verify
from folio.model.scorer import Scorer, score_rows
from folio.rl.kl import punish_unfinished
from folio.rl.ranks import of_all_ranks
from folio.text.tokenizer import Tokenizer

Reward = Callable[[Sequence[Prompt], Sequence[str], Sequence[bool]], Tensor]


class VerifierReward:
    """A verifier, asked of each response; what it says of unfinished ones holds."""

    def __init__(self, verifier: Verifier):
        self.verifier = verifier

    def __call__(
        self, prompts: Sequence[Prompt], texts: Sequence[str], finished: Sequence[bool]
    ) -> Tensor:
        return torch.tensor(
            [
                verify(self.verifier, *asked)
                for asked in zip(prompts, texts, finished, strict=True)
            ]
        )


class ModelReward:
    """A reward model's score at the END of the assistant's turn, calibrated.

    That is (score - mean) / deviation, so that a reward of 1 is one deviation better
    than usual, whatever the model's own scale is. A row without END is never shown to
    the model, which has seen none in its training: it gets the lowest score of the
    rollout less `penalty`, or -penalty if no row has ended. The lowest is that of all
    ranks, so all of them must ask together.

    Batches hold texts of like length; padding changes nothing. The model is left as it
    was, without gradients. A text that is longer than its context loses its beginning;
    `say` is told of the first.
    """

    def __init__(
        self,
        scorer: Scorer,
        tokenizer: Tokenizer,
        penalty: float = 1.0,
        max_batch: int = 64,
        say: Say = print,
    ):
        if not 0 <= penalty < math.inf:
            raise UserError(f"penalty = {penalty}: must be 0 or more")
        self.scorer, self.tokenizer = scorer, tokenizer
        self.penalty, self.max_batch = penalty, max_batch
        self.say, self.told = say, False

    def __call__(
        self, prompts: Sequence[Prompt], texts: Sequence[str], finished: Sequence[bool]
    ) -> Tensor:
        ended = torch.tensor([bool(f) for f in finished])
        scores = torch.zeros(len(texts))
        rows = [
            self._ids(prompt, text)
            for prompt, text, end in zip(prompts, texts, finished, strict=True)
            if end
        ]
        scores[ended] = self._calibrated(rows)
        lowest = of_all_ranks(scores[ended].min()[None].tolist() if rows else [])
        floor = min(lowest, default=None)
        return punish_unfinished(scores, ended, self.penalty, floor)

    def _ids(self, prompt: Prompt, text: str) -> list[int]:
        """The conversation up to the END of the response, its newest part if long."""
        said = [*prompt.messages, {"role": "assistant", "content": text}]
        ids = make_row(*encode(said, self.tokenizer, prompt.where)).ids.tolist()
        limit = self.scorer.shape.max_seq_len
        if len(ids) > limit and not self.told:
            self.told = True
            self.say(
                f"the reward model reads {limit} tokens: texts of more, such as one of"
                f" {len(ids)}, lose their beginning"
            )
        return ids[-limit:]

    def _calibrated(self, rows: Sequence[Sequence[int]]) -> Tensor:
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        scores = torch.zeros(len(rows))
        for first in range(0, len(rows), self.max_batch):
            group = by_length[first : first + self.max_batch]
            chosen = [rows[i] for i in group]
            scores[group] = score_rows(self.scorer, chosen, pad_id(self.tokenizer))
        config = self.scorer.config
        return (scores - config.mean) / config.deviation


class MixedReward:
    """Several rewards, weighted and added; each is logged by its name as well.

    A mean that rises may hide a part that falls: a learned reward goes up while what
    can be checked goes down.
    """

    def __init__(self, terms: Sequence[tuple[float, Reward, str]]):
        names = [name for _, _, name in terms]
        if not names or len(set(names)) < len(names):
            raise UserError(f"rewards {names}: give at least one, and distinct names")
        for weight, _, name in terms:
            if not math.isfinite(weight):
                raise UserError(f"the weight of reward {name!r} is {weight}")
        self.terms = tuple(terms)

    def __call__(
        self, prompts: Sequence[Prompt], texts: Sequence[str], finished: Sequence[bool]
    ) -> Tensor:
        return self.total(self.parts(prompts, texts, finished))

    def parts(
        self, prompts: Sequence[Prompt], texts: Sequence[str], finished: Sequence[bool]
    ) -> dict[str, Tensor]:
        """Each reward by its name, not weighted: (N,)."""
        return {
            name: checked(reward(prompts, texts, finished), prompts, texts, name)
            for _, reward, name in self.terms
        }

    def total(self, parts: dict[str, Tensor]) -> Tensor:
        return sum(weight * parts[name] for weight, _, name in self.terms)


def judge(
    reward: Reward,
    prompts: Sequence[Prompt],
    texts: Sequence[str],
    finished: Sequence[bool],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The reward of each response (N,), and the parts of a mixed one by name.

    Raises a UserError naming the prompt if one of them is not a finite number.
    """
    parts: dict[str, Tensor] = {}
    if isinstance(reward, MixedReward):
        parts = reward.parts(prompts, texts, finished)
        found = reward.total(parts)
    else:
        found = reward(prompts, texts, finished)
    return checked(found, prompts, texts, "the reward"), parts


def checked(
    found: Tensor, prompts: Sequence[Prompt], texts: Sequence[str], name: str
) -> Tensor:
    """`found` as (N,) in fp32 on the host, if it is that many finite numbers."""
    found = torch.as_tensor(found).detach().float().cpu()
    if found.shape != (len(texts),):
        raise UserError(
            f"{name} returned a tensor of shape {tuple(found.shape)} for {len(texts)}"
            " responses; it must give one number for each"
        )
    bad = (~found.isfinite()).nonzero()
    if len(bad):
        i = int(bad[0])
        where = f"{prompts[i].where}: " if prompts[i].where else ""
        raise UserError(
            f"{where}{name} returned {found[i].item()} for the prompt"
            f" {prompts[i].text[:120]!r}; the response was {texts[i][:120]!r}"
        )
    return found
