"""Prompts in a known order, and verifiers that can't fail in silence."""

import json
import math
from decimal import Decimal
from itertools import islice

import pytest

from folio.config import UserError
from folio.data import tales
from folio.data.embedded import TALES_SCORES, tales_prompts
from folio.data.order import Endless
from folio.data.parts import refuse_overlap
from folio.data.prompts import PromptStream
from folio.data.records import Prompt
from folio.data.tales.splits import split_of
from folio.data.verifiers import (
    exact_answer,
    final_number,
    marked_number,
    number_answer,
    read_number,
    tales_score,
    verify,
)
from folio.text.byte import ByteTokenizer

TOKENIZER = ByteTokenizer()


def prompt(text, answer="1", response=None, **more):
    asked = ({"role": "user", "content": text},)
    return Prompt(asked, answer, answer if response is None else response, **more)


def numbered(count):
    return [prompt(f"q{i}", str(i)) for i in range(count)]


def stream(prompts, **options):
    options = {"batch": 3, "length": 30, "say": lambda text: None} | options
    return PromptStream(prompts, TOKENIZER, **options)


def answers(batches):
    return [asked.prompt.answer for batch in batches for asked in batch]


def take(prompts, count):
    return list(islice(prompts, count))


def test_ids_end_with_what_opens_the_reply():
    for asked in next(stream(numbered(9))):
        text = f"<|user|>{asked.prompt.text}<|end|><|assistant|>"
        assert TOKENIZER.decode(asked.ids) == text


@pytest.mark.parametrize(("world", "batch"), [(1, 6), (2, 3), (6, 1)])
def test_any_number_of_ranks_sees_one_order_with_its_places(world, batch):
    alone = stream(numbered(10), batch=6)
    ranks = [
        stream(numbered(10), batch=batch, rank=r, world=world) for r in range(world)
    ]
    places = []
    for _ in range(5):
        together = [asked for rank in ranks for asked in next(rank)]
        assert together == next(alone)
        places += [asked.place for asked in together]
    assert places == list(range(30))


def test_an_epoch_deals_each_prompt_once():
    found = answers(take(stream(numbered(9)), 6))
    assert sorted(found[:9]) == sorted(found[9:]) == sorted(map(str, range(9)))
    assert found[:9] != found[9:]


def test_resumed_equals_never_stopped():
    whole = take(stream(numbered(10)), 9)
    for step in range(9):
        first, second = stream(numbered(10)), stream(numbered(10))
        take(first, step)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert next(second) == whole[step]
    state = stream(numbered(10)).state_dict()
    with pytest.raises(UserError, match="prompts was"):
        stream(numbered(11)).load_state_dict(state)
    with pytest.raises(UserError, match="overlong was"):
        stream(numbered(10), overlong="drop").load_state_dict(state)


def test_long_prompts_are_counted_and_cut_or_left_out():
    said = []
    prompts = [prompt("x" * 50 + "?", "long"), *numbered(3)]
    cut = stream(prompts, length=10, say=said.append)
    long = next(
        asked for batch in take(cut, 4) for asked in batch if len(asked.ids) == 10
    )
    assert TOKENIZER.decode(long.ids) == "xxxxxxx?<|end|><|assistant|>"
    assert said == ["1 of 4 prompts lost their beginning: longer than 10 tokens"]
    kept = stream(prompts, length=10, overlong="drop", say=said.append)
    assert "long" not in answers(take(kept, 4))
    assert said[1] == "1 of 4 prompts left out: longer than 10 tokens"
    with pytest.raises(UserError, match="none of 1 prompts fits"):
        stream(prompts[:1], length=10, overlong="drop")


def test_endless_prompts_that_are_cut_are_told_of_once():
    said = []
    source = Endless(lambda n: prompt("x" * (5 + 10 * n)), "growing prompts")
    take(stream(source, batch=1, say=said.append), 6)
    assert len(said) == 1
    assert said[0].startswith("prompt 3 of growing prompts is longer than 30 tokens")
    with pytest.raises(UserError, match="prompt 3 of growing prompts is longer; use"):
        take(stream(source, batch=1, overlong="drop"), 6)


# ---------------------------------------------------------------------- verifiers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72", "72"),
        (" -3 ", "-3"),
        ("+3", "3"),
        ("1,234,567", "1234567"),
        ("$5.00", "5"),
        ("-$5", "-5"),
        (".5", "0.5"),
        ("12%", "12"),
        ("12.", "12"),
        ("1,23", None),
        ("12 eggs", None),
        ("", None),
        ("-", None),
        ("nan", None),
        ("1e5", None),
    ],
)
def test_a_number_is_read_whole_or_not_at_all(text, number):
    assert read_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("text", "marked", "final"),
    [
        ("2+2=4\n#### 4", 4, 4),
        ("#### 3\n#### 4\nso 9", 4, 4),
        ("#### 1,000", 1000, 1000),
        ("it is 7, not 8.", None, 8),
        ("from 3-4 eggs", None, 4),
        ("16 - -3", None, -3),
        ("#### four, that is 4", None, 4),
        ("A: 18", None, 18),
        ("none", None, None),
    ],
)
def test_the_answers_number_in_a_text(text, marked, final):
    assert marked_number(text) == marked
    assert final_number(text) == final


def test_verifiers_pay_for_what_is_right_and_finished():
    one = prompt("a", "1,072")
    assert number_answer(one, "so\n#### 1072.0", True) == 1.0
    assert number_answer(one, "so\n#### 1072", False) == 0.0
    assert number_answer(one, "1072", True) == 0.0
    assert number_answer(one, "", True) == 0.0
    assert exact_answer(one, " 1,072\n", True) == 1.0
    assert exact_answer(one, "1,072", False) == 0.0
    assert exact_answer(one, "1,072!", True) == 0.0
    with pytest.raises(UserError, match="'x': not a number"):
        number_answer(prompt("a", "x"), "#### 1", True)


def test_a_verifier_that_breaks_names_the_prompt_and_the_response():
    asked = prompt("How many hens?", where="a.jsonl, line 4")

    def broken(prompt, response, finished):
        raise KeyError("hens")

    with pytest.raises(UserError, match="KeyError") as error:
        verify(broken, asked, "three", True)
    for word in ("a.jsonl, line 4", "How many hens?", "broken", "three"):
        assert word in str(error.value)
    for value in (math.nan, math.inf, None, "high", [1, 2]):
        with pytest.raises(UserError, match=r"returned .*How|How.* returned"):
            verify(lambda p, r, f, value=value: value, asked, "three", True)
    assert verify(lambda p, r, f: True, asked, "three", True) == 1.0


# -------------------------------------------------------------- the embedded world


def test_the_worlds_prompts_are_worth_what_the_world_says():
    source = tales_prompts()
    for index in range(40):
        one = source.make(index)
        assert one == source.make(index)
        assert tales_score(one, one.response, True) == 1.5
        assert tales_score(one, one.answer, True) == 1.0
        assert tales_score(one, one.response, False) == 0.0
        scores = {n: s(one, one.response, True) for n, s in TALES_SCORES.items()}
        assert scores == {"gold": 1.5, "accuracy": 1.0, "style": 1.0}
        wrong = tales.STYLES[tales.PREFERRED_STYLE].format(one.item.wrong)
        scores = {n: s(one, wrong, True) for n, s in TALES_SCORES.items()}
        assert scores == {"gold": 0.5, "accuracy": 0.0, "style": 1.0}
        assert not any(s(one, one.response, False) for s in TALES_SCORES.values())
    with pytest.raises(UserError, match="embedded world"):
        tales_score(prompt("a"), "b", True)


def test_held_out_prompts_share_no_operands_with_training():
    """Whatever the seeds: the hash of the operands decides."""

    def operands(split, seed):
        found = set()
        for index in range(1500):
            one = tales_prompts(seed, split, ("largest", "sort")).make(index)
            digits = " ".join(c for c in one.text if c.isdigit())
            found.add((one.task, digits))
            assert split_of(one.task, [("list", digits)]) == split
        return found

    training, held_out = operands("train", 0), operands("test", 1)
    assert len(held_out) > 50
    assert not training & held_out
    source = stream(tales_prompts(split="test"), length=2000)
    assert {asked.prompt.task for b in take(source, 20) for asked in b} <= set(
        tales.CORE
    )


def test_an_overlap_is_refused():
    refuse_overlap(numbered(5), [prompt("another")])
    with pytest.raises(UserError, match="'q 3' is also") as error:
        refuse_overlap([prompt("q  3 ")], [prompt("q 3", where="b.jsonl, line 1")])
    assert str(error.value).startswith("b.jsonl, line 1: ")
