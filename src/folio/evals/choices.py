"""Multiple choice by log-probability: which of the choices does the model expect?

The sum of a choice's log-probs favors short choices, so there are other rules beside
it: sums per character, byte or token, and against what the choice is worth without
the question (Brown et al. 2020, section 2.4). None is right for every task. The rule
"blind" reads no question at all: what it gets right, habit alone would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from folio.config import UserError
from folio.data.rows import pad_id
from folio.evals.answers import ALL
from folio.evals.likelihood import as_chat, as_document, likelihoods
from folio.evals.questions import Question
from folio.evals.table import aligned
from folio.model.decoder import Decoder
from folio.text.tokenizer import Tokenizer

Say = Callable[[str], None]
RULES = ("sum", "character", "byte", "token", "unconditional", "blind")
BASELINES = ("chance", "longest", "shortest")


@dataclass(frozen=True)
class Accuracy:
    """The share of right answers, and its standard error."""

    mean: float
    error: float
    count: int

    @classmethod
    def of(cls, hits: Sequence[float]) -> Accuracy:
        """The error is that of a mean of independent questions; of one, it is unknown.

        >>> Accuracy.of([1, 1, 0, 0])
        Accuracy(mean=0.5, error=0.28867513459481287, count=4)
        """
        mean, count = fmean(hits), len(hits)
        spread = sum((hit - mean) ** 2 for hit in hits) / max(count - 1, 1)
        error = math.sqrt(spread / count) if count > 1 else math.nan
        return cls(mean, error, count)


@dataclass(frozen=True)
class Choice:
    """One choice of a question: its text, and what the model makes of it."""

    text: str
    tokens: int
    logprob: float
    alone: float  # the log-prob of the same text after no question

    def score(self, rule: str) -> float:
        """What the choice is worth by one of RULES; the highest is chosen.

        >>> choice = Choice("né", tokens=1, logprob=-6.0, alone=-7.0)
        >>> [choice.score(rule) for rule in RULES]
        [-6.0, -3.0, -2.0, -6.0, 1.0, -7.0]
        """
        match rule:
            case "sum":
                return self.logprob
            case "character":
                return self.logprob / len(self.text)
            case "byte":
                return self.logprob / len(self.text.encode())
            case "token":
                return self.logprob / self.tokens
            case "unconditional":
                return self.logprob - self.alone
            case "blind":
                return self.alone
        raise ValueError(f"rule = {rule!r}")


Results = dict[str, dict[str, Accuracy]]  # {task, and "all": {rule or baseline: ...}}


def measure_choices(
    model: Decoder,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    chat: bool = False,
    say: Say = print,
) -> Results:
    """Accuracies of the model and, beside them, of who never reads a question.

    chat: questions are put as a user would, and choices are a whole reply.
    """
    if not questions:
        raise UserError("no questions to answer: give some")
    judged = weigh(model, tokenizer, questions, chat, say)
    hits: dict[str, dict[str, list[float]]] = {}
    for question, choices in zip(questions, judged, strict=True):
        scores = {rule: hit(question, choices, rule) for rule in RULES}
        scores |= baselines(question)
        for task in {ALL, question.task}:
            for name, value in scores.items():
                hits.setdefault(task, {}).setdefault(name, []).append(value)
    return {
        task: {name: Accuracy.of(values) for name, values in hits[task].items()}
        for task in (ALL, *sorted(hits.keys() - {ALL}))
    }


def weigh(
    model: Decoder,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    chat: bool = False,
    say: Say = print,
) -> list[list[Choice]]:
    """Every choice of every question with its log-probs.

    What a context repeats is read once, and so is a choice that several questions have.
    """
    encoded = (as_chat if chat else as_document)(tokenizer)
    told = [
        (question.prompt or question.context, text)
        if chat
        else (question.context, question.continuation(choice))
        for question in questions
        for choice, text in enumerate(question.choices)
    ]
    alone = [("", said) for _, said in told]
    asked = {pair: encoded(*pair) for pair in (*told, *alone)}
    found = likelihoods(model, list(asked.values()), pad_id(tokenizer), say=say)
    logprobs = dict(zip(asked, (one.logprob for one in found), strict=True))
    pairs = iter(zip(told, alone, strict=True))
    return [
        [
            Choice(text, len(asked[own].continuation), logprobs[own], logprobs[bare])
            for text, (own, bare) in zip(question.choices, pairs, strict=False)
        ]
        for question in questions
    ]


def hit(question: Question, choices: Sequence[Choice], rule: str) -> float:
    """1 if the right choice is worth most; where several are, the first is chosen."""
    scores = [choice.score(rule) for choice in choices]
    return float(scores.index(max(scores)) == question.answer)


def baselines(question: Question) -> dict[str, float]:
    """What is expected of guessing, and of taking the longest or the shortest choice.

    >>> baselines(Question("Who?", ("a hen", "a fox", "a cow's calf"), answer=0))
    {'chance': 0.3333333333333333, 'longest': 0.0, 'shortest': 0.5}
    """
    lengths = [len(choice) for choice in question.choices]
    own = lengths[question.answer]
    found = {"chance": 1 / len(lengths)}
    for name, best in (("longest", max(lengths)), ("shortest", min(lengths))):
        found[name] = (own == best) / lengths.count(best)
    return found


def choices_table(results: Results) -> str:
    """A line for each task: accuracies in percent, with their standard errors."""
    rows = [["", "questions", *RULES, *BASELINES]]
    for task, found in results.items():
        shares = [found[rule] for rule in RULES]
        cells = [f"{100 * s.mean:.1f} ± {100 * s.error:.1f}" for s in shares]
        cells += [f"{100 * found[name].mean:.1f}" for name in BASELINES]
        rows.append([task, str(shares[0].count), *cells])
    return aligned(rows)
