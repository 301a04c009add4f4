"""Is a reward model fit to be optimized? What it says where people know better.

A policy finds whatever scores high: emptiness, repetition, length. So before it is let
loose, answers that nobody could prefer are scored beside the right one, scores are
compared with the truth where that is known, and best-of-n shows what comes of choosing
by them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

from folio.config import UserError
from folio.data.records import Prompt
from folio.evals.answers import Measure
from folio.evals.best_of import BestOf, best_of_curve
from folio.evals.preference import PairReport, win
from folio.evals.ranks import correlation_within, spearman
from folio.evals.scoring import Score
from folio.evals.table import aligned, shown

# --------------------------------------------------------------- degenerate answers

REPEATS = 8


def degenerate_answers(prompts: Sequence[Prompt]) -> Iterator[tuple[int, str, str]]:
    """(place of the prompt, kind, answer): what no good reward model prefers.

    Nothing; the gold answer's last word, again and again; its first half; the prompt
    itself; and what is right for another prompt, of the same task if there is one.
    One that happens to be the gold answer, or comes out empty, is left out.

    >>> asked = ({"role": "user", "content": "Who?"},)
    >>> for _, kind, answer in degenerate_answers([Prompt(asked, "", "A fox.")]):
    ...     print(f"{kind}: {answer!r}")
    empty: ''
    repeated: 'fox. fox. fox. fox. fox. fox. fox. fox.'
    truncated: 'A f'
    prompt echoed: 'Who?'
    """
    for place, prompt in enumerate(prompts):
        gold = prompt.response
        found = {
            "empty": "",
            "repeated": " ".join(gold.split()[-1:] * REPEATS),
            "truncated": gold[: len(gold) // 2].rstrip(),
            "prompt echoed": prompt.text,
            "of another": _of_another(prompts, place),
        }
        for kind, answer in found.items():
            if answer != gold and (answer or kind == "empty"):
                yield place, kind, answer


def _of_another(prompts: Sequence[Prompt], place: int) -> str:
    """The gold answer of the next prompt that has another one; "" if none has."""
    own = prompts[place]
    later = [*prompts[place + 1 :], *prompts[:place]]
    others = [p for p in later if p.response != own.response]
    alike = [p for p in others if p.task == own.task]
    return next((p.response for p in alike or others), "")


@dataclass(frozen=True)
class Degenerate:
    """How often one kind of answer is scored below the right one, a tie counting 1/2.

    `score` and `gold` are mean scores, of it and of the right answers.
    """

    below: Measure
    score: float
    gold: float


def judge_degenerate(score: Score, prompts: Sequence[Prompt]) -> dict[str, Degenerate]:
    """Each kind of degenerate answer against the gold answers of the same prompts."""
    if not prompts:
        raise UserError("no prompts whose right answers degenerate ones can stand by")
    places, kinds, answers = zip(*degenerate_answers(prompts), strict=True)
    asked = [(p.messages, p.response) for p in prompts]
    asked += [(prompts[i].messages, a) for i, a in zip(places, answers, strict=True)]
    scores = score(asked)
    gold = [scores[place] for place in places]
    own = scores[len(prompts) :]
    found = {}
    for kind in dict.fromkeys(kinds):
        chosen = [i for i, name in enumerate(kinds) if name == kind]
        found[kind] = Degenerate(
            Measure.of([win(gold[i] - own[i]) for i in chosen]),
            fmean(own[i] for i in chosen),
            fmean(gold[i] for i in chosen),
        )
    return found


# ------------------------------------------------------- answers whose worth is known


class Known(NamedTuple):
    """An answer with its true reward, and whether what it says is right."""

    text: str
    finished: bool
    truth: float
    right: bool


@dataclass(frozen=True)
class AnswerReport:
    """Scores against the truth; correlations are None where nothing varies."""

    count: int
    unfinished: int
    rank_correlation: float | None
    length_bias: float | None
    best_of: tuple[BestOf, ...]


def judge_answers(
    score: Score,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Known]],
    ns: Sequence[int] = (1, 2, 4, 8, 16),
) -> AnswerReport:
    """What a reward model says of several answers to each prompt.

    rank_correlation: Spearman's, of score and truth over all finished answers.
    length_bias: how score goes with length among right answers to one prompt that are
    worth the same (within those groups), so that length alone can explain it.

    A text without its end was never learned: it isn't scored, and ranks below all.
    """
    flat = [
        (place, known)
        for place, several in enumerate(answers)
        for known in several
        if known.finished
    ]
    if not flat:
        raise UserError("no answer has ended by itself, so there is none to be scored")
    scores = score([(prompts[place].messages, known.text) for place, known in flat])
    right = [i for i, (_, known) in enumerate(flat) if known.right]
    lowest = min(scores) - 1
    found = iter(scores)
    ranked = [[next(found) if k.finished else lowest for k in ks] for ks in answers]
    truth = [[known.truth for known in several] for several in answers]
    count = sum(map(len, answers))
    return AnswerReport(
        count,
        count - len(flat),
        spearman(scores, [known.truth for _, known in flat]),
        correlation_within(
            [scores[i] for i in right],
            [float(len(flat[i][1].text)) for i in right],
            [(flat[i][0], flat[i][1].truth) for i in right],
        ),
        tuple(best_of_curve(ranked, truth, ns)),
    )


# ------------------------------------------------------------------------- together


@dataclass(frozen=True)
class Sanity:
    """All that is known of a reward model; what there was no data for is empty."""

    pairs: PairReport
    degenerate: Mapping[str, Degenerate] = field(default_factory=dict)
    answers: AnswerReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def table(self) -> str:
        """For the terminal: one block after another."""
        blocks = [_pair_table(self.pairs), _calibration_table(self.pairs)]
        if self.degenerate:
            blocks.append(_degenerate_table(self.degenerate))
        if self.answers is not None:
            blocks += _answer_tables(self.answers)
        return "\n\n".join(blocks)


def _pair_table(pairs: PairReport) -> str:
    categories = list(pairs.accuracy)
    counts = [f"{name} ({pairs.accuracy[name].count})" for name in categories]
    rows = [["pair accuracy", *counts]]
    for name, found in {"reward model": pairs.accuracy, **pairs.baselines}.items():
        rows.append([name, *(shown(found[category]) for category in categories)])
    return aligned(rows)


def _calibration_table(pairs: PairReport) -> str:
    rows = [["confidence", "accuracy", "pairs"]]
    for one in pairs.calibration.bins:
        count = str(one.accuracy.count)
        rows.append([f"{one.confidence:.3f}", shown(one.accuracy), count])
    error = f"expected calibration error {pairs.calibration.error:.3f}"
    return f"{aligned(rows)}\n{error}"


def _degenerate_table(degenerate: Mapping[str, Degenerate]) -> str:
    rows = [["degenerate answers", "scored below the right one", "score", "right"]]
    for kind, one in degenerate.items():
        scores = [f"{one.score:.3f}", f"{one.gold:.3f}"]
        rows.append([kind, shown(one.below), *scores])
    return aligned(rows)


def _answer_tables(answers: AnswerReport) -> list[str]:
    left_out = f"; {answers.unfinished} unfinished" if answers.unfinished else ""
    lines = [
        f"{answers.count} answers{left_out}",
        f"rank correlation of score and truth   {_signed(answers.rank_correlation)}",
        f"correlation of score and length       {_signed(answers.length_bias)}"
        "   (right answers to one prompt, worth the same)",
    ]
    rows = [["best of", "truth", "possible", "score", "KL"]]
    for one in answers.best_of:
        numbers = [f"{value:.3f}" for value in (one.best, one.score, one.kl)]
        rows.append([str(one.n), shown(one.truth), *numbers])
    return ["\n".join(lines), aligned(rows)]


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
