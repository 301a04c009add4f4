"""Pairs out of sampled answers: best against worst, and nothing that did not end."""

import pytest

from folio.config import UserError
from folio.data import tales
from folio.data.embedded import tales_category, tales_prompts
from folio.data.records import Pair, Prompt
from folio.data.sampled import sampled_pairs
from folio.data.verifiers import tales_score

STYLES, POLITE = tales.STYLES, tales.STYLES[tales.PREFERRED_STYLE]


def prompt(text, **more):
    return Prompt(({"role": "user", "content": text},), "gold", "gold", **more)


def length(prompt, response, finished):
    assert finished
    return float(len(response))


def done(*texts):
    return [(text, True) for text in texts]


def pairs_of(prompts, answers, score=length):
    said = []
    return sampled_pairs(prompts, answers, score, said.append), said


def test_the_first_best_against_the_first_worst_by_their_difference():
    asked = prompt("a", where="x.jsonl, line 3")
    pairs, said = pairs_of([asked], [done("22", "1", "4444", "0", "4443")])
    wanted = Pair(asked.messages, "4444", "1", 3.0, "", "x.jsonl, line 3")
    assert pairs == [wanted]
    assert said == []


def test_ties_and_lonely_answers_make_no_pair_and_are_counted():
    answers = [done("a", "b", "c"), done("a", "bb"), done("a"), [], done("1", "2")]
    pairs, said = pairs_of([prompt(str(i)) for i in range(5)], answers)
    assert [pair.prompt[0]["content"] for pair in pairs] == ["1"]
    assert said == [
        "1 of 5 prompts have a pair; the answers to 2 are worth the same, and 2 have"
        " fewer than two finished ones"
    ]


def test_unfinished_answers_are_neither_chosen_nor_rejected():
    cut = [("longest of all", False), ("", False)]
    pairs, _ = pairs_of([prompt("a")], [[cut[0], *done("22", "333"), cut[1]]])
    assert (pairs[0].chosen, pairs[0].rejected) == ("333", "22")
    with pytest.raises(UserError, match=r"^0 of 1 prompts have a pair.*1 have fewer"):
        pairs_of([prompt("a")], [[*cut, *done("22")]])


def test_no_pair_at_all_and_scores_that_are_none_are_refused():
    with pytest.raises(UserError, match="answers to 2 are worth the same") as error:
        pairs_of([prompt("a"), prompt("b")], [done("1", "2"), done("1", "2")])
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="not a finite number"):
        pairs_of([prompt("a")], [done("1", "2")], lambda p, r, f: float("nan"))
    with pytest.raises(ValueError, match="zip"):
        pairs_of([prompt("a")], [])


@pytest.mark.parametrize(
    ("chosen", "rejected", "category", "margin"),
    [
        (POLITE, STYLES[0], "style", 0.5),
        (STYLES[1], STYLES[1], "content", 1.0),
        (STYLES[0], STYLES[1], "content", 1.0),  # neither is the preferred one
        (STYLES[0], POLITE, "both", 0.5),
        (POLITE, STYLES[3], "both", 1.5),
    ],
)
def test_the_embedded_world_knows_in_what_they_differ(
    chosen, rejected, category, margin
):
    asked = tales_prompts().make(4)
    right = asked.answer
    other = right if category == "style" else asked.item.wrong
    texts = done(rejected.format(other), chosen.format(right))
    pairs, _ = pairs_of([asked], [texts], tales_score)
    assert pairs == [
        Pair(asked.messages, texts[1][0], texts[0][0], margin, category, "")
    ]
    assert tales_category(asked, texts[0][0], texts[0][0]) == ""
