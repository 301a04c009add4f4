"""Accuracies of choices: by every rule, against longhand and against known answers."""

import math

import pytest
import torch

from engines import model_of
from folio.config import UserError
from folio.evals.choices import (
    BASELINES,
    RULES,
    Accuracy,
    Choice,
    choices_table,
    hit,
    measure_choices,
    weigh,
)
from folio.evals.likelihood import Asked, naive_likelihood
from folio.evals.questions import Question, tales_questions
from folio.text.byte import ByteTokenizer
from folio.text.chat import ChatTemplate

TOKENIZER = ByteTokenizer()
SHAPE = {"vocab_size": TOKENIZER.vocab_size, "max_seq_len": 1024}
QUESTIONS = [
    Question("The hen sat on the", ("egg", "moonlit hill", "née"), 0, "sit"),
    Question("The hen sat on the ", ("egg", "moonlit hill", "née"), 0, "sit"),
    Question("Who?\n", ("me", "you"), 1, "who"),
    Question("", ("A fox", "A cow"), 0, "who"),
]


def longhand(model, question: Question, choice: int, context: str | None = None):
    """Log-probs of a choice's bytes, one by one, after the end of another document."""
    given = question.context if context is None else context
    bare = given.rstrip()
    ids = [TOKENIZER.end_of_text, *bare.encode()]
    logprobs = []
    for byte in (given[len(bare) :] + question.continuation(choice)).encode():
        logits = model(torch.tensor([ids])).logits[0, -1]
        logprobs.append(logits.log_softmax(-1)[byte].item())
        ids.append(byte)
    return logprobs


@torch.no_grad()
def test_every_number_equals_longhand():
    model = model_of(**SHAPE).double()
    for question, choices in zip(
        QUESTIONS, weigh(model, TOKENIZER, QUESTIONS), strict=True
    ):
        for index, choice in enumerate(choices):
            text = question.choices[index]
            own, bare = (longhand(model, question, index, c) for c in (None, ""))
            scores = {
                "sum": sum(own),
                "character": sum(own) / len(text),
                "byte": sum(own) / len(text.encode()),
                "token": sum(own) / choice.tokens,
                "unconditional": sum(own) - sum(bare),
                "blind": sum(bare),
            }
            assert choice.text == text
            for rule in RULES:
                assert choice.score(rule) == pytest.approx(scores[rule], abs=1e-5), rule


def test_a_space_that_moves_is_still_scored():
    model = model_of(**SHAPE).double()
    one, other, *_ = weigh(model, TOKENIZER, QUESTIONS)
    for a, b in zip(one, other, strict=True):  # "... the" + " egg", "... the " + "egg"
        assert a.logprob == pytest.approx(b.logprob, abs=1e-9)
        assert a.tokens == b.tokens


@torch.no_grad()
def test_in_a_chat_the_whole_reply_counts_with_its_end():
    model = model_of(**SHAPE).double()
    question = Question("Q: who? A:", ("me", "you"), 0, end=".", prompt="Who?")
    [choices] = weigh(model, TOKENIZER, [question], chat=True)
    for text, choice in zip(question.choices, choices, strict=True):
        said = [{"role": "user", "content": "Who?"}]
        before, _ = ChatTemplate().render(said, TOKENIZER, True)
        said.append({"role": "assistant", "content": text})
        whole, _ = ChatTemplate().render(said, TOKENIZER)
        assert TOKENIZER.decode(whole[len(before) :]) == f"{text}<|end|>"
        wanted = naive_likelihood(model, Asked(before, whole[len(before) :])).logprob
        assert choice.logprob == pytest.approx(wanted, abs=1e-5)
        assert choice.tokens == len(text) + 1
    [plain] = weigh(model, TOKENIZER, [question])
    assert plain[0].tokens == len(" me.")
    assert plain[0].score("character") == plain[0].logprob / len("me")


def test_rules_may_choose_differently():
    question = Question("?", ("no", "certainly not"), answer=1)
    choices = [Choice("no", 1, -4.0, -3.0), Choice("certainly not", 2, -6.0, -9.0)]
    found = {rule: hit(question, choices, rule) for rule in RULES}
    assert [found[rule] for rule in RULES] == [0, 1, 1, 1, 1, 0]
    assert hit(question, choices[::-1], "sum") == 1


def test_results_are_those_of_the_questions_of_each_task():
    model = model_of(**SHAPE)
    found = measure_choices(model, TOKENIZER, QUESTIONS)
    assert list(found) == ["all", "sit", "who"]
    judged = weigh(model, TOKENIZER, QUESTIONS)
    for rule in RULES:
        hits = [hit(*each, rule) for each in zip(QUESTIONS, judged, strict=True)]
        assert found["all"][rule] == Accuracy.of(hits)
        assert found["sit"][rule] == Accuracy.of(hits[:2])
    assert found["who"]["chance"].mean == 0.5
    assert found["sit"]["longest"].mean == 0
    assert found["sit"]["shortest"].mean == 0.5  # "egg" or "née"


def test_standard_errors():
    assert Accuracy.of([1, 0] * 50).error == pytest.approx(0.5 / math.sqrt(99))
    assert Accuracy.of([1.0] * 9).error == 0
    assert math.isnan(Accuracy.of([1.0]).error)


def test_a_model_that_has_learned_nothing_guesses():
    questions = tales_questions(count=120)
    found = measure_choices(model_of(**SHAPE), TOKENIZER, questions)["all"]
    assert found["chance"].mean == 0.25
    for rule in ("character", "byte", "token"):
        assert found[rule].mean < 0.25 + 4 * found[rule].error
    for name in BASELINES:
        assert found[name].mean < 0.4  # lengths don't tell


def test_the_table_has_a_line_for_each_task():
    lines = choices_table(measure_choices(model_of(**SHAPE), TOKENIZER, QUESTIONS))
    head, *rest = lines.splitlines()
    assert head.split() == ["questions", *RULES, *BASELINES]
    assert [line.split()[:2] for line in rest] == [
        ["all", "4"],
        ["sit", "2"],
        ["who", "2"],
    ]


def test_nothing_to_answer():
    with pytest.raises(UserError, match="no questions"):
        measure_choices(model_of(**SHAPE), TOKENIZER, [])
