"""What training holds at once, on each device, under each way of sharding.

A step has its most memory at one of four kinds of moments: when the loss is computed,
when the gradient passes a layer, when it reaches the embedding, and when the optimizer
steps. `moments` walks through them: on the way back, what layers keep goes and their
gradients come. So the peak is less than the sum of all, unless gradients of an earlier
micro-batch are there from the start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from folio.model.config import ModelConfig
from folio.model.count import count_parameters
from folio.model.heads import LOGITS_AT_ONCE
from folio.planning.activations import (
    chosen_path,
    cut,
    keeps_scores,
    kept_by_all,
    kept_by_head,
    kept_by_layer,
)
from folio.planning.work import Work


@dataclass(frozen=True)
class Sharding:
    """Into how many parts each state is cut; 1 means that every device holds it whole.

    ZeRO-1 cuts the optimizer's state, ZeRO-2 the gradients too, ZeRO-3 or FSDP also the
    weights (Rajbhandari et al. 2020; Zhao et al. 2023). Tensor parallelism cuts every
    matrix (Shoeybi et al. 2019), with all that belongs to it.
    """

    name: str
    weights: int = 1
    gradients: int = 1
    optimizer: int = 1
    tensor: int = 1
    copies: int = 1  # models that learn from different data

    @property
    def devices(self) -> int:
        return self.copies * self.tensor


@dataclass(frozen=True)
class Parameters:
    """How many parameters one device multiplies with, by where they lie."""

    ends: int  # embedding, positions, last norm and head
    layers: tuple[int, ...]
    matrices: float  # share of them that autocast rounds

    @property
    def total(self) -> int:
        return self.ends + sum(self.layers)


@dataclass(frozen=True)
class Peak:
    """Bytes of each kind on one device, and when they are the most."""

    weights: float
    gradients: float
    optimizer: float
    activations: float  # kept for the gradient at the end of the forward
    moments: dict[str, float]  # all that is held, at each kind of moment

    @property
    def moment(self) -> str:
        return max(self.moments, key=self.moments.get)

    @property
    def total(self) -> float:
        return self.moments[self.moment]


def parameters_of(config: ModelConfig, tensor: int = 1) -> Parameters:
    """Parameters of each part on one of `tensor` devices: norms whole, matrices cut."""
    whole = count_parameters(config)
    one = count_parameters(replace(config, n_layers=1, **first_of(config, 0)))
    norms = whole["norms"]
    per_norm = norms // (2 * config.n_layers * (2 if config.post_norm else 1) + 1)
    layers = []
    for layer in range(config.n_layers):
        counts = one
        if config.attention_pattern or config.mlp_pattern:
            counts = count_parameters(
                replace(config, n_layers=1, **first_of(config, layer))
            )
        matrices = sum(
            counts.get(part, 0) for part in ("attention", "mlp", "experts", "routers")
        )
        layers.append(round(matrices / tensor) + counts["norms"] - per_norm)
    ends = (whole["embedding"] + whole["head"]) / tensor + whole["positions"] + per_norm
    rounded = whole["total"] - norms - whole["positions"] - whole["embedding"]
    rounded += whole["embedding"] if config.tie_embeddings else 0
    return Parameters(round(ends), tuple(layers), rounded / whole["total"])


def first_of(config: ModelConfig, layer: int) -> dict[str, str | None]:
    """The patterns of a model whose only layer is number `layer` of this one."""
    kind, windowed = config.layer_mlps[layer], config.layer_windows[layer] is not None
    changes: dict = {"mlp_pattern": kind if config.experts else None}
    if kind == "d":
        changes |= {"mlp_pattern": None, "experts": None}
    changes |= {"attention_pattern": "w" if windowed else None}
    if not windowed:
        changes |= {"window": None, "sinks": 0}
    return changes


def states(own: Parameters, work: Work, sharding: Sharding) -> dict[str, float]:
    """Weights, gradients and optimizer of one device, without what is in transit.

    The 16 bytes per parameter of Rajbhandari et al. 2020 (ZeRO, section 3.1), cut.
    """
    numbers = work.numbers
    spared = 4 * sum(own.layers) if work.muon else 0  # one average there, not two
    return {
        "weights": numbers.weight * own.total / sharding.weights,
        "gradients": (numbers.handed or numbers.gradient)
        * own.total
        / sharding.gradients,
        "optimizer": (numbers.optimizer * own.total - spared) / sharding.optimizer,
    }


def peak(config: ModelConfig, work: Work, sharding: Sharding | None = None) -> Peak:
    """What one device holds at most while it trains."""
    sharding = sharding or Sharding("none")
    work = replace(work, tensor=sharding.tensor)
    own = parameters_of(config, sharding.tensor)
    state = states(own, work, sharding)
    if sharding.weights > 1:  # gathered: the ends all the time, a layer and the next
        state["weights"] += work.numbers.weight * (own.ends + 2 * max(own.layers))
    gradients = gradients_of(work, sharding, own)
    moments = moments_of(config, work, own, gradients)
    fixed = state["weights"] + state["optimizer"]
    return Peak(
        state["weights"],
        max(gradients.begun, gradients.done) + gradients.passing,
        state["optimizer"],
        kept_in_all(config, work, own),
        {name: fixed + size for name, size in moments.items()},
    )


@dataclass(frozen=True)
class Gradients:
    """Bytes of gradients over a step."""

    begun: float  # there when the last micro-batch begins
    each: float  # per parameter, as the gradient passes it
    done: float  # there when the optimizer steps
    passing: float = 0.0  # whole ones of a layer, on their way to those who keep them


def gradients_of(work: Work, sharding: Sharding, own: Parameters) -> Gradients:
    """Where gradients are cut, whole ones are there only on their way; but our FSDP
    sums them over devices after the last micro-batch, and keeps whole ones till then.

    DDP sends them in buckets of the same size, which are there all the time.
    """
    numbers, several = work.numbers, work.accumulate > 1
    whole = numbers.gradient * own.total
    if sharding.gradients > 1:
        part = whole / sharding.gradients
        passing = numbers.gradient * max(own.ends, *own.layers)
        if several and sharding.weights > 1:
            return Gradients(whole, 0.0, part, part)
        if several:
            return Gradients(part, 0.0, part, passing)
        return Gradients(0.0, numbers.gradient / sharding.gradients, part, passing)
    buckets = whole if sharding.copies > 1 and sharding.optimizer == 1 else 0.0
    if numbers.handed:
        handed = numbers.handed * own.total
        begun = buckets + (handed if several else 0.0)
        return Gradients(begun, numbers.gradient, buckets + handed)
    if several:
        return Gradients(buckets + whole, 0.0, buckets + whole)
    return Gradients(buckets, numbers.gradient, buckets + whole)


def moments_of(
    config: ModelConfig, work: Work, own: Parameters, gradients: Gradients
) -> dict[str, float]:
    """Bytes besides weights and optimizer at each moment."""
    shared, head = kept_by_all(config, work), kept_by_head(config, work)
    layers, copies = kept(config, work), rounded_weights(work, own)
    whole = [sum(kept_by_layer(config, work, i).values()) for i in layers_of(config)]
    begun, each = gradients.begun, gradients.each
    loss = shared + sum(layers) + head + copies + loss_work(config, work)
    back = []
    for i in reversed(layers_of(config)):
        passed = own.ends + sum(own.layers[i + 1 :])
        size = each * passed + shared + sum(layers[: i + 1])
        if work.checkpoint_layers:  # the layer is whole again, the others are not
            size += whole[i] + copies * own.layers[i] / own.total
        else:
            size += copies * (1 - sum(own.layers[i + 1 :]) / own.total)
        back.append(size + layer_work(config, work, i))
    table = work.numbers.gradient * config.vocab_size * config.d_model / work.tensor
    twice = table if config.tie_embeddings or not each else 0.0
    end = each * own.total + shared + twice + stream_rows(config, work)
    return {
        "loss": begun + loss,
        "layers": begun + max(back) + gradients.passing,
        "embedding": begun + end + gradients.passing,
        "optimizer": gradients.done + step_work(work, own),
    }


def layers_of(config: ModelConfig) -> range:
    return range(config.n_layers)


def kept(config: ModelConfig, work: Work) -> list[float]:
    """Bytes that each layer keeps from forward to backward."""
    if work.checkpoint_layers:  # only what enters it (Chen et al. 2016)
        return [work.numbers.stream * config.d_model * work.tokens] * config.n_layers
    return [sum(kept_by_layer(config, work, i).values()) for i in layers_of(config)]


def rounded_weights(work: Work, own: Parameters) -> float:
    """Autocast's copies of all matrices, from forward to backward, sharded or not."""
    return work.numbers.product * own.total * own.matrices * work.numbers.cast


def kept_in_all(config: ModelConfig, work: Work, own: Parameters) -> float:
    """All that is kept at the end of a forward."""
    size = kept_by_all(config, work) + kept_by_head(config, work)
    return size + sum(kept(config, work)) + rounded_weights(work, own)


# ---- what is needed for a moment only ------------------------------------------------


def step_work(work: Work, own: Parameters) -> float:
    """Muon's polynomials hold an fp32 stack of all matrices of one shape, and about
    four copies of it, in bf16 unless all is fp32.

    The most are two of a feed-forward part: about half of what lies inside of blocks.
    """
    copies = 4 + 4 * (4 if work.precision == "fp32" else 2)
    return copies * sum(own.layers) / 2 if work.muon else 0.0


def stream_rows(config: ModelConfig, work: Work) -> float:
    """One gradient of the residual stream."""
    return work.numbers.stream * config.d_model * work.tokens


def loss_work(config: ModelConfig, work: Work) -> float:
    """Two more fp32 matrices of logits: the gradients of the loss and its log-softmax.

    Where the logits are cut, a piece has its own log-softmax besides, and the head's
    gradient from the pieces before is there.
    """
    rows = work.tokens
    if not cut(config, work):
        return 2 * 4 * rows * config.vocab_size / work.tensor
    rows = max(LOGITS_AT_ONCE // config.vocab_size, 1)
    table = work.numbers.gradient * config.vocab_size * config.d_model
    return (3 * 4 * rows * config.vocab_size + table) / work.tensor


def layer_work(config: ModelConfig, work: Work, layer: int) -> float:
    """The gradients inside a layer at its widest place, and two of the stream."""
    one, kind = work.numbers.product, config.layer_mlps[layer]
    widths = [config.ff_width] if kind in "db" else []
    if kind in "eb":
        options = config.experts
        widths.append(options.active * config.expert_width)
        widths.append(options.shared * config.expert_width)
    inner = 2 * one * max(widths) / work.tensor
    window = config.layer_windows[layer]
    felt = window is not None and window < work.length
    if keeps_scores(config, work, chosen_path(config, work, felt)):
        inner = max(inner, 2 * one * config.n_heads * work.length / work.tensor)
    return work.tokens * inner + 2 * stream_rows(config, work)
