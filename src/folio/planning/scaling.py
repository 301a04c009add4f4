"""How loss falls with size and data: a law fitted to runs, and how sure it is.

The law is L(N, D) = E + A / N^a + B / D^b: what no model can know of the text, what a
model of N parameters can't hold, what D tokens don't tell (Hoffmann et al. 2022,
section 3.3). It is fitted as there: the logarithm of the loss, under a Huber loss, so
that one odd run doesn't bend it, from many starts, since there are valleys that lead
nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from folio.config import UserError

HUBER = 1e-3  # differences of log loss above which a run is taken less seriously
LEAST = 6  # runs; the law has five numbers
WITHIN = 0.95  # of all intervals


@dataclass(frozen=True)
class Law:
    """L(N, D) = E + A / N^a + B / D^b, in nats per token."""

    E: float
    A: float
    a: float
    B: float
    b: float

    def loss(self, parameters, tokens):
        """Works on numbers and on arrays.

        >>> law = Law(1.69, 406.4, 0.34, 410.7, 0.28)  # Hoffmann et al. 2022, eq. 10
        >>> round(float(law.loss(70e9, 1.4e12)), 3)  # Chinchilla
        1.937
        """
        return self.E + self.A / parameters**self.a + self.B / tokens**self.b

    def optimum(self, flops):
        """(N, D) of the lowest loss for 6 N D = `flops` (Hoffmann et al. 2022, eq. 4).

        >>> law = Law(1.69, 406.4, 0.34, 410.7, 0.28)
        >>> n, d = law.optimum(5.76e23)  # Gopher's budget
        >>> f"{n:.2g} {d:.2g}"
        '3.2e+10 3e+12'
        """
        most = np.log(flops / 6)  # parameters that so many operations give one token
        ratio = np.log(self.a * self.A / (self.b * self.B))
        parameters = np.exp(
            np.clip((ratio + self.b * most) / (self.a + self.b), 0, most)
        )
        return float(parameters), float(flops / 6 / parameters)


@dataclass(frozen=True)
class Fit:
    """A law, and what else it might have been: the same fitted to resampled losses."""

    law: Law
    others: tuple[Law, ...]
    residuals: tuple[float, ...]  # of the logarithms: measured less fitted

    @property
    def noise(self) -> float:
        """Standard deviation of a run around the law, in logarithms."""
        spread = np.square(self.residuals).sum()
        return float(np.sqrt(spread / max(len(self.residuals) - 5, 1)))

    def interval(self, name: str) -> tuple[float, float]:
        """Between which values E, A, a, B or b lies, 95 %."""
        return _between([getattr(law, name) for law in self.others])

    def predict(self, parameters: float, tokens: float) -> tuple[float, float, float]:
        """(loss, lowest, highest) of a run that hasn't been made, 95 %.

        The interval holds both doubts: about the law, and about the one run.
        """
        values = [law.loss(parameters, tokens) for law in self.others]
        values = np.log(values) + self.noise * _normal(len(values))
        low, high = np.exp(_between(values))
        return self.law.loss(parameters, tokens), float(low), float(high)

    def optimum(self, flops: float) -> tuple[float, float, float]:
        """(parameters, lowest, highest) that are best for so many operations, 95 %."""
        values = [law.optimum(flops)[0] for law in self.others]
        return self.law.optimum(flops)[0], *_between(values)


def _between(values: Sequence[float]) -> tuple[float, float]:
    edges = (1 - WITHIN) / 2, (1 + WITHIN) / 2
    low, high = np.quantile(np.asarray(values, dtype=float), edges)
    return float(low), float(high)


def _normal(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count)


def fit_law(
    parameters: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> Fit:
    """The law through these runs, and `resamples` laws through what might have been.

    What might have been is the fitted losses with noise as large as the residuals',
    of which five degrees of freedom have gone into the law (the parametric bootstrap:
    Efron & Tibshirani 1993, section 6.5).
    """
    n, d = (np.log(np.asarray(x, dtype=float)) for x in (parameters, tokens))
    y = np.log(np.asarray(losses, dtype=float))
    check(n, d, y)
    best = _descend(n, d, y[None], _starts(n, d, y))
    found = best[np.argmin(_cost(_predict(best, n, d) - y))]
    fitted = _predict(found[None], n, d)[0]
    fit = Fit(_law(found, n, d), (), tuple((y - fitted).tolist()))
    drawn = np.random.default_rng(seed).standard_normal((resamples, len(y)))
    starts = np.tile(found, (resamples, 1))
    others = _descend(n, d, fitted + fit.noise * drawn, starts, rounds=100)
    return replace(fit, others=tuple(_law(each, n, d) for each in others))


def check(n: np.ndarray, d: np.ndarray, y: np.ndarray) -> None:
    """Can five numbers be found from these runs at all?"""
    if not np.isfinite([n, d, y]).all():
        raise UserError("a run has no finite loss: lower its learning rate, and rerun")
    if len(y) < LEAST or min(len(set(n)), len(set(d))) < 3:
        raise UserError(
            f"{len(y)} runs of {len(set(n))} sizes and {len(set(d))} token counts: a "
            f"law of five numbers needs at least {LEAST} runs, three sizes and three "
            "token counts"
        )


# ---- the descent ---------------------------------------------------------------------
# A row of x: log A, log a, log B, log b, log E, where A and B are those of log N and
# log D measured from their means: so the numbers hardly depend on one another.


def _predict(x: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Log losses of each row of x (S, 5) at each run: (S, R)."""
    return np.logaddexp.reduce(_terms(x, n, d), axis=0)


def _terms(x: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Logarithms of the law's three terms: (3, S, R)."""
    size = x[:, 0, None] - np.exp(x[:, 1, None]) * (n - n.mean())
    data = x[:, 2, None] - np.exp(x[:, 3, None]) * (d - d.mean())
    return np.stack([size, data, np.broadcast_to(x[:, 4, None], size.shape)])


def _cost(residuals: np.ndarray) -> np.ndarray:
    """Huber's loss of each row: square near zero, straight beyond HUBER."""
    size = np.abs(residuals)
    near = np.minimum(size, HUBER)
    return (near * (size - near / 2)).sum(-1)


def _starts(n: np.ndarray, d: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where to begin: exponents and the unknowable part from small to large."""
    lowest, middle = np.exp(y.min()), np.exp(np.median(y))
    rows = []
    for share in (0.1, 0.5, 0.9):  # of the lowest loss that no model could spare
        rest = np.log(max(middle - share * lowest, 1e-9) / 2)
        for a in (0.1, 0.4, 1.0):
            for b in (0.1, 0.4, 1.0):
                rows.append([rest, np.log(a), rest, np.log(b), np.log(share * lowest)])
    return np.array(rows)


def _descend(
    n: np.ndarray, d: np.ndarray, y: np.ndarray, x: np.ndarray, rounds: int = 300
) -> np.ndarray:
    """From each row of x (S, 5) downhill, towards its row of y (S or 1, R).

    Levenberg and Marquardt's steps: between Newton's and the gradient's, shorter after
    each that failed. Runs that are far off count as Huber's loss has it.
    """
    x, damping = x.copy(), np.full(len(x), 1e-2)
    cost = _cost(_predict(x, n, d) - y)
    for _ in range(rounds):
        terms = _terms(x, n, d)
        predicted = np.logaddexp.reduce(terms, axis=0)
        residuals = predicted - y
        slopes = _slopes(x, n, d, np.exp(terms - predicted))  # (S, R, 5)
        weights = np.minimum(1, HUBER / np.maximum(np.abs(residuals), 1e-300))
        weighted = slopes * weights[..., None]
        square = weighted.transpose(0, 2, 1) @ slopes
        push = (weighted * residuals[..., None]).sum(1)
        ridge = damping[:, None] * (np.einsum("sii->si", square) + 1e-12)
        square = square + ridge[:, :, None] * np.eye(5)
        step = np.linalg.solve(square, push[..., None])[..., 0]
        tried = x - np.clip(step, -1, 1)
        tried[:, [1, 3]] = np.clip(tried[:, [1, 3]], np.log(1e-3), np.log(5))
        tried[:, 4] = np.maximum(tried[:, 4], y.min() - 20)
        reached = _cost(_predict(tried, n, d) - y)
        better = reached < cost
        x[better], cost[better] = tried[better], reached[better]
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-9, 1e9)
    return x


def _slopes(
    x: np.ndarray, n: np.ndarray, d: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """How the log loss of each run answers to each number: (S, R, 5)."""
    size, data, rest = shares
    a, b = np.exp(x[:, 1, None]), np.exp(x[:, 3, None])
    columns = [size, -size * a * (n - n.mean()), data, -data * b * (d - d.mean()), rest]
    return np.stack(columns, -1)


def _law(x: np.ndarray, n: np.ndarray, d: np.ndarray) -> Law:
    """Back from the inner numbers."""
    a, b = np.exp(x[1]), np.exp(x[3])
    big_a, big_b = np.exp(x[0] + a * n.mean()), np.exp(x[2] + b * d.mean())
    return Law(*map(float, (np.exp(x[4]), big_a, a, big_b, b)))
