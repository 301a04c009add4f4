"""Models that answer with a number: reward models, critics, policies with a critic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.config import UserError
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder, Output
from folio.model.mask import Mask


@dataclass(frozen=True)
class ScorerConfig:
    """How a `Scorer` reads, and how its scores are to be understood.

    "decoder": each token looks back, so the score after the last one has seen all. It
    can begin as a language model does. "encoder": tokens look both ways, and the score
    is read off the mean of all (the classic course's reward model).

    mean and deviation are those of its scores on a calibration set: whoever uses a
    score as a reward takes (score - mean) / deviation.
    """

    kind: Literal["decoder", "encoder"] = "decoder"
    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("decoder", "encoder"):
            raise UserError(f"kind = {self.kind!r}: choose decoder or encoder")
        if not self.deviation > 0:
            raise UserError(f"deviation = {self.deviation}: must be above 0")


class ValueHead(nn.Linear):
    """One number per hidden state: (..., D) -> (...), in fp32 or better.

    It begins at zero, so that a model that knows nothing says so: all rewards are
    equal, and the first Bradley-Terry loss is ln 2 exactly.
    """

    def __init__(self, width: int):
        super().__init__(width, 1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        kind = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            weight, bias = self.weight.to(kind), self.bias.to(kind)
            return F.linear(hidden.to(kind), weight, bias).squeeze(-1)


class Scorer(nn.Module):
    """A transformer that gives each token one number instead of the next token.

    The trunk is a `Decoder` without its head. A reward model's score of a text stands
    at its last token; a critic's values are those of all tokens. An encoder gives all
    tokens of a row the same number, so both kinds are asked alike; it has to be told
    what is padding, by positions of -1.
    """

    def __init__(self, trunk: Decoder, config: ScorerConfig | None = None):
        super().__init__()
        self.config = config or ScorerConfig()
        trunk.head = nn.Identity()  # reads nothing; a tied one was the embedding
        trunk.both_ways = self.config.kind == "encoder"
        self.trunk, self.value_head = trunk, ValueHead(trunk.config.d_model)

    @property
    def shape(self) -> ModelConfig:
        """What the trunk is made of."""
        return self.trunk.config

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Output:
        """tokens (B, T) -> values (B, T)."""
        hidden, shared = self.trunk.hidden(tokens, positions, documents=documents)
        if self.config.kind == "encoder":
            mask = shared.masks.of(shared.positions)
            hidden = mean_over_seen(hidden, mask)
        return Output(values=self.value_head(hidden), router_loss=shared.router_loss)


@torch.no_grad()
def score_rows(model: Scorer, rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """The value at the last token of each row, in evaluation mode: (B,), fp32.

    Rows are filled up on the right. Position -1 tells an encoder, whose tokens look
    ahead, what isn't there.
    """
    device = next(model.parameters()).device
    ends = torch.tensor([len(row) - 1 for row in rows])
    width = int(ends.max()) + 1
    tokens = torch.full((len(rows), width), pad)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    positions = torch.arange(width).expand(len(rows), width)
    positions = torch.where(positions <= ends[:, None], positions, -1)  # (B, T)
    was_training = model.training
    model.eval()
    try:
        values = model(tokens.to(device), positions.to(device)).values.float().cpu()
    finally:
        model.train(was_training)
    return values.gather(1, ends[:, None])[:, 0]


def mean_over_seen(hidden: Tensor, mask: Mask) -> Tensor:
    """Each token's mean over all that it may see: (B, T, D) -> (B, T, D).

    So padding is left out, and documents of a packed row stay apart.
    """
    seen = mask.seen[:, 0].to(hidden.dtype)  # (B or 1, T, T)
    return seen @ hidden / seen.sum(-1, keepdim=True).clamp(min=1)


class ActorCritic(nn.Module):
    """A policy, and a critic that says what it expects: one model for PPO.

    With `critic` the two share nothing. Without, the critic is a head on the policy's
    own last hidden states: half the work, but both pull at the same weights.
    """

    def __init__(self, policy: Decoder, critic: Scorer | None = None):
        super().__init__()
        if critic is not None and critic.config.kind != "decoder":
            raise UserError(
                f"critic.kind = {critic.config.kind!r}: a critic values each token by "
                "what came before it, so it must be a decoder"
            )
        self.policy, self.critic = policy, critic
        self.value_head = ValueHead(policy.config.d_model) if critic is None else None

    @property
    def config(self) -> ModelConfig:
        """The policy's shape."""
        return self.policy.config

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        targets: Tensor | None = None,
        documents: Tensor | None = None,
        **asked: Any,
    ) -> Output:
        """What the policy gives for targets (B, T), and values (B, T).

        A value is of the state *before* its target: of all that the policy had seen
        when it chose that token.
        """
        if self.critic is None:
            hidden, shared = self.policy.hidden(tokens, positions, documents=documents)
            output = self.policy.answer(hidden, targets, **asked)
            output = output._replace(router_loss=shared.router_loss)
            return output._replace(values=self.value_head(hidden))
        output = self.policy(tokens, positions, None, targets, documents, **asked)
        valued = self.critic(tokens, positions, documents)
        asks = [x for x in (output.router_loss, valued.router_loss) if x is not None]
        return output._replace(
            values=valued.values, router_loss=sum(asks) if asks else None
        )
