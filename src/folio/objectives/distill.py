"""Learn a teacher's whole distribution, not only the token that was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.layout import respond
from folio.objectives.logprobs import add_router_loss, kept


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) in nats over the last dimension; what p excludes adds nothing.

    >>> p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    >>> kl_divergence(p.log(), q.log())
    tensor(0.3466)
    """
    possible = log_p > -torch.inf
    zero = torch.zeros_like(log_p)
    difference = torch.where(possible, log_p, zero) - torch.where(possible, log_q, zero)
    return (torch.where(possible, log_p.exp(), zero) * difference).sum(-1)


def with_rest(logprobs: Tensor) -> Tensor:
    """One more entry: all tokens that are not among these. (..., K) -> (..., K+1).

    So a teacher's top k is a distribution, and the student may not put the rest of its
    own mass anywhere for free; renormalising the k would let it. Rounding may leave
    nothing: the floor is fp32's last digit.

    >>> with_rest(torch.tensor([0.5, 0.3]).log()).exp()
    tensor([0.5000, 0.3000, 0.2000])
    """
    rest = 1 - logprobs.exp().sum(-1, keepdim=True)
    return torch.cat([logprobs, rest.clamp(min=2**-23).log()], dim=-1)


@dataclass(frozen=True)
class Distill:
    """KL between teacher and student, summed over weighted tokens.

    "forward" is KL(teacher ‖ student): the student covers all that the teacher may say
    (Hinton et al. 2015). "reverse" is KL(student ‖ teacher): a student too small for
    that keeps to what the teacher finds likely (Gu et al. 2023, MiniLLM).

    batch: inputs, targets, weights (B, T), and of the teacher either teacher_logits
    (B, T, V), or the k largest: teacher_logprobs and teacher_ids (B, T, k), at the same
    temperature. Gradients shrink with its square, so the loss is multiplied by it.
    """

    direction: Literal["forward", "reverse"] = "forward"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.direction not in ("forward", "reverse"):
            raise UserError(
                f"direction = {self.direction!r}: choose forward or reverse"
            )
        if not self.temperature > 0:
            raise UserError(f"temperature = {self.temperature}: must be above 0")

    def __call__(
        self, model: nn.Module, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        output = respond(model, batch)
        student = self.logprobs(output.logits)
        if "teacher_logits" in batch:
            teacher = self.logprobs(batch.teacher_logits)
        else:
            teacher, student = self.largest(batch, student)
        pair = (teacher, student)
        if self.direction == "reverse":
            pair = (student, teacher)
        weights = batch.weights
        divergence = (kept(kl_divergence(*pair), weights) * weights).sum()
        loss = self.temperature**2 * divergence
        return add_router_loss(loss, {"kl": divergence}, output, weights.sum(1))

    def logprobs(self, logits: Tensor) -> Tensor:
        """Logits -> log-probabilities at the temperature, in fp32 or better."""
        if logits.dtype in (torch.bfloat16, torch.float16):
            logits = logits.float()
        return (logits / self.temperature).log_softmax(-1)

    def largest(self, batch: Batch, student: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher and student on the teacher's k tokens and the rest (B, T, k+1)."""
        ids, teacher = batch.teacher_ids, batch.teacher_logprobs
        chosen = student.gather(-1, ids)
        if ids.shape[-1] == student.shape[-1]:  # there is no rest
            return teacher, chosen
        return with_rest(teacher), with_rest(chosen)
