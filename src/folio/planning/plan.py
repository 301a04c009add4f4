"""Every way of sharding beside the others: does it fit, why not, what would help?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from folio.model.config import ModelConfig
from folio.planning.communication import sent
from folio.planning.cost import Cost, Machine, cost
from folio.planning.memory import Peak, Sharding, peak
from folio.planning.work import Work

USABLE = 0.92  # of the memory; kernels, their context and an allocator's gaps need some
NODE = 8  # devices that are close enough to one another for tensor parallelism
MOST = 4096  # devices that a remedy may ask for


@dataclass(frozen=True)
class Row:
    """One way of sharding."""

    sharding: Sharding
    peak: Peak | None  # none: the model can't be cut so
    sent: dict[str, float]  # bytes per device and step
    cost: Cost | None
    problem: str | None  # why it can't be trained so
    remedy: str | None


def shardings(devices: int, near: int = NODE) -> list[Sharding]:
    """What `devices` can share, from nothing to everything; `near` of them closely."""
    n = devices
    if n == 1:
        return [Sharding("one device")]
    found = [
        Sharding("DDP", copies=n),
        Sharding("ZeRO-1", optimizer=n, copies=n),
        Sharding("ZeRO-2", gradients=n, optimizer=n, copies=n),
        fsdp(n),
        Sharding(f"tensor {n}", tensor=n),
    ]
    if n > near and n % near == 0:
        found[-1] = fsdp(n // near, near)
    return found


def fsdp(copies: int, tensor: int = 1) -> Sharding:
    """All states cut into `copies`; with `tensor`, of what one device multiplies."""
    name = "FSDP" if tensor == 1 else f"tensor {tensor} x FSDP {copies}"
    return Sharding(name, copies, copies, copies, tensor, copies)


def plan(
    config: ModelConfig,
    work: Work,
    machine: Machine,
    devices: int,
    near: int = NODE,
    *,
    steps: int | None = None,
    tokens: float | None = None,
) -> list[Row]:
    """One row for each way of sharding. steps or tokens: how long it trains."""
    rows = []
    for sharding in shardings(devices, near):
        problem = indivisible(config, sharding)
        if problem is not None:
            rows.append(Row(sharding, None, {}, None, problem, None))
            continue
        here = replace(work, tensor=sharding.tensor)
        most = peak(config, here, sharding)
        problem = remedy = None
        if most.total > USABLE * machine.memory:
            problem = what_is_large(most, machine)
            remedy = what_helps(config, here, sharding, machine)
        spent = cost(config, here, sharding, machine, steps=steps, tokens=tokens)
        traffic = sent(config, here, sharding)
        rows.append(Row(sharding, most, traffic, spent, problem, remedy))
    return rows


def best(rows: list[Row]) -> Row | None:
    """The quickest that fits; the earlier of equals, which shards less.

    Per token: where devices share a batch, a step reads fewer of them.
    """
    fitting = [row for row in rows if row.problem is None]
    return min(fitting, key=seconds_per_token, default=None)


def seconds_per_token(row: Row) -> float:
    return row.cost.step * row.cost.steps / row.cost.tokens


def indivisible(config: ModelConfig, sharding: Sharding) -> str | None:
    """Why a model can't be cut among so many; None if it can."""
    widths = {
        "n_heads": config.n_heads,
        "n_kv_heads": config.n_heads if config.latent else config.kv_heads,
        "d_ff": config.ff_width,  # the vocabulary can be padded, these can't
    }
    for name, width in widths.items():
        if width % sharding.tensor:
            return f"{name} = {width:,} can't be divided by {sharding.tensor}"
    return None


def fits(config: ModelConfig, work: Work, sharding: Sharding, machine: Machine) -> bool:
    return peak(config, work, sharding).total <= USABLE * machine.memory


def what_is_large(most: Peak, machine: Machine) -> str:
    """In words: by how much it is too large, and the largest of its parts."""
    parts = {
        "weights": most.weights,
        "gradients": most.gradients,
        "optimizer": most.optimizer,
        "activations": most.activations,
    }
    largest = max(parts, key=parts.get)
    return (
        f"needs {most.total / 1e9:,.1f} GB of {USABLE * machine.memory / 1e9:,.1f} "
        f"usable, most of it {largest} ({parts[largest] / 1e9:,.1f} GB)"
    )


def what_helps(
    config: ModelConfig, work: Work, sharding: Sharding, machine: Machine
) -> str:
    """The least change that makes it fit, as flags."""
    lighter, flags = replace(work, checkpoint_layers=True), ""
    if not work.checkpoint_layers:
        flags = " --train.checkpoint_layers true"
        if fits(config, lighter, sharding, machine):
            return flags.strip()
    for base, more in ((work, ""), (lighter, flags)):
        for batch in halves(work.batch):
            times = -(-work.batch * work.accumulate // batch)
            for accumulate in (times, work.accumulate):
                smaller = replace(base, batch=batch, accumulate=accumulate)
                if fits(config, smaller, sharding, machine):
                    return (
                        f"--train.batch {batch} --train.accumulate {accumulate}{more}"
                    )
    if sharding.weights == 1:
        return "to shard more: see the other rows"
    least, copies = replace(lighter, batch=1, accumulate=1), 2 * sharding.copies
    while copies * sharding.tensor <= MOST:
        if fits(config, least, fsdp(copies, sharding.tensor), machine):
            devices = copies * sharding.tensor
            return f"--devices {devices} --train.batch 1 --train.accumulate 1{flags}"
        copies *= 2
    return "shorter texts (--train.length), or a larger --memory"


def halves(batch: int) -> list[int]:
    """
    >>> halves(12)
    [6, 3, 1]
    """
    found = []
    while batch > 1:
        batch //= 2
        found.append(batch)
    return found
