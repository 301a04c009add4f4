"""Does a reward model prefer what people prefer, and for what reason?

A single accuracy hides too much: style is learned in fifty steps and correctness hardly
at all, and "the longer answer wins" may do as well. So there is an accuracy for each
category of pairs, and beside it those of judges that know nothing but lengths.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import torch

from folio.config import UserError
from folio.data.records import Pair
from folio.evals.answers import ALL, Measure
from folio.evals.scoring import Score
from folio.objectives.ranking import bradley_terry

# ------------------------------------------------------------------------ accuracy


def win(margin: float) -> float:
    """1 if the chosen answer scores higher, 1/2 for a tie, else 0.

    A model that says the same of everything is thus right half of the time.

    >>> win(0.1), win(0.0), win(-2.0)
    (1.0, 0.5, 0.0)
    """
    return ((margin > 0) - (margin < 0) + 1) / 2


def by_category(pairs: Sequence[Pair], margins: Sequence[float]) -> dict[str, Measure]:
    """Accuracy of margins (score of chosen minus rejected): of all, and of each kind.

    >>> def pair(category): return Pair((), "yes", "no", category=category)
    >>> found = by_category([pair("style"), pair("content")], [3.0, -1.0])
    >>> {name: measure.mean for name, measure in found.items()}
    {'all': 0.5, 'content': 0.0, 'style': 1.0}
    """
    wins = [win(margin) for margin in margins]
    found = {ALL: Measure.of(wins)}
    for name in sorted({pair.category for pair in pairs} - {"", ALL}):
        own = [w for w, pair in zip(wins, pairs, strict=True) if pair.category == name]
        found[name] = Measure.of(own)
    return found


def margins_by(judge: Callable[[str], float], pairs: Sequence[Pair]) -> list[float]:
    """The margins of a judge that looks at answers alone."""
    return [judge(pair.chosen) - judge(pair.rejected) for pair in pairs]


def shuffled(margins: Sequence[float], seed: int = 0) -> list[float]:
    """The same margins with labels drawn by lot: what is left of accuracy is luck."""
    rng = random.Random(seed)
    return [margin if rng.random() < 0.5 else -margin for margin in margins]


# --------------------------------------------------------------------- length alone


@dataclass(frozen=True)
class LengthScore:
    """A reward model that sees only how long an answer is: slope z + bend z^2.

    z is the number of characters, standardized. With the bend it can like a certain
    length best; a slope alone would be one of "longer wins" and "shorter wins".
    """

    mean: float
    deviation: float
    slope: float
    bend: float

    def __call__(self, answer: str) -> float:
        z = (len(answer) - self.mean) / self.deviation
        return self.slope * z + self.bend * z * z


def fit_lengths(pairs: Sequence[Pair], ridge: float = 1.0) -> LengthScore:
    """The `LengthScore` under which these pairs are likeliest (Bradley-Terry).

    That is logistic regression on differences of z and z^2, without a constant.
    `ridge` keeps it finite where lengths tell all pairs apart.

    >>> pairs = [Pair((), "12345", other, category="") for other in ("1", "1" * 9)]
    >>> score = fit_lengths(pairs)
    >>> score("12345") > max(score("1"), score("123456789"))
    True
    """
    if not pairs:
        raise UserError("no pairs to fit the length-only baseline to")
    lengths = [float(len(text)) for p in pairs for text in (p.chosen, p.rejected)]
    mean, deviation = fmean(lengths), pstdev(lengths) or 1.0
    z = (torch.tensor(lengths, dtype=torch.float64) - mean) / deviation
    features = torch.stack([z, z * z], dim=-1).view(-1, 2, 2)  # (N, side, feature)
    weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=200, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        chosen, rejected = (features @ weights).unbind(-1)
        loss = bradley_terry(chosen, rejected).sum()
        loss = loss + ridge / 2 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return LengthScore(mean, deviation, *weights.tolist())


# ---------------------------------------------------------------------- calibration


@dataclass(frozen=True)
class Bin:
    """Pairs of which the model is about equally sure."""

    confidence: float  # its mean
    accuracy: Measure


@dataclass(frozen=True)
class Calibration:
    """Bins in order of confidence, and how far the two are apart on average."""

    bins: tuple[Bin, ...]
    error: float


def calibration(margins: Sequence[float], bins: int = 5) -> Calibration:
    """Is a model that says 80 % right in 80 % of the cases?

    Its confidence is sigmoid(|margin|), from 1/2 to 1, in whichever answer it prefers;
    that of the chosen answer would be above 1/2 just where it is right. The error is
    the expected calibration error (Guo et al. 2017, equation 3).

    >>> sure, unsure = 50.0, 0.0
    >>> found = calibration([sure, sure, sure, -sure, unsure])
    >>> [(bin.confidence, bin.accuracy.mean) for bin in found.bins]
    [(0.5, 0.5), (1.0, 0.75)]
    >>> round(found.error, 3)  # 4 of 5 pairs, off by a quarter
    0.2
    """
    filled: dict[int, list[tuple[float, float]]] = {}
    for margin in margins:
        confidence = 1 / (1 + math.exp(-abs(margin)))
        place = min(int((confidence - 0.5) * 2 * bins), bins - 1)
        filled.setdefault(place, []).append((confidence, win(margin)))
    found, error = [], 0.0
    for _, members in sorted(filled.items()):
        confidence = fmean(member[0] for member in members)
        accuracy = Measure.of([member[1] for member in members])
        error += len(members) / len(margins) * abs(confidence - accuracy.mean)
        found.append(Bin(confidence, accuracy))
    return Calibration(tuple(found), error)


# -------------------------------------------------------------------------- together


@dataclass(frozen=True)
class PairReport:
    """Accuracy by category ("all" first) of the model and of each baseline."""

    accuracy: Mapping[str, Measure]
    baselines: Mapping[str, Mapping[str, Measure]]
    calibration: Calibration


def judge_pairs(
    score: Score, pairs: Sequence[Pair], training: Sequence[Pair] = (), seed: int = 0
) -> PairReport:
    """What a reward model and the baselines say of held-out pairs.

    "length fitted" is there if `training` pairs are given, which it is fitted to.
    """
    if not pairs:
        raise UserError("no pairs to judge: the held-out part is empty")
    margins = score_margins(score, pairs)
    judges = {
        "longer wins": margins_by(len, pairs),
        "shorter wins": margins_by(lambda answer: -len(answer), pairs),
    }
    if training:
        judges["length fitted"] = margins_by(fit_lengths(training), pairs)
    judges["labels shuffled"] = shuffled(margins, seed)
    return PairReport(
        by_category(pairs, margins),
        {name: by_category(pairs, found) for name, found in judges.items()},
        calibration(margins),
    )


def score_margins(score: Score, pairs: Sequence[Pair]) -> list[float]:
    """By how much the chosen answer of each pair is scored higher."""
    asked = [(pair.prompt, pair.chosen) for pair in pairs]
    asked += [(pair.prompt, pair.rejected) for pair in pairs]
    scores = score(asked)
    chosen, rejected = scores[: len(pairs)], scores[len(pairs) :]
    return [a - b for a, b in zip(chosen, rejected, strict=True)]
