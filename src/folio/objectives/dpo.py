"""Learn from preferences without a reward model: DPO and its relatives.

The policy is its own reward model: a response's reward is β times how much likelier
the policy makes it than the reference does (Rafailov et al. 2023, equation 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.layout import respond
from folio.objectives.logprobs import add_router_loss, row_sums
from folio.objectives.ranking import pair_accuracy, pairs

LOSSES = ("sigmoid", "robust", "hinge", "ipo", "simpo")


def sigmoid_loss(h: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(h), a share of the labels taken to be wrong (P,).

    >>> sigmoid_loss(torch.tensor([0.0, 1.0]))
    tensor([0.6931, 0.3133])
    """
    right, wrong = F.softplus(-h), F.softplus(h)
    return (1 - label_smoothing) * right + label_smoothing * wrong


def robust_loss(h: Tensor, label_smoothing: float) -> Tensor:
    """`sigmoid_loss` without the bias that flipped labels give it.

    Its mean over labels flipped with that probability is the loss of clean labels
    (Chowdhury et al. 2024, equation 12). It may fall below 0.

    >>> loss = robust_loss(torch.tensor([1.0, -1.0]), 0.2)
    >>> 0.8 * loss[0] + 0.2 * loss[1], sigmoid_loss(torch.tensor(1.0))
    (tensor(0.3133), tensor(0.3133))
    """
    right, wrong = F.softplus(-h), F.softplus(h)
    mixed = (1 - label_smoothing) * right - label_smoothing * wrong
    return mixed / (1 - 2 * label_smoothing)


def hinge_loss(h: Tensor) -> Tensor:
    """What is missing to a lead of 1 (Zhao et al. 2023, SLiC-HF).

    >>> hinge_loss(torch.tensor([0.0, 3.0]))
    tensor([1., 0.])
    """
    return F.relu(1 - h)


def ipo_loss(h: Tensor, beta: float) -> Tensor:
    """Squared distance of the lead to 1 / 2β: no profit from a larger one.

    h (P,) is of log-probabilities per token (Azar et al. 2023, equation 17).

    >>> ipo_loss(torch.tensor([0.0, 5.0]), beta=0.1)
    tensor([25.,  0.])
    """
    return (h - 1 / (2 * beta)).square()


@dataclass(frozen=True)
class DPO:
    """Direct preference optimization, summed over pairs; denominator: pairs.

    batch: inputs, targets, weights (2P, T), pairs as in `folio.objectives.ranking`;
    references (2P,): the reference's log-probability of each response, a sum. "ipo"
    compares log-probabilities per token; so does "simpo", which needs no reference but
    a lead of `gamma` (Meng et al. 2024).

    nll adds the chosen response's cross-entropy per token (Pang et al. 2024). Without
    it the loss can fall while *both* log-probabilities sink: watch chosen_change.

    >>> DPO(loss="robust")
    Traceback (most recent call last):
    folio.config.UserError: label_smoothing = 0.0: the loss robust needs the share \
of flipped labels, above 0 and below 0.5
    """

    beta: float = 0.1
    loss: Literal["sigmoid", "robust", "hinge", "ipo", "simpo"] = "sigmoid"
    label_smoothing: float = 0.0
    gamma: float = 0.0  # of the loss "simpo"
    nll: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UserError(f"loss = {self.loss!r}: choose one of {', '.join(LOSSES)}")
        if not self.beta > 0:
            raise UserError(f"beta = {self.beta}: must be above 0")
        if not self.nll >= 0:
            raise UserError(f"nll = {self.nll}: must be 0 or more")
        if self.gamma and self.loss != "simpo":
            raise UserError(
                f"gamma = {self.gamma}: only the loss simpo has one; set it to 0, or "
                'loss = "simpo"'
            )
        self._check_smoothing()

    def _check_smoothing(self) -> None:
        share = self.label_smoothing
        if not 0 <= share <= 0.5:
            raise UserError(f"label_smoothing = {share}: must lie in [0, 0.5]")
        if self.loss == "robust" and not 0 < share < 0.5:
            raise UserError(
                f"label_smoothing = {share}: the loss robust needs the share of "
                "flipped labels, above 0 and below 0.5"
            )
        if share and self.loss in ("hinge", "ipo"):
            raise UserError(
                f"label_smoothing = {share}: the loss {self.loss} has none; set it to "
                '0, or loss = "sigmoid"'
            )

    def __call__(
        self, model: nn.Module, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        where = batch.weights != 0
        output = respond(model, batch, targets=batch.targets, where=where)
        policy, lengths = row_sums(output.logprobs, batch.weights)
        needed = self.loss != "simpo"
        reference = batch.references if needed else batch.get("references")
        margin = self.margin(policy, reference, lengths)
        preference = self.pair_loss(margin).sum()
        chosen, rejected = pairs(policy)
        nll = -(chosen / pairs(lengths)[0]).sum()
        metrics = {
            "preference_loss": preference,
            "accuracy": pair_accuracy(margin).sum(),
            "margin": margin.sum(),
            "chosen_nll": nll,
            "chosen_logprob": chosen.sum(),
            "rejected_logprob": rejected.sum(),
        }
        if reference is not None:
            ups, downs = pairs(policy - reference)
            metrics |= {"chosen_change": ups.sum(), "rejected_change": downs.sum()}
        half = torch.full_like(policy, 0.5)  # two rows are one pair
        return add_router_loss(preference + self.nll * nll, metrics, output, half)

    def margin(
        self, policy: Tensor, reference: Tensor | None, lengths: Tensor
    ) -> Tensor:
        """By how much the implied reward of the chosen one leads: (2P,) -> (P,).

        For "ipo" and "simpo" per token; "simpo" has gamma taken off.
        """
        if self.loss == "simpo":
            chosen, rejected = pairs(policy / lengths)
            return self.beta * (chosen - rejected) - self.gamma
        change = policy - reference
        chosen, rejected = pairs(change / lengths if self.loss == "ipo" else change)
        return self.beta * (chosen - rejected)

    def pair_loss(self, margin: Tensor) -> Tensor:
        """The loss of each pair from its margin: (P,) -> (P,)."""
        if self.loss == "ipo":
            return ipo_loss(margin / self.beta, self.beta)
        if self.loss == "hinge":
            return hinge_loss(margin)
        if self.loss == "robust":
            return robust_loss(margin, self.label_smoothing)
        return sigmoid_loss(margin, self.label_smoothing)
