"""Attention: every path of `attend` side by side, and whether the fastest is chosen.

    python bench/attention.py [--quick]

For each shape and dtype it times the paths as they are used: one new token without
gradients, or a whole sequence forward and backward. The value is the median, over all
rows, of (time of the fastest path) / (time of the path that `fastest_path` names):
1 if it always picks the fastest. Whoever changes a threshold in folio/model/attend.py
takes it from this table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

import torch

from folio.model.attend import PATHS, attend, fastest_path
from folio.model.mask import Mask, causal_mask
from record import interleave, median, parse_arguments, record, rows_of

GOAL = 0.9


@dataclass(frozen=True)
class Shape:
    """Queries (B, H, T, K) that meet keys (B, G, S, K)."""

    rows: int  # B
    heads: int  # H
    groups: int  # G
    new: int  # T
    stored: int  # S
    width: int  # K
    window: int | None = None


READING = [  # without gradients
    Shape(1, 6, 6, 1, 64, 64),
    Shape(1, 6, 6, 1, 512, 64),
    Shape(1, 12, 4, 1, 1024, 64),
    Shape(8, 6, 2, 1, 256, 64),
    Shape(32, 12, 12, 1, 256, 64),
    Shape(1, 12, 12, 64, 1024, 64),  # a chunk of a long prompt
    Shape(8, 6, 6, 64, 80, 64),  # prompts, and room for more
    Shape(4, 6, 6, 256, 320, 64, window=64),
]
TRAINING = [
    Shape(12, 4, 4, 64, 64, 32),
    Shape(12, 4, 2, 64, 64, 32),
    Shape(4, 6, 6, 256, 256, 64),
    Shape(4, 6, 2, 256, 256, 64),
    Shape(2, 12, 12, 512, 512, 64),
    Shape(1, 8, 8, 512, 512, 128),
    Shape(1, 12, 12, 1024, 1024, 64),
    Shape(4, 6, 6, 256, 256, 64, window=64),
    Shape(1, 12, 12, 1024, 1024, 64, window=128),
]


def main() -> None:
    arguments = parse_arguments(__doc__)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rounds, rows = (3 if arguments.quick else 9), []
    cases = itertools.product(
        (torch.float32, torch.bfloat16), [*READING, *TRAINING], (False, True)
    )
    names = ("dtype", *(field.name for field in fields(Shape)), "sinks")
    print(" ".join(f"{name:>8}" for name in names), end="")
    print("".join(f"{path:>11}" for path in PATHS) + "   chosen (times in ms)")
    for dtype, shape, sinks in cases:
        if sinks and shape.window is None:
            continue
        rows += measure(shape, dtype, device, sinks, rounds)
    fastest = [row["fastest_s"] / row["least_s"] for row in rows if row["chosen"]]
    record("attention", median(fastest), GOAL, rows)


def measure(
    shape: Shape, dtype: torch.dtype, device: str, sinks: bool, rounds: int
) -> list[dict]:
    """Time every path that can do it; print a line, and return a row for each."""
    q, k, v, mask, more = inputs(shape, dtype, device, sinks)
    with torch.set_grad_enabled(q.requires_grad):
        chosen = fastest_path(q, v, mask, **more)
    functions = {}
    for path in PATHS:
        if path == "flex" and device == "cpu":  # has no gradients there
            continue
        functions[path] = use(q, k, v, mask, path, more)
    repeats = repeats_of(functions[chosen])
    seconds = interleave(
        {path: repeated(f, repeats) for path, f in functions.items()}, rounds
    )
    seconds = {path: [s / repeats for s in all_] for path, all_ in seconds.items()}
    best = {path: min(values) for path, values in seconds.items()}
    facts = {"dtype": str(dtype).split(".")[1]} | asdict(shape) | {"sinks": sinks}
    times = "".join(f"{1e3 * best.get(path, torch.nan):11.3f}" for path in PATHS)
    name = " ".join(f"{value or '-'!s:>8}" for value in facts.values())
    print(f"{name}{times}   {chosen}", flush=True)
    return [
        row | {"chosen": row["name"] == chosen, "fastest_s": min(best.values())}
        for row in rows_of(seconds, **facts, device=device)
    ]


def inputs(shape: Shape, dtype: torch.dtype, device: str, sinks: bool):
    """Random q, k and v, their mask, and the queries that meet the sinks."""
    kind = {"dtype": dtype, "device": device}
    training = shape.new == shape.stored

    def normal(heads: int, length: int) -> torch.Tensor:
        x = torch.randn(shape.rows, heads, length, shape.width, **kind)
        return x.requires_grad_(training)

    q = normal(shape.heads, shape.new)
    k, v = (normal(shape.groups, shape.stored) for _ in range(2))
    keys = torch.arange(shape.stored, device=device)[None]
    if training and shape.window is None:
        mask = causal_mask(shape.stored, device)
    else:
        mask = Mask(keys[:, -shape.new :], keys, shape.window, 4, blind=not training)
    sink_q = normal(shape.heads, shape.new) if sinks else None
    return q, k, v, mask, {"sink_q": sink_q}


def use(q, k, v, mask, path: str, more: dict) -> Callable[[], object]:
    """One use of a path: backward too where gradients are wanted."""

    def forward():
        with torch.no_grad():
            attend(q, k, v, mask, path=path, **more)

    def both():
        y = attend(q, k, v, mask, path=path, **more)
        wanted = [x for x in (q, k, v, *more.values()) if x is not None]
        torch.autograd.grad(y, wanted, torch.ones_like(y))

    return both if q.requires_grad else forward


def repeats_of(function: Callable[[], object], seconds: float = 0.01) -> int:
    """How often to call it so that a round lasts long enough to be timed."""
    (times,) = interleave({"": function}, rounds=3).values()
    return max(1, round(seconds / min(times)))


def repeated(function: Callable[[], object], times: int) -> Callable[[], None]:
    def many() -> None:
        for _ in range(times):
            function()

    return many


if __name__ == "__main__":
    main()
