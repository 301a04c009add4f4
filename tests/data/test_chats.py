"""Conversations as batches: what is learned, in which order, and at what cost."""

import json
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.data.chats import BLOCK, ChatStream
from folio.data.curriculum import Curriculum
from folio.data.embedded import tales_conversations
from folio.data.order import Endless, Order
from folio.data.records import Conversation
from folio.data.rows import fit, last_answer, make_row, pack_rows, pad_id, padded
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token
from folio.text.byte import ByteTokenizer
from folio.text.chat import ChatTemplate

TOKENIZER = ByteTokenizer()
END = TOKENIZER.special_id("<|end|>")
OPEN = TOKENIZER.special_id("<|assistant|>")
SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=25)


def talk(*texts):
    roles = ("user", "assistant")
    return Conversation(
        tuple({"role": roles[i % 2], "content": t} for i, t in enumerate(texts))
    )


def numbered(count, longest=12):
    """Conversations that can be told apart by their first words."""
    return [
        talk(f"q{i}.", "a" * (1 + i * 7 % longest), *(["more", "yes"] * (i % 3 == 0)))
        for i in range(count)
    ]


def stream(talks, **options):
    options = {"batch": 3, "length": 40, "say": lambda text: None} | options
    return ChatStream(talks, TOKENIZER, **options)


def take(chats, count):
    return list(islice(chats, count))


def rows_in(batch):
    """Each conversation of a batch as (inputs, targets, weights)."""
    for index in range(len(batch.inputs)):
        if "documents" in batch:
            documents = batch.documents[index]
        else:  # padding is what follows the last weight
            last = int(batch.weights[index].nonzero()[-1])
            documents = torch.where(
                torch.arange(len(batch.inputs[index])) > last, -1, 0
            )
        for document in range(int(documents.max()) + 1):
            here = documents == document
            yield (
                batch.inputs[index, here].tolist(),
                batch.targets[index, here].tolist(),
                batch.weights[index, here].tolist(),
            )


def questions(batches):
    """Which numbered conversations came, in order."""
    found = []
    for batch in batches:
        for inputs, _, _ in rows_in(batch):
            text = TOKENIZER.decode(inputs)
            found.append(int(text.split("q")[1].split(".")[0]))
    return found


# ---------------------------------------------------------------- what is learned


@pytest.mark.parametrize("packed", [True, False])
def test_the_first_learned_target_opens_the_answer_and_the_last_ends_it(packed):
    """Off by one at either end would learn the opening mark or forget to stop."""
    talks = numbered(30)
    for batch in take(stream(talks, packed=packed), 20):
        assert batch.denominator == batch.weights.sum().item()
        assert bool((batch.weights.sum(1) > 0).all())
        for inputs, targets, weights in rows_in(batch):
            learned = np.flatnonzero(weights)
            assert inputs[learned[0]] == OPEN
            assert targets[learned[0]] == ord("a")
            assert targets[learned[-1]] == END
            assert inputs[1:] == targets[:-1]
            said = [targets[i] for i in learned]
            assert said.count(END) == targets.count(OPEN)  # each answer's end


def test_a_row_is_the_template_shifted_by_one():
    one = talk("How?", "So.", "Why?", "Thus.")
    ids, weights = ChatTemplate.of(TOKENIZER).render(one.messages, TOKENIZER)
    for packed in (True, False):
        batch = next(stream([one], batch=1, packed=packed))
        assert batch.inputs[0].tolist() == ids[:-1]
        assert batch.targets[0].tolist() == ids[1:]
        assert batch.weights[0].tolist() == weights[1:]


def test_padding_is_known_by_its_weight_and_never_by_an_end_of_turn():
    assert pad_id(TOKENIZER) == TOKENIZER.special_id("<|pad|>") != END
    no_pad = ByteTokenizer(
        [name for name in TOKENIZER.special_tokens if name != "<|pad|>"]
    )
    talks = [talk("a", "b" * n) for n in (1, 9)]
    learned = []
    for tokenizer in (TOKENIZER, no_pad):
        batch = next(ChatStream(talks, tokenizer, batch=2, length=40, packed=False))
        end = tokenizer.special_id("<|end|>")
        learned.append(int((batch.weights[batch.targets == end] == 1).sum()))
        assert batch.denominator == 1 + 9 + 2
    assert learned == [2, 2]


def test_a_literal_end_mark_in_a_message_is_text():
    batch = next(stream([talk("<|end|>", "x<|end|>y")], batch=1, length=60))
    assert int((batch.targets == END).sum()) == 2  # the user's and the assistant's
    learned = batch.targets[batch.weights == 1].tolist()
    assert TOKENIZER.decode(learned[:-1]) == "x<|end|>y"
    assert END not in learned[:-1]


def test_a_trailing_question_is_no_row_to_learn_and_is_cut():
    batch = next(stream([talk("a", "b", "left unanswered")], batch=1))
    assert batch.targets[0, -1] == END
    assert batch.weights[0, -1] == 1


def test_loss_on_the_prompt_weighs_every_target():
    chats = stream([talk("abc", "d")], batch=1, loss_on_prompt=True)
    assert bool((next(chats).weights == 1).all())
    cut = next(stream([talk("abc" * 20, "d")], batch=1, loss_on_prompt=True))
    assert bool((cut.weights == 1).all())
    assert cut.weights.shape == (1, 40)


# ----------------------------------------------------------------- what is too long


def test_a_long_prompt_loses_its_beginning_and_the_answer_nothing():
    said = []
    one = talk("x" * 100 + "?", "yes")
    chats = stream([one], batch=1, length=20, say=said.append, packed=False)
    batch = next(chats)
    assert batch.inputs.shape == (1, 20)
    whole = TOKENIZER.decode([int(batch.inputs[0, 0]), *batch.targets[0].tolist()])
    assert whole == "x" * 14 + "?<|end|><|assistant|>yes<|end|>"
    learned = batch.targets[batch.weights == 1].tolist()
    assert TOKENIZER.decode(learned) == "yes<|end|>"
    assert said == [
        "of 1 conversations 1 lost their beginning and 0 were left out: too long for"
        " the context of 20"
    ]


@given(
    length=st.integers(1, 40),
    texts=st.lists(st.text("ab", max_size=12), min_size=2, max_size=6).filter(
        lambda texts: len(texts) % 2 == 0
    ),
)
@SETTINGS
def test_whatever_is_cut_whole_answers_remain_and_fit(length, texts):
    rendered = ChatTemplate.of(TOKENIZER).render(talk(*texts).messages, TOKENIZER)
    row = fit(make_row(*rendered), length)
    answer = len(texts[-1]) + 1
    assert (row is None) == (answer > length)
    if row is None:
        return
    assert row.targets == min(length, len(rendered[0]) - 1)
    assert row.ids[-1] == END
    assert row.weights[0] == 0
    assert last_answer(row.weights) == len(row.ids) - answer
    starts = np.flatnonzero(np.diff(row.weights) == 1)
    assert all(row.ids[start] == OPEN for start in starts)  # none begins in the middle


@pytest.mark.parametrize("answer", [18, 19, 20])
def test_an_answer_fits_up_to_the_last_token(answer):
    """With its end it is `answer` + 1 targets; what opens it is an input."""
    rendered = ChatTemplate.of(TOKENIZER).render(
        talk("abc", "b" * answer).messages, TOKENIZER
    )
    row = fit(make_row(*rendered), 20)
    assert (row is None) == (answer == 20)
    if row is not None:
        assert OPEN in row.ids
        assert row.weights.sum() == answer + 1


def test_conversations_that_cannot_fit_are_left_out_and_counted():
    said = []
    talks = [talk("a", "b" * 50), talk("q7.", "b"), talk("q8." + "x" * 50, "b")]
    chats = stream(talks, length=20, say=said.append, overlong="drop")
    assert set(questions(take(chats, 3))) == {7}
    assert "0 lost their beginning and 2 were left out" in said[0]
    with pytest.raises(UserError, match="none of 1 conversations fits"):
        stream(talks[:1], length=20)
    nothing = []
    stream(talks, length=200, say=nothing.append)
    assert nothing == []


# ------------------------------------------------------------------------ the order


@pytest.mark.parametrize("packed", [True, False])
def test_an_epoch_deals_each_conversation_once_and_epochs_differ(packed):
    chats = stream(numbered(20), batch=1, packed=packed)
    epochs = []
    for block in range(3):
        chats.block, chats.row = block, 0
        rows = take(chats, len(chats.rows_of(block)))
        epochs.append(questions(rows))
    assert [sorted(epoch) for epoch in epochs] == [list(range(20))] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert questions(take(stream(numbered(20), seed=1, packed=packed), 3)) != questions(
        take(stream(numbered(20), packed=packed), 3)
    )


@given(
    world=st.integers(1, 4),
    batch=st.integers(1, 3),
    count=st.integers(1, 30),
    packed=st.booleans(),
)
@SETTINGS
def test_any_number_of_ranks_sees_one_order(world, batch, count, packed):
    options = {"packed": packed, "seed": 5}
    alone = stream(numbered(count), batch=world * batch, **options)
    ranks = [
        stream(numbered(count), batch=batch, rank=r, world=world, **options)
        for r in range(world)
    ]
    for _ in range(4):
        together = [row for rank in ranks for row in rows_in(next(rank))]
        assert together == list(rows_in(next(alone)))
    assert all(rank.state_dict() == alone.state_dict() for rank in ranks)


@pytest.mark.parametrize("packed", [True, False])
def test_resumed_in_mid_epoch_equals_never_stopped(packed):
    def fresh(**options):
        curriculum = Curriculum(0.5, window=4)
        return stream(numbered(25), packed=packed, curriculum=curriculum, **options)

    whole = take(fresh(), 20)
    for step in range(20):
        first = fresh()
        take(first, step)
        second = fresh()
        take(second, 7)  # wherever it stood before
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        found = next(second)
        assert found.keys() == whole[step].keys()
        assert all(torch.equal(found[name], whole[step][name]) for name in found)
    first = fresh()
    take(first, 4)
    ranks = [fresh(batch=1, rank=r, world=3) for r in range(3)]
    together = []
    for rank in ranks:
        rank.load_state_dict(first.state_dict())
        together += rows_in(next(rank))
    assert together == list(rows_in(whole[4]))


def test_a_state_is_of_one_set_and_one_way_to_read_it():
    state = stream(numbered(9)).state_dict()
    others = {
        "conversations": stream(numbered(8)),
        "length": stream(numbered(9), length=41),
        "seed": stream(numbered(9), seed=1),
        "packed": stream(numbered(9), packed=False),
        "overlong": stream(numbered(9), overlong="drop"),
    }
    others["conversations"].load_state_dict(others["conversations"].state_dict())
    for name, other in others.items():
        with pytest.raises(UserError, match=f"can't resume the data: {name} was"):
            other.load_state_dict(state)
    ordered = stream(numbered(9), curriculum=Curriculum())
    with pytest.raises(UserError, match="conversations was"):
        ordered.load_state_dict(state)


def test_conversations_made_endlessly_come_in_their_order_and_resume():
    source = Endless(lambda n: talk(f"q{n}.", "a" * (n % 5)), "counting")
    batches = take(stream(source, batch=8, packed=False), 80)
    assert questions(batches) == list(range(640))
    assert 2 * BLOCK < 640
    chats = stream(source, batch=8)
    whole = take(chats, 12)
    again = stream(source, batch=8)
    take(again, 11)
    third = stream(source, batch=8)
    third.load_state_dict(again.state_dict())
    assert torch.equal(next(third).inputs, whole[11].inputs)
    with pytest.raises(UserError, match="can't be sorted"):
        stream(source, curriculum=Curriculum())


def test_the_embedded_world_packs_well():
    chats = ChatStream(tales_conversations(), TOKENIZER, batch=2, length=2000)
    for batch in take(chats, 3):
        filled = (batch.documents >= 0).float().mean().item()
        assert filled > 0.9
        assert batch.denominator > 50


# ------------------------------------------------------------------------ curriculum


def test_a_curriculum_goes_from_short_to_long_then_is_as_ever():
    count, share, window = 200, 0.4, 10
    talks = [talk(f"q{i}.", "a" * (1 + i * 37 % 97)) for i in range(count)]
    sizes = [len(one.messages[1]["content"]) for one in talks]
    curriculum = Curriculum(share, window=window)
    options = {"batch": 1, "length": 120, "packed": False, "seed": 2}
    order = questions(take(stream(talks, curriculum=curriculum, **options), 2 * count))
    plain = questions(take(stream(talks, **options), 2 * count))
    early = round(count * share)
    assert order[early:] == plain[early:]  # the rest, and the next epoch
    assert sorted(order[:early]) == sorted(plain[:early])  # a fair sample
    lengths = [len(f"q{i}.") + sizes[i] for i in order[:early]]
    windows = [lengths[i : i + window] for i in range(0, early, window)]
    for one, following in pairwise(windows):
        assert max(one) <= min(following)
    assert any(one != sorted(one) for one in windows)


def test_a_curriculum_by_given_difficulty():
    talks = numbered(20)
    hard = [-float(i) for i in range(20)]
    curriculum = Curriculum(1.0, window=1, difficulty=hard)
    chats = stream(talks, batch=1, packed=False, curriculum=curriculum)
    assert questions(take(chats, 20)) == list(range(19, -1, -1))
    dropping = stream(
        [talk("a", "b" * 90), *talks],
        batch=1,
        packed=False,
        curriculum=Curriculum(1.0, window=1, difficulty=[0.0, *hard]),
    )
    assert questions(take(dropping, 20)) == list(range(19, -1, -1))
    with pytest.raises(UserError, match="19 numbers for 20"):
        stream(talks, curriculum=Curriculum(difficulty=hard[1:]))
    with pytest.raises(UserError, match="finite"):
        stream(talks, curriculum=Curriculum(difficulty=[float("nan"), *hard[1:]]))


# --------------------------------------------------------------------------- packing


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60))
@SETTINGS
def test_packing_loses_nothing_and_overfills_nothing(sizes):
    rows = [
        make_row([i] * (size + 1), [0] + [1] * size) for i, size in enumerate(sizes)
    ]
    groups = pack_rows(rows, 30)
    assert sorted(int(row.ids[0]) for group in groups for row in group) == list(
        range(len(sizes))
    )
    loads = [sum(row.targets for row in group) for group in groups]
    assert max(loads) <= 30
    assert sum(load * 2 <= 30 for load in loads) <= 1  # two such would be one
    firsts = [int(group[0].ids[0]) for group in groups]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("options", [{}, {"positions": "learned"}, {"window": 5}])
def test_packed_costs_what_padded_costs_in_value_and_gradient(options):
    torch.manual_seed(0)
    config = {"vocab_size": TOKENIZER.vocab_size, "d_model": 16, "n_heads": 2}
    model = Decoder(ModelConfig(n_layers=2, max_seq_len=64, **(config | options)))
    model.double()
    talks = numbered(9)
    together = stream(talks, batch=1, length=64)
    groups = together.rows_of(0)
    together.batch = len(groups)
    assert len(groups) < 9

    def cost(batch):
        model.zero_grad()
        batch["weights"] = batch.weights.double()
        loss, _ = next_token(model, batch)
        loss.backward()
        return loss.item(), [p.grad.clone() for p in model.parameters()]

    rows = [row for group in groups for row in group]
    apart, wanted = cost(padded(rows, together.pad))
    loss, found = cost(next(together))
    assert loss == pytest.approx(apart, rel=1e-12)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_a_masked_target_has_no_gradient_at_all():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=TOKENIZER.vocab_size, d_model=16, n_heads=2)
    model = Decoder(config)
    batch = next(stream(numbered(9), batch=2))
    logits = model(
        batch.inputs, positions=batch.positions, documents=batch.documents
    ).logits.detach()
    logits.requires_grad_()
    logprobs = logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    (-(logprobs * batch.weights).sum()).backward()
    assert bool((logits.grad[batch.weights == 0] == 0).all())
    assert bool((logits.grad[batch.weights == 1].abs().sum(-1) > 0).all())
    assert int((batch.weights == 0).sum()) > 0


# --------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch = 0"),
        ({"length": 0}, "length = 0"),
        ({"rank": 2, "world": 2}, "rank = 2"),
        ({"overlong": "cut"}, "overlong = 'cut'"),
        ({"curriculum": "x"}, None),
    ],
)
def test_impossible_settings_are_refused(options, words):
    if words is None:
        for bad in ({"share": 0.0}, {"share": 1.5}, {"window": 0}):
            with pytest.raises(UserError, match=f"curriculum.{next(iter(bad))} = "):
                Curriculum(**bad)
        return
    with pytest.raises(UserError, match=words):
        stream(numbered(3), **options)


def test_an_order_is_a_shuffle_of_every_epoch():
    cards = Order(7, seed=3).cards(np.arange(21)).reshape(3, 7)
    assert (np.sort(cards, axis=1) == np.arange(7)).all()
    assert (Order(7, seed=3).cards(np.arange(5, 9)) == cards.ravel()[5:9]).all()
