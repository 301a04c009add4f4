"""Score the better answer higher: the objective of a reward model.

Pairs lie side by side: row 2i is the chosen answer, row 2i + 1 the rejected one. So
the model is called once, and no even cut through a batch tears a pair.
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
from folio.objectives.logprobs import add_router_loss


def pairs(x: Tensor) -> tuple[Tensor, Tensor]:
    """Chosen and rejected: (2P, ...) -> (P, ...), (P, ...).

    >>> pairs(torch.tensor([5, 1, 7, 2]))
    (tensor([5, 7]), tensor([1, 2]))
    """
    if len(x) % 2:
        raise ValueError(f"{len(x)} rows: chosen and rejected must alternate in pairs")
    return x[0::2], x[1::2]


def pair_accuracy(margin: Tensor) -> Tensor:
    """1 where the chosen one wins, ½ for a tie: a model that knows nothing has ½.

    >>> pair_accuracy(torch.tensor([2.0, 0.0, -1.0]))
    tensor([1.0000, 0.5000, 0.0000])
    """
    return (margin.sign() + 1) / 2


def bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    label_smoothing: float = 0.0,
    lead: Tensor | float = 0.0,
) -> Tensor:
    """-log P(chosen beats rejected), P = sigmoid of the difference: (P,) (1952).

    label_smoothing: the share of pairs whose label is taken to be wrong. lead (P,): by
    how much the winner should win, where that is known (Touvron et al. 2023, 3.2.2).

    >>> bradley_terry(torch.tensor([0.0, 9.0]), torch.tensor([0.0, 0.0]))
    tensor([6.9315e-01, 1.2340e-04])
    """
    margin = chosen - rejected
    right, wrong = F.softplus(lead - margin), F.softplus(lead + margin)
    return (1 - label_smoothing) * right + label_smoothing * wrong


def margin_ranking(chosen: Tensor, rejected: Tensor, margin: float = 1.0) -> Tensor:
    """How much is missing to a lead of `margin`; 0 when it is there: (P,).

    >>> margin_ranking(torch.tensor([3.0, 0.5]), torch.tensor([0.0, 0.0]))
    tensor([0.0000, 0.5000])
    """
    return F.relu(margin - (chosen - rejected))


@dataclass(frozen=True)
class Ranking:
    """The objective of a reward model, summed over pairs; denominator: pairs.

    batch: inputs (2P, T); ends (2P,), the place of END in inputs, where the model's
    `values` (2P, T) are read; leads (P,) with `use_margins`, see `bradley_terry`; and
    positions (2P, T) for models that look both ways. Differences leave the sum of two
    scores free: `centring` holds it near 0 (Eisenstein et al. 2023, section 3).
    """

    loss: Literal["bradley_terry", "margin"] = "bradley_terry"
    margin: float = 1.0  # of the loss "margin"
    label_smoothing: float = 0.0
    centring: float = 0.01
    use_margins: bool = False  # the winner of a pair is to lead by the pair's margin

    def __post_init__(self) -> None:
        if self.loss not in ("bradley_terry", "margin"):
            raise UserError(f"loss = {self.loss!r}: choose bradley_terry or margin")
        if not self.margin > 0:
            raise UserError(f"margin = {self.margin}: must be above 0")
        if not 0 <= self.label_smoothing <= 0.5:
            raise UserError(
                f"label_smoothing = {self.label_smoothing}: must lie in [0, 0.5]"
            )
        if self.label_smoothing and self.loss == "margin":
            raise UserError(
                f"label_smoothing = {self.label_smoothing}: it belongs to the loss "
                'bradley_terry; set it to 0, or loss = "bradley_terry"'
            )
        if self.use_margins and self.loss == "margin":
            raise UserError(
                "use_margins: the loss margin has one margin for all pairs; leave it "
                'out, or loss = "bradley_terry"'
            )
        if not self.centring >= 0:
            raise UserError(f"centring = {self.centring}: must be 0 or more")

    def __call__(
        self, model: nn.Module, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        output = respond(model, batch)
        scores = output.values.gather(1, batch.ends[:, None])[:, 0]
        chosen, rejected = pairs(scores)
        lead = batch.leads if self.use_margins else 0.0
        ranking = self.rank(chosen, rejected, lead).sum()
        centre = (chosen + rejected).square().sum()
        metrics = {
            "ranking_loss": ranking,
            "accuracy": pair_accuracy(chosen - rejected).sum(),
            "margin": (chosen - rejected).sum(),
            "chosen_score": chosen.sum(),
            "rejected_score": rejected.sum(),
        }
        half = torch.full_like(scores, 0.5)  # two rows are one pair
        return add_router_loss(ranking + self.centring * centre, metrics, output, half)

    def rank(self, chosen: Tensor, rejected: Tensor, lead: Tensor | float) -> Tensor:
        """The loss of each pair, centring aside: (P,)."""
        if self.loss == "margin":
            return margin_ranking(chosen, rejected, self.margin)
        return bradley_terry(chosen, rejected, self.label_smoothing, lead)
