"""Answers against gold responses: the same measures for every stage of training.

One `AnswerEvaluator` holds the prompts, the measures and the way of sampling, so that
what it says of two models can be compared. Text measures ask for the whole gold
response; verifiers (`scores`) say what is right.
"""

from __future__ import annotations

import hashlib
import math
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import NamedTuple

from folio.config import UserError
from folio.data.records import Prompt
from folio.data.verifiers import Verifier, exact_answer, final_number, verify
from folio.infer.sampling import GREEDY, Sampling

Z95 = 1.959964  # of the normal distribution: 95 % lie within +- this


class Answer(NamedTuple):
    """What a model said, without its end of turn, and whether it came to that."""

    text: str
    finished: bool


# (prompts, sampling, n) -> for each prompt its n answers
Respond = Callable[[Sequence[Prompt], Sampling, int], Sequence[Sequence[Answer]]]


# ------------------------------------------------------------------ text measures


def exact_match(response: str, gold: str, finished: bool = True) -> float:
    """1 for the same text, to the letter, that ended by itself."""
    return float(finished and response == gold)


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and extra white space.

    The rule of SQuAD (Rajpurkar et al. 2016).

    >>> normalized("The answer is:  3, 7.")
    'answer is 3 7'
    """
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def token_f1(response: str, gold: str) -> float:
    """Harmonic mean of precision and recall over normalized words, as in SQuAD.

    >>> token_f1("a red hen", "the red fox")  # 1 of 2 words shared, both ways
    0.5
    """
    ours, theirs = normalized(response).split(), normalized(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    return _f1((Counter(ours) & Counter(theirs)).total(), len(ours), len(theirs))


def rouge_l(response: str, gold: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004), in lower case.

    Words are runs of letters and digits; nothing is stemmed.

    >>> rouge_l("the hen sat here", "the red hen sat")  # "the hen sat": 3 of 4
    0.75
    """
    ours, theirs = (re.findall(r"\w+", text.lower()) for text in (response, gold))
    if not ours or not theirs:
        return float(ours == theirs)
    return _f1(_common_subsequence(ours, theirs), len(ours), len(theirs))


def _f1(shared: int, ours: int, theirs: int) -> float:
    return 2 * shared / (ours + theirs)


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest one, by dynamic programming in O(len(a) len(b)).

    >>> _common_subsequence("abcbdab", "bdcaba")
    4
    """
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            above = row[j]
            row[j] = diagonal + 1 if x == y else max(above, row[j - 1])
            diagonal = above
    return row[-1]


def numeric_match(response: str, answer: str) -> float | None:
    """Whether the last number said is the answer's; None if that has no number."""
    wanted = final_number(answer)
    return None if wanted is None else float(final_number(response) == wanted)


# ------------------------------------------------------------------------- chance


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Chance that at least one of k is right, from `samples` of which `right` are.

    Unbiased: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, equation 1).

    >>> pass_at_k(4, 1, 2)  # 3 of the 6 couples have the one
    0.5
    """
    if not 1 <= k <= samples:
        raise UserError(f"k = {k}: must lie in 1..{samples}, the number of samples")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def wilson(share: float, count: int, z: float = Z95) -> tuple[float, float]:
    """The interval of shares that `share` of `count` trials doesn't contradict.

    Wilson 1927; unlike the normal one it is sound at 0 and 1.

    >>> [round(end, 3) for end in wilson(0.0, 10)]
    [0.0, 0.278]
    """
    if count < 1:
        raise ValueError("an interval needs at least one trial")
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count)
    half *= math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Measure:
    """A mean over `count` prompts, and where the true one lies with 95 % chance."""

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Measure:
        """One value a prompt, itself a mean if there were several samples.

        Shares get Wilson's interval, which is too wide rather than too narrow when
        values lie between 0 and 1; other rewards the normal one.
        """
        mean = fmean(values)
        if all(0 <= value <= 1 for value in values):
            low, high = wilson(mean, len(values))
        else:
            spread = stdev(values) if len(values) > 1 else math.inf
            half = Z95 * spread / math.sqrt(len(values))
            low, high = mean - half, mean + half
        return cls(mean, low, high, len(values))


# ---------------------------------------------------------------------- evaluation

Results = dict[str, dict[str, dict[str, Measure]]]
ALL = "all"


@dataclass(frozen=True)
class AnswerEvaluator:
    """Held-out prompts, and how answers to them are drawn and judged.

    `scores` are further measures by name. `right` decides for pass@k, for each of
    `ks`, out of `samples` answers drawn as `sampling` says.
    """

    prompts: Sequence[Prompt]
    samples: int = 4
    sampling: Sampling = field(default_factory=Sampling)
    scores: Mapping[str, Verifier] = field(default_factory=dict)
    right: Verifier = exact_answer
    ks: Sequence[int] = (1,)

    def __post_init__(self) -> None:
        if not self.prompts:
            raise UserError("no prompts to evaluate on: the held-out part is empty")
        if self.samples < 1:
            raise UserError(f"samples = {self.samples}: must be at least 1")
        for k in self.ks:
            pass_at_k(self.samples, 0, k)  # refuses a k that can't be
        own = {"exact", "normalized", "f1", "rouge_l", "numeric", "finished", "words"}
        for name in self.scores:
            if name in own or name.startswith("pass@"):
                raise UserError(f"scores: {name!r} is a measure already; rename it")

    @property
    def fingerprint(self) -> str:
        """Equal for evaluators whose results can stand in one table."""
        asked = [(p.messages, p.answer, p.response, p.task) for p in self.prompts]
        names = [*self.scores, getattr(self.right, "__name__", repr(self.right))]
        about = (asked, self.samples, self.sampling, names, tuple(self.ks))
        return hashlib.sha256(repr(about).encode()).hexdigest()[:16]

    def __call__(self, respond: Respond) -> Results:
        """{"greedy" | "sampled": {task, and "all": {measure: Measure}}}."""
        return {
            "greedy": self._draw(respond, GREEDY, 1, ks=()),
            "sampled": self._draw(respond, self.sampling, self.samples, self.ks),
        }

    def _draw(
        self, respond: Respond, sampling: Sampling, n: int, ks: Sequence[int]
    ) -> dict[str, dict[str, Measure]]:
        drawn = respond(self.prompts, sampling, n)
        if len(drawn) != len(self.prompts) or any(len(a) != n for a in drawn):
            raise ValueError(f"expected {n} answers to each of {len(self.prompts)}")
        values: dict[str, dict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for prompt, answers in zip(self.prompts, drawn, strict=True):
            for name, value in self._of_prompt(prompt, answers, ks).items():
                values[ALL][name].append(value)
                if prompt.task != ALL:
                    values[prompt.task][name].append(value)
        return {
            task: {name: Measure.of(found) for name, found in measures.items()}
            for task, measures in values.items()
        }

    def _of_prompt(
        self, prompt: Prompt, answers: Sequence[Answer], ks: Sequence[int]
    ) -> dict[str, float]:
        """Each measure, averaged over the answers to one prompt."""
        judged = [self.judge(prompt, answer) for answer in answers]
        means = {name: fmean(j[name] for j in judged) for name in judged[0]}
        if ks:
            right = sum(
                verify(self.right, prompt, text, finished) == 1
                for text, finished in answers
            )
            means |= {f"pass@{k}": pass_at_k(len(answers), right, k) for k in ks}
        return means

    def judge(self, prompt: Prompt, answer: Answer) -> dict[str, float]:
        """Every measure of one answer."""
        text, finished = answer
        gold = prompt.response
        same = normalized(text) == normalized(gold)
        measures = {
            "exact": exact_match(text, gold, finished),
            "normalized": float(finished and same),
            "f1": token_f1(text, gold),
            "rouge_l": rouge_l(text, gold),
            "finished": float(finished),
            "words": float(len(text.split())),
        }
        numeric = numeric_match(text, prompt.answer)
        if numeric is not None:
            measures["numeric"] = numeric
        for name, verifier in self.scores.items():
            measures[name] = verify(verifier, prompt, text, finished)
        return measures
