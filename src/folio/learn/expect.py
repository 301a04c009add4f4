"""How checks speak: what was expected, what was found, and where.

Numbers may be tensors of torch, arrays of NumPy, or lists; each is compared with one
of its kind. A wrong type, shape or dtype, and NaN, are told before any value is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from folio.learn.exercise import Broken

if TYPE_CHECKING:
    import torch  # exercises that need it load it; others take no time for it


def expect(holds: bool, broken: str) -> None:
    """Raise `Broken` unless something holds."""
    if not holds:
        raise Broken(broken)


def equal(got: Any, wanted: Any, broken: str) -> None:
    """Two plain values (lists, texts, whole numbers) must be equal."""
    if type(got) is not type(wanted):
        raise Broken(f"{broken}: got {kind(got)}, expected {kind(wanted)}")
    if got != wanted:
        raise Broken(f"{broken}: got {short(got)}, expected {short(wanted)}")


def same(got: Any, wanted: Any, broken: str, tolerance: float = 1e-5) -> None:
    """Numbers must have one form and, but for rounding, the same values.

    >>> import torch
    >>> same(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), "sums grow")
    Traceback (most recent call last):
    folio.learn.exercise.Broken: sums grow: 2 at [1], expected 3
    """
    alike(got, wanted)
    ours, theirs = numbers(wanted), numbers(got)
    near = np.isclose(theirs, ours, rtol=tolerance, atol=tolerance)
    if not near.all():
        place = tuple(np.argwhere(~near)[0])
        where = f" at {list(map(int, place))}" if place else ""
        raise Broken(
            f"{broken}: {theirs[place]:.4g}{where}, expected {ours[place]:.4g}"
        )


def alike(got: Any, wanted: Any) -> None:
    """The type, the shape and the dtype of `wanted`, and no NaN where it has none."""
    if type(got) is not type(wanted) and not (_is_tensor(got) and _is_tensor(wanted)):
        raise Broken(f"wrong type: the result is {kind(got)}, expected {kind(wanted)}")
    if isinstance(wanted, np.ndarray) or _is_tensor(wanted):
        if tuple(got.shape) != tuple(wanted.shape):
            shapes = tuple(got.shape), tuple(wanted.shape)
            raise Broken("wrong shape: the result has {}, expected {}".format(*shapes))
        if got.dtype != wanted.dtype:
            raise Broken(
                f"wrong dtype: the result is {got.dtype}, expected {wanted.dtype}"
            )
    elif _lengths(got) != _lengths(wanted):
        raise Broken(
            f"wrong shape: lists of lengths {short(_lengths(got))}, expected "
            f"{short(_lengths(wanted))}"
        )
    if np.isnan(numbers(got)).any() and not np.isnan(numbers(wanted)).any():
        place = list(map(int, np.argwhere(np.isnan(numbers(got)))[0]))
        raise Broken(f"the result is NaN{f' at {place}' if place else ''}")


def first_change(before: Any, after: Any, tolerance: float = 1e-6) -> int | None:
    """The first row (of dimension -2) that differs, None if none does."""
    change = np.abs(numbers(before) - numbers(after)).max(-1)
    changed = change.reshape(-1, change.shape[-1]).max(0) > tolerance
    return int(changed.argmax()) if changed.any() else None


def no_look_ahead(before: Any, after: Any, changed: int, what: str = "output") -> None:
    """Of two results, the second with another token `changed`: all before are equal."""
    place = first_change(before, after)
    if place is not None and place < changed:
        raise Broken(
            f"a query must not look at a later key: changing token {changed} changed "
            f"the {what} at token {place}"
        )


def numbers(values: Any) -> np.ndarray:
    """Any of them as an array of float64; rows of unequal lengths, end to end."""
    if _is_tensor(values):
        values = values.detach().cpu().double().numpy()
    if isinstance(values, list) and _is_ragged(values):
        return np.concatenate([numbers(value) for value in values])
    return np.asarray(values, dtype=float)


def _is_ragged(values: list) -> bool:
    """Rows of a list may differ in length, as those of a causal pattern do."""
    return len({str(_lengths(value)) for value in values}) > 1


def _lengths(values: Any) -> Any:
    return [_lengths(value) for value in values] if isinstance(values, list) else 0


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def kind(value: Any) -> str:
    """What a learner would call it.

    >>> kind(None), kind([1])
    ('None (is a `return` missing?)', 'a list')
    """
    if value is None:
        return "None (is a `return` missing?)"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def short(value: Any, longest: int = 70) -> str:
    """`repr`, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random numbers that are the same every time."""
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
