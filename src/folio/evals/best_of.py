"""Best of n: what choosing by a reward model is really worth, as one chooses harder.

Of n answers the one that the reward model scores highest is kept. As n grows, its score
rises without end; its true reward, here `truth`, rises too, and may fall again, once
what is chosen for is the model's mistakes (Gao et al. 2022). It takes no training to
see that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from folio.config import UserError
from folio.data.records import Prompt
from folio.evals.answers import Answer, Measure, Respond
from folio.evals.scoring import Score
from folio.infer.sampling import Sampling


def choosing(respond: Respond, score: Score, n: int) -> Respond:
    """Each answer is the one that `score` likes best of n that `respond` has drawn.

    The first of equals; unfinished answers only if there is nothing else. Where there
    is nothing to choose from (n = 1, or greedy answers) nothing changes.
    """
    if n < 1:
        raise UserError(f"n = {n}: must be at least 1")

    def chosen(
        prompts: Sequence[Prompt], sampling: Sampling, count: int
    ) -> list[list[Answer]]:
        if n == 1 or sampling.temperature == 0:
            return [list(answers) for answers in respond(prompts, sampling, count)]
        drawn = respond(prompts, sampling, n * count)
        asked = [
            (prompt.messages, answer.text)
            for prompt, answers in zip(prompts, drawn, strict=True)
            for answer in answers
        ]
        scores = iter(score(asked))
        return [
            [_best(answers[i : i + n], scores) for i in range(0, n * count, n)]
            for answers in drawn
        ]

    return chosen


def _best(answers: Sequence[Answer], scores: Iterator[float]) -> Answer:
    """The finished one of highest score; takes as many scores as there are answers."""
    found = [(a.finished, next(scores)) for a in answers]
    return answers[max(range(len(answers)), key=found.__getitem__)]


def best_of_n(scores: Sequence[float], truth: Sequence[float], n: int) -> float:
    """Expected truth of the highest scored of n, drawn without replacement from m.

    Unbiased, for it is the mean over all C(m, n) draws: in order of scores, answer k
    of 1..m wins C(k - 1, n - 1) of them. Between equal scores chance decides.

    >>> best_of_n([0.1, 0.7, 0.4], [5.0, 1.0, 3.0], 2)  # 1.0 wins 2 of 3 draws
    1.6666666666666665
    >>> best_of_n([0.0, 0.0, 0.0], [5.0, 1.0, 3.0], 2)
    3.0
    """
    m = len(scores)
    if len(truth) != m:
        raise ValueError(f"{m} scores, but the truth of {len(truth)} answers")
    if not 1 <= n <= m:
        raise ValueError(f"n = {n}: must lie in 1..{m}, the number of answers")
    order = sorted(range(m), key=scores.__getitem__)
    expected, below = 0.0, 0
    for _, group in groupby(order, key=scores.__getitem__):
        tied = list(group)
        upto = below + len(tied)
        wins = math.comb(upto, n) - math.comb(below, n)  # draws whose best is here
        expected += wins / math.comb(m, n) * fmean(truth[i] for i in tied)
        below = upto
    return expected


def best_of_n_kl(n: int) -> float:
    """How far best-of-n is from one draw, in nats: at most log n - (n - 1) / n.

    Stiennon et al. 2020, appendix G.3.

    >>> [round(best_of_n_kl(n), 3) for n in (1, 2, 16)]
    [0.0, 0.193, 1.835]
    """
    return math.log(n) - (n - 1) / n


@dataclass(frozen=True)
class BestOf:
    """Best of n, over prompts: its truth, and what the reward model thinks.

    `best` is what choosing by the truth would give; n = 1 is the mean answer.
    """

    n: int
    kl: float
    truth: Measure
    best: float
    score: float


def best_of_curve(
    scores: Sequence[Sequence[float]],
    truth: Sequence[Sequence[float]],
    ns: Sequence[int] = (1, 2, 4, 8, 16),
) -> list[BestOf]:
    """One row for each n that every prompt has answers enough for.

    scores and truth: for each prompt a number for each of its answers.

    >>> curve = best_of_curve([[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]])
    >>> [(row.n, row.truth.mean, row.best, row.score) for row in curve]
    [(1, 0.5, 0.5, 0.5), (2, 0.5, 1.0, 1.0)]
    """
    fewest = min(map(len, scores), default=0)
    curve = []
    for n in ns:
        if n > fewest:
            break
        found = [best_of_n(s, t, n) for s, t in zip(scores, truth, strict=True)]
        curve.append(
            BestOf(
                n,
                best_of_n_kl(n),
                Measure.of(found),
                fmean(best_of_n(t, t, n) for t in truth),
                fmean(best_of_n(s, s, n) for s in scores),
            )
        )
    return curve
