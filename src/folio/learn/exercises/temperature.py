"""Exercise: greedy or by chance, hotter or colder."""

import math

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import expect, same

COUNT = 4000


def chosen(choose, logits, seed: int = 0, **options) -> torch.Tensor:
    from folio.infer.sampling import Sampling

    generator = torch.Generator().manual_seed(seed)
    return choose(torch.tensor(logits), Sampling(**options), generator)


def share_of_1(choose, temperature: float) -> float:
    """How often token 1 is chosen whose score is higher by log 3."""
    rows = [[0.0, math.log(3)]] * COUNT
    got = chosen(choose, rows, temperature=temperature)
    return got.double().mean().item()


def one_token_per_row(choose):
    got = chosen(choose, [[0.0, 9.0], [9.0, 0.0], [0.0, 9.0]], temperature=0.0)
    same(got, torch.tensor([1, 0, 1]), "greedy: the highest score of each row")


def greedy_takes_the_first_of_equals(choose):
    same(chosen(choose, [[2.0, 2.0]], temperature=0.0), torch.tensor([0]), "of equals")


def chances_are_those_of_the_scores(choose):
    share = share_of_1(choose, 1.0)
    expect(
        abs(share - 0.75) < 0.04,
        f"a score higher by log 3 is chosen in 75 % of cases, yours {share:.0%}",
    )


def cold_is_more_certain_and_hot_less(choose):
    for temperature, wanted in ((0.5, 0.9), (2.0, 0.634)):
        share = share_of_1(choose, temperature)
        expect(
            abs(share - wanted) < 0.04,
            f"at temperature {temperature} it is chosen in {wanted:.0%} of cases, "
            f"yours {share:.0%}",
        )


def the_generator_decides(choose):
    rows = [[0.0] * 50] * 20
    one, other = (chosen(choose, rows, seed=3) for _ in range(2))
    same(one, other, "the same seed must choose the same: pass the generator on")


def cuts_come_after_the_temperature(choose):
    rows = [[0.0, 1.0, 2.0]] * 200
    got = chosen(choose, rows, top_k=1)
    same(got, torch.full((200,), 2), "with top_k = 1 only the likeliest can be chosen")


EXERCISE = Exercise(
    title="Greedy, or by chance at a temperature",
    chapter=16,
    week=4,
    symbol="folio.infer.sampling:choose",
    given=("Sampling", "adjust"),
    task="""
    One token per row of logits (B, V) -> (B,). `adjust(logits, sampling, seen)` divides
    by the temperature and makes the cuts; at temperature 0 take the highest score, the
    first of equals; else draw by chance, with the generator.
    """,
    hints=(
        "Two cases. sampling.temperature == 0.0 is the first: argmax along -1.",
        "Else softmax makes chances, and torch.multinomial draws.",
        "torch.multinomial(logits.softmax(-1), 1, generator=generator) is (B, 1).",
    ),
    checks=(
        one_token_per_row,
        greedy_takes_the_first_of_equals,
        chances_are_those_of_the_scores,
        cold_is_more_certain_and_hot_less,
        the_generator_decides,
        cuts_come_after_the_temperature,
    ),
    wrong=(
        Wrong(
            "always greedy",
            "if sampling.temperature == 0.0:",
            "if True:",
            "in 75 % of cases",
        ),
        Wrong(
            "the temperature is left out",
            "logits = adjust(logits, sampling, seen)",
            "pass",
            "at temperature 0.5",
        ),
        Wrong(
            "multiplied by the temperature",
            "logits = adjust(logits, sampling, seen)",
            "logits = logits * sampling.temperature",
            "the highest score",
        ),
        Wrong("one more dimension", ".squeeze(-1)", "", "wrong shape"),
        Wrong("its own chance", "generator=generator", "generator=None", "same seed"),
    ),
)
