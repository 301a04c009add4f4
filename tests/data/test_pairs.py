"""Preference batches: both answers side by side, cut alike, with what else is known."""

import json
from itertools import islice

import pytest
import torch

from folio.config import UserError
from folio.data.embedded import PAIR_CATEGORIES, tales_pairs
from folio.data.order import Endless
from folio.data.pairs import PairFitter, PairStream
from folio.data.records import Pair
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.text.byte import ByteTokenizer
from folio.text.chat import ChatTemplate

TOKENIZER = ByteTokenizer()
END = TOKENIZER.special_id("<|end|>")
TEMPLATE = ChatTemplate.of(TOKENIZER)


def pair(prompt, chosen, rejected, **more):
    return Pair(({"role": "user", "content": prompt},), chosen, rejected, **more)


def numbered(count):
    return [
        pair(f"q{i}.", "good" * (1 + i % 3), "bad" * (1 + i % 4), margin=i / 10)
        for i in range(count)
    ]


def stream(pairs, **options):
    options = {"batch": 3, "length": 60, "say": lambda text: None} | options
    return PairStream(pairs, TOKENIZER, **options)


def take(pairs, count):
    return list(islice(pairs, count))


def learned(batch, row):
    return TOKENIZER.decode(batch.targets[row][batch.weights[row] == 1].tolist())


def seen(batch, row):
    """All ids of a row as text, padding left out."""
    ids = [int(batch.inputs[row, 0]), *batch.targets[row].tolist()]
    return TOKENIZER.decode(ids).replace("<|pad|>", "")


def longhand(model, one, answer):
    """Summed log-prob of an answer and its end, from the plain conversation."""
    messages = [*one.prompt, {"role": "assistant", "content": answer}]
    ids, weights = TEMPLATE.render(messages, TOKENIZER)
    table = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(table[i - 1, ids[i]].item() for i in range(len(ids)) if weights[i])


def test_chosen_are_above_and_rejected_below_in_the_same_order():
    pairs = numbered(30)
    for batch in take(stream(pairs), 25):
        assert batch.denominator == 3
        assert batch.inputs.shape == batch.targets.shape == batch.weights.shape
        assert len(batch.inputs) == 6
        for row in range(3):
            number = round(batch.margins[row].item() * 10)
            one = pairs[number]
            prefix = f"<|user|>q{number}.<|end|><|assistant|>"
            assert seen(batch, row) == f"{prefix}{one.chosen}<|end|>"
            assert seen(batch, row + 3) == f"{prefix}{one.rejected}<|end|>"
            assert learned(batch, row) == f"{one.chosen}<|end|>"
            assert learned(batch, row + 3) == f"{one.rejected}<|end|>"


def test_earlier_answers_belong_to_the_prompt():
    prompt = (
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "before"},
        {"role": "user", "content": "b"},
    )
    batch = next(stream([Pair(prompt, "yes", "no")], batch=1))
    assert [learned(batch, row) for row in (0, 1)] == ["yes<|end|>", "no<|end|>"]


def test_long_pairs_keep_the_ends_where_they_differ_and_one_prompt():
    said = []
    shared = "x" * 80 + "y" * 10
    batch = next(stream([pair(shared, "yes", "never")], length=25, say=said.append))
    assert batch.inputs.shape == (6, 25)
    swapped = next(stream([pair(shared, "never", "yes")], length=25))
    assert [seen(swapped, 3), seen(swapped, 0)] == [seen(batch, 0), seen(batch, 3)]
    chosen, rejected = seen(batch, 0), seen(batch, 3)
    assert chosen.endswith("yy<|end|><|assistant|>yes<|end|>")
    assert chosen.removesuffix("yes<|end|>") == rejected.removesuffix("never<|end|>")
    assert len(TOKENIZER.encode(shared)) > 25
    assert "1 lost the beginning of their prompt and 0 were left out" in said[0]


def test_pairs_that_cannot_be_used_are_left_out_and_counted():
    said = []
    pairs = [pair("a", "b" * 90, "c"), pair("a", "b", "b"), *numbered(4)]
    found = stream(pairs, say=said.append)
    assert len(found.kept) == 4
    assert "of 6 pairs 0 lost" in said[0]
    assert "1 were left out: too long" in said[0]
    assert "1 left out: both answers" in said[0]
    with pytest.raises(UserError, match="none of 2 pairs"):
        stream(pairs[:2])
    quiet = []
    stream(numbered(4), say=quiet.append)
    assert quiet == []


@pytest.mark.parametrize("answer", [24, 25])
def test_an_answer_fits_up_to_the_last_token(answer):
    """With its end it is `answer` + 1 targets; what opens it is an input."""
    one = PairFitter(TOKENIZER, 25)(pair("abc", "b" * answer, "c"))
    assert (one is None) == (answer == 25)
    if one is not None:
        assert one.chosen.ids[0] == TOKENIZER.special_id("<|assistant|>")
        assert one.chosen.ids[-1] == END
        assert one.rejected.ids[-1] == END


def test_categories_are_places_in_a_list_of_names():
    pairs = [pair("a", "b", "c", category=name) for name in ("style", "", "content")]
    found = stream(pairs, batch=3)
    assert found.category_names == ("", "content", "style")
    assert sorted(next(found).categories.tolist()) == [0, 1, 2]


def test_reference_log_probs_are_the_models_and_follow_their_pairs():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=TOKENIZER.vocab_size, d_model=16, n_heads=2)
    model = Decoder(config)
    model.blocks[0].dropout.p = 0.5
    model.train()
    pairs = numbered(11)
    found = stream(pairs, seed=4).with_reference(model, batch=4)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    model.eval()
    for batch in take(found, 6):
        assert batch.references.shape == (6,)
        assert not batch.references.requires_grad
        for row in range(3):
            one = pairs[round(batch.margins[row].item() * 10)]
            wanted = longhand(model, one, one.chosen)
            assert batch.references[row].item() == pytest.approx(wanted, abs=1e-4)
            wanted = longhand(model, one, one.rejected)
            assert batch.references[row + 3].item() == pytest.approx(wanted, abs=1e-4)


def test_without_a_reference_there_is_none():
    assert "references" not in next(stream(numbered(3)))
    with pytest.raises(UserError, match="worked out once"):
        stream(tales_pairs(), categories=PAIR_CATEGORIES).with_reference(None)


@pytest.mark.parametrize(("world", "batch"), [(2, 3), (3, 2), (6, 1)])
def test_any_number_of_ranks_sees_one_order(world, batch):
    alone = stream(numbered(10), batch=6)
    ranks = [
        stream(numbered(10), batch=batch, rank=r, world=world) for r in range(world)
    ]
    orders = []
    for _ in range(5):
        together = torch.cat([next(rank).margins for rank in ranks])
        assert torch.equal(together, next(alone).margins)
        orders += together.tolist()
    epochs = [sorted(orders[i : i + 10]) for i in (0, 10, 20)]
    assert epochs[0] == epochs[1] == epochs[2]
    assert len(set(epochs[0])) == 10


def test_resumed_in_mid_epoch_equals_never_stopped():
    whole = take(stream(numbered(10)), 12)
    for step in range(12):
        first = stream(numbered(10))
        take(first, step)
        second = stream(numbered(10))
        take(second, 5)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert torch.equal(next(second).inputs, whole[step].inputs)
    state = stream(numbered(10)).state_dict()
    for name, other in {
        "pairs": stream(numbered(9)),
        "length": stream(numbered(10), length=61),
        "seed": stream(numbered(10), seed=1),
    }.items():
        with pytest.raises(UserError, match=f"{name} was"):
            other.load_state_dict(state)


def test_the_embedded_worlds_pairs_are_in_each_category():
    found = stream(tales_pairs(), categories=PAIR_CATEGORIES, batch=40, length=900)
    batch = next(found)
    assert set(batch.categories.tolist()) == {1, 2, 3}
    style = batch.categories.tolist().index(1)
    assert learned(batch, style).startswith("Sure!")
    with pytest.raises(UserError, match="doesn't fit"):
        next(stream(tales_pairs(), categories=PAIR_CATEGORIES, length=5))
    with pytest.raises(UserError, match=r"category .*: not among none"):
        next(stream(tales_pairs(), length=900))
    same = Endless(lambda n: pair("a", "b", "b"), "same")
    with pytest.raises(UserError, match="answers are the same"):
        next(stream(same))
