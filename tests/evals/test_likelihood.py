"""Batched, shared and cut: the log-probs stay those of one text after another."""

import random

import pytest
import torch

from engines import model_of
from folio.config import UserError
from folio.data.layout import lay_out
from folio.evals.likelihood import (
    Asked,
    document_start,
    likelihoods,
    naive_likelihood,
    split_text,
)
from folio.model.config import Experts
from folio.text.added_tokens import Extras
from folio.text.bpe import BPETokenizer
from folio.text.byte import ByteTokenizer
from helpers import tale

VARIANTS = {
    "plain": {},
    "windows": {"attention_pattern": "wf", "window": 8, "sinks": 2},
    "learned": {"positions": "learned"},
    "experts": {"experts": Experts(4, 2, width=16)},
}


def some_asked(count: int = 24, seed: int = 0) -> list[Asked]:
    """Several continuations to each context, as choices are; lengths of all kinds."""
    chances = random.Random(seed)

    def ids(longest: int) -> list[int]:
        return [chances.randrange(61) for _ in range(chances.randrange(1, longest))]

    contexts = [ids(40) for _ in range(count // 4)]
    return [Asked(context, ids(9)) for context in contexts for _ in range(4)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("at_once", [1, 150, 1 << 14])
def test_batches_equal_one_after_another(variant, at_once):
    model, asked = model_of(**VARIANTS[variant]).double(), some_asked()
    wanted = [naive_likelihood(model, each) for each in asked]
    found = likelihoods(model, asked, pad=3, at_once=at_once)
    assert [one.logprob for one in found] == pytest.approx(
        [one.logprob for one in wanted], abs=1e-5
    )
    assert [one.is_greedy for one in found] == [one.is_greedy for one in wanted]
    spread = [one.logprob for one in wanted]
    assert max(spread) - min(spread) > 1  # far more than the tolerance


def test_contexts_that_choices_share_are_read_once(monkeypatch):
    read = []

    def counted(inputs, starts, stops):
        read.append(lay_out(inputs, starts, stops))
        return read[-1]

    monkeypatch.setattr("folio.data.layout.lay_out", counted)
    contexts = [list(range(30)), list(range(7, 37))]
    asked = [Asked(context, [i, i + 1]) for i in range(4) for context in contexts]
    likelihoods(model_of(), asked)
    [laid] = read
    assert (laid["slots"] >= 0).sum() == 2 * (29 + 4 * 2)  # not 8 x 31


def test_greedy_says_whether_decoding_would_write_it():
    model = model_of()
    context = [5, 6, 7]
    first = model(torch.tensor([context])).logits[0, -1].argmax().item()
    second = model(torch.tensor([[*context, first]])).logits[0, -1].argmax().item()
    other = (second + 1) % 61
    asked = [Asked(context, [first, second]), Asked(context, [first, other])]
    assert [one.is_greedy for one in likelihoods(model, asked)] == [True, False]


def test_a_long_context_loses_its_beginning():
    model = model_of(max_seq_len=16).double()
    long = Asked(list(range(40)), [3, 4])
    kept = Asked(long.context[-15:], long.continuation)  # 16 tokens are read
    said = []
    found, _ = likelihoods(model, [long, kept], say=said.append)
    assert said == [
        "1 of 2 texts to be scored lost their beginning: they are longer than the "
        "context of 16 tokens"
    ]
    assert found.logprob == pytest.approx(naive_likelihood(model, kept).logprob)
    shorter = Asked(long.context[-14:], long.continuation)
    assert abs(found.logprob - naive_likelihood(model, shorter).logprob) > 1e-4


def test_a_continuation_longer_than_the_context_is_refused():
    with pytest.raises(UserError, match=r"continuation of 17 tokens.*= 16; shorten"):
        likelihoods(model_of(max_seq_len=16), [Asked([1], [2] * 17)])


def test_a_broken_model_is_refused_and_a_sound_one_left_as_it_was():
    model = model_of().train()
    likelihoods(model, some_asked(4))
    assert model.training
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        likelihoods(model, some_asked(4))


# ---- texts ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bpe():
    text = tale() + "The answer is red. The answer: ((A)). hens and henhouses. " * 20
    return BPETokenizer.train([text], 400).with_special_tokens()


@pytest.mark.parametrize(
    ("context", "continuation"),
    [
        ("The answer is", " red"),
        ("The answer is ", "red"),  # the space belongs to the word
        ("The answer is  \n ", "red"),
        ("The answer: (", "(A"),  # "((" may be one token
        ("hen", "houses"),
        ("", " red"),
        ("  ", "red"),
        ("☃", "é"),
    ],
)
def test_a_split_is_the_whole_text_as_the_model_reads_it(bpe, context, continuation):
    asked = split_text(context, continuation, bpe.encode)
    whole = bpe.encode(context + continuation)
    assert asked.context + asked.continuation == whole
    before = bpe.decode(asked.context)
    assert context.rstrip().startswith(before)
    assert bpe.decode(asked.continuation).endswith(continuation)


def test_a_space_at_the_end_changes_nothing(bpe):
    one = split_text("The answer is", " red", bpe.encode)
    assert split_text("The answer is ", "red", bpe.encode) == one
    assert bpe.decode(one.continuation) == " red"


def test_a_token_across_the_border_is_the_continuations(bpe):
    text = next(
        bpe.decode([i])
        for i in range(bpe.vocab_size)
        if bpe.decode([i]).isalpha() and len(bpe.decode([i])) > 3
    )
    whole = bpe.encode(text)
    assert len(whole) == 1  # or else this tests nothing
    assert split_text(text[:-1], text[-1], bpe.encode) == Asked([], whole)


def test_a_document_begins_as_in_training():
    tokenizer = ByteTokenizer()
    assert document_start(tokenizer) == [tokenizer.end_of_text]
    llama = tokenizer.with_extras(Extras(start=("<|user|>",)))
    assert document_start(llama) == [tokenizer.special_id("<|user|>")]
