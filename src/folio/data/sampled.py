"""Preferences out of a model's own answers, ranked by a known truth.

Pairs that people wrote show what a policy rarely says. Its own answers show what it
does get wrong, and what it could have said instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from folio.config import UserError
from folio.data.embedded import tales_category
from folio.data.records import Pair, Prompt, Say
from folio.data.tales import Instruction
from folio.data.verifiers import Verifier, verify

Answered = tuple[str, bool]  # what was said, and whether it ended by itself


def sampled_pairs(
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Answered]],
    score: Verifier,
    say: Say = print,
) -> list[Pair]:
    """The best of each prompt's answers against its worst, the difference as margin.

    answers: to each prompt its own, any number of them. Of equal ones the first
    counts. Answers of one score make no pair; `say` is told how many prompts have none.
    The category says in what the two differ, for prompts of the embedded world.

    Unfinished answers are in no pair, not even as rejected ones. Whoever reads a pair
    puts the end of turn behind both answers: DPO would learn not to stop where the
    model had not stopped, a reward model to score a text that nobody wrote.

    Raises UserError if no prompt has a pair.
    """
    pairs, equal, alone = [], 0, 0
    for prompt, said in zip(prompts, answers, strict=True):
        finished = [text for text, ended in said if ended]
        scores = [verify(score, prompt, text, True) for text in finished]
        if len(finished) < 2:
            alone += 1
        elif max(scores) == min(scores):
            equal += 1
        else:
            pairs.append(_best_against_worst(prompt, finished, scores))
    report = (
        f"{len(pairs)} of {len(prompts)} prompts have a pair; the answers to {equal}"
        f" are worth the same, and {alone} have fewer than two finished ones"
    )
    if not pairs:
        raise UserError(f"{report}; use more prompts, or more answers to each")
    if len(pairs) < len(prompts):
        say(report)
    return pairs


def _best_against_worst(
    prompt: Prompt, texts: Sequence[str], scores: Sequence[float]
) -> Pair:
    high, low = max(scores), min(scores)
    best, worst = texts[scores.index(high)], texts[scores.index(low)]
    category = ""
    if isinstance(prompt.item, Instruction):
        category = tales_category(prompt, best, worst)
    return Pair(prompt.messages, best, worst, high - low, category, prompt.where)
