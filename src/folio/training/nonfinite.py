"""Not a number: find the layer where it began."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.runtime import anyone
from folio.training.parallel import Alone

ELSEWHERE = "first seen by another process"


class NonFiniteError(UserError):
    """The loss or a gradient is not finite; the weights are still good."""


def _finite(value: object) -> bool:
    """Whether every tensor in `value` is finite; masks may hold -inf, so skip bools."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, (tuple, list)):
        return all(_finite(part) for part in value)
    return True


@contextmanager
def _first_bad_output(model: nn.Module) -> Iterator[list[str]]:
    """Collect the names of modules whose output is not finite, innermost first."""
    found: list[str] = []

    def watch(name: str):
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if not _finite(output):
                found.append(name)

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if name
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def bad_weight(named: Iterable[tuple[str, nn.Parameter]]) -> str | None:
    """The name of the first weight that is not finite, if there is one."""
    for name, parameter in named:
        if not _finite(parameter):
            return name
    return None


@torch.no_grad()
def first_nonfinite(
    model: nn.Module,
    batches: Sequence[Batch],
    objective: Callable,
    autocast: Callable[[], AbstractContextManager],
    ranks: Alone | None = None,
) -> str:
    """In words: the first weight, layer output or gradient that is not finite.

    Runs the batches forward once more. Dropout draws anew, so that a failure which
    depends on it may not recur; then the gradients still say where it was. All ranks
    look at once, and stop looking at once: some may need the others to compute.
    """
    parameters = dict((ranks or model).named_parameters())
    name = bad_weight(parameters.items())
    if anyone(bool(name)):
        return f"first seen in the weight {name}" if name else ELSEWHERE
    with _first_bad_output(model) as found:
        for batch in batches:
            with autocast():
                objective(model, batch)
            if anyone(bool(found)):
                return f"first seen in the output of {found[0]}" if found else ELSEWHERE
    bad = [
        name
        for name, parameter in parameters.items()
        if parameter.grad is not None and not _finite(parameter.grad)
    ]
    if bad:
        return f"first seen, going backward, in the gradient of {bad[-1]}"
    return "no layer's output is to blame: the loss itself overflowed"
