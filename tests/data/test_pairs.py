"""Preference batches: both answers side by side, cut alike, with what else is known."""

import json
import math
from itertools import islice

import pytest
import torch

from folio.config import UserError
from folio.data import tales
from folio.data.embedded import PAIR_CATEGORIES, tales_pairs
from folio.data.order import Endless
from folio.data.pairs import PairFitter, PairStream
from folio.data.records import Pair
from folio.data.tales.mistakes import mistakes
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.scorer import Scorer, ScorerConfig
from folio.objectives.dpo import DPO
from folio.objectives.ranking import Ranking, pairs
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
    return TOKENIZER.decode(batch.inputs[row].tolist()).replace("<|pad|>", "")


def tiny(**options):
    torch.manual_seed(0)
    shape = {"vocab_size": TOKENIZER.vocab_size, "d_model": 16, "n_heads": 2}
    return Decoder(ModelConfig(**shape | options))


def longhand(model, one, answer):
    """Summed log-prob of an answer and its end, from the plain conversation."""
    messages = [*one.prompt, {"role": "assistant", "content": answer}]
    ids, weights = TEMPLATE.render(messages, TOKENIZER)
    table = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(table[i - 1, ids[i]].item() for i in range(len(ids)) if weights[i])


def test_chosen_and_rejected_alternate():
    made = numbered(30)
    for batch in take(stream(made), 25):
        assert batch.denominator == 3
        assert batch.inputs.shape == batch.targets.shape == batch.weights.shape
        assert len(batch.inputs) == len(batch.ends) == 6
        for row in range(3):
            one = made[round(batch.leads[row].item() * 10)]
            prefix = f"<|user|>{one.prompt[0]['content']}<|end|><|assistant|>"
            for place, answer in ((2 * row, one.chosen), (2 * row + 1, one.rejected)):
                assert seen(batch, place) == f"{prefix}{answer}<|end|>"
                assert learned(batch, place) == f"{answer}<|end|>"


def test_targets_are_the_inputs_shifted_and_the_end_of_turn_is_an_input():
    batch = next(stream(numbered(30), masked=True))
    pad = TOKENIZER.special_id("<|pad|>")
    assert batch.ends.max() == batch.inputs.shape[1] - 1  # no wider than needed
    assert len(set(batch.ends.tolist())) > 1
    for inputs, targets, weights, positions, end in zip(
        batch.inputs.tolist(),
        batch.targets.tolist(),
        batch.weights.tolist(),
        batch.positions.tolist(),
        batch.ends.tolist(),
        strict=True,
    ):
        assert inputs[end] == END
        assert set(inputs[end + 1 :]) <= {pad}
        assert targets == [*inputs[1 : end + 1], *[pad] * (len(inputs) - end)]
        assert weights[end - 1] == 1
        assert not any(weights[end:])
        rest = len(inputs) - end - 1
        assert positions == [*range(end + 1), *[-1] * rest]
    assert "positions" not in next(stream(numbered(30)))


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
    assert [seen(swapped, 1), seen(swapped, 0)] == [seen(batch, 0), seen(batch, 1)]
    chosen, rejected = seen(batch, 0), seen(batch, 1)
    assert chosen.endswith("yy<|end|><|assistant|>yes<|end|>")
    assert chosen.removesuffix("yes<|end|>") == rejected.removesuffix("never<|end|>")
    assert len(TOKENIZER.encode(shared)) > 25
    assert len(said) == 1
    assert "1 lost the beginning of their prompt and 0 were left out" in said[0]
    exact = len(TOKENIZER.encode("abc")) + len("yes") + 4  # user, end, assistant, end
    said.clear()
    next(stream([pair("abc", "yes", "no")], length=exact, say=said.append))
    assert said == []
    next(stream([pair("abc", "yes", "no")], length=exact - 1, say=said.append))
    assert len(said) == 1


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


@pytest.mark.parametrize("answer", [23, 24])
def test_an_answer_fits_up_to_the_last_token(answer):
    """With what opens it and its end it is `answer` + 2 inputs."""
    one = PairFitter(TOKENIZER, 25)(pair("abc", "b" * answer, "c"))
    assert (one is None) == (answer == 24)
    if one is not None:
        assert one.chosen.ids[0] == TOKENIZER.special_id("<|assistant|>")
        assert one.chosen.ids[-1] == END
        assert one.rejected.ids[-1] == END


def test_categories_are_places_in_a_list_of_names():
    pairs = [pair("a", "b", "c", category=name) for name in ("style", "", "content")]
    found = stream(pairs, batch=3)
    assert found.category_names == ("", "content", "style")
    assert sorted(next(found).categories.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("masked", [False, True])
def test_reference_log_probs_are_the_models_and_follow_their_pairs(masked):
    model = tiny(dropout=0.5).train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    made = numbered(11)
    found = stream(made, seed=4, masked=masked).with_reference(model, batch=4)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    for name, x in model.state_dict().items():
        assert torch.equal(x, before[name])
    model.eval()
    for batch in take(found, 6):
        assert batch.references.shape == (6,)
        assert not batch.references.requires_grad
        for row in range(3):
            one = made[round(batch.leads[row].item() * 10)]
            both = batch.references[2 * row : 2 * row + 2].tolist()
            wanted = [longhand(model, one, a) for a in (one.chosen, one.rejected)]
            assert both == pytest.approx(wanted, abs=1e-4)


def test_references_are_the_same_on_any_rank():
    model = tiny()
    alone = stream(numbered(10), batch=6).with_reference(model)
    ranks = [
        stream(numbered(10), batch=3, rank=r, world=2).with_reference(model)
        for r in range(2)
    ]
    for _ in range(4):
        together = torch.cat([next(rank).references for rank in ranks])
        assert torch.equal(together, next(alone).references)


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
        together = torch.cat([next(rank).leads for rank in ranks])
        assert torch.equal(together, next(alone).leads)
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


def test_to_measure_on_every_pair_comes_once_in_its_own_order():
    pairs = [pair("?", f"yes {n}", "no", margin=n / 10) for n in range(5)]
    stream = PairStream(pairs, TOKENIZER, batch=2, length=40)
    batches = stream.once()
    assert [batch.denominator for batch in batches] == [2, 2, 1]
    leads = torch.cat([batch.leads for batch in batches])
    torch.testing.assert_close(leads, torch.arange(5) / 10)
    assert stream.index == 0
    with pytest.raises(ValueError, match="endlessly"):
        PairStream(tales_pairs(), TOKENIZER, batch=2, length=400).once()


def test_the_embedded_worlds_pairs_are_in_each_category():
    found = stream(tales_pairs(), categories=PAIR_CATEGORIES, batch=40, length=900)
    batch = next(found)
    assert set(batch.categories.tolist()) == {1, 2, 3}
    style = batch.categories.tolist().index(1)
    assert learned(batch, 2 * style).startswith("Sure!")
    assert not learned(batch, 2 * style + 1).startswith("Sure!")
    with pytest.raises(UserError, match="doesn't fit"):
        next(stream(tales_pairs(), categories=PAIR_CATEGORIES, length=5))
    with pytest.raises(UserError, match=r"category .*: not among none"):
        next(stream(tales_pairs(), length=900))
    same = Endless(lambda n: pair("a", "b", "b"), "same")
    with pytest.raises(UserError, match="answers are the same"):
        next(stream(same))


def wrong_answers(count=300, **options):
    """(the annotator's wrong answer, the one of the pair) where content differs."""
    made = tales_pairs(seed=3, **options)
    for index in range(count):
        one = made.make(index)
        item = tales.instruction(3, "train", index)
        assert one == made.make(index)
        assert one.prompt[0]["content"] == item.prompt
        assert tales.parse_response(one.chosen)[0] == item.answer
        if one.category != "style":
            yield item, tales.parse_response(one.rejected)[0]


def test_the_embedded_worlds_errors_are_of_many_kinds():
    for share in (0.0, 0.5, 1.0):
        found = list(wrong_answers(mistakes=share))
        assert all(wrong != item.answer for item, wrong in found)
        others = [wrong in mistakes(i) and wrong != i.wrong for i, wrong in found]
        assert all(
            other or wrong == item.wrong
            for (item, wrong), other in zip(found, others, strict=True)
        )
        # A near miss may be the annotator's own: the neighboring number.
        assert share * 0.7 <= sum(others) / len(others) <= share + 0.08
    assert list(wrong_answers()) == list(wrong_answers(mistakes=0.5))
    ways = ({}, {"mistakes": 0.4}, {"flip": 0.1}, {"seed": 1}, {"split": "test"})
    assert len({tales_pairs(**way).name for way in ways}) == len(ways)
    for share in (-0.1, 1.5):
        with pytest.raises(UserError, match=f"mistakes = {share}"):
            tales_pairs(mistakes=share)


def test_endless_pairs_that_are_cut_are_told_of_once():
    said = []
    made = Endless(lambda n: pair("x" * (5 + 10 * n), "yes", "no"), "growing pairs")
    found = stream(made, length=25, say=said.append)
    take(found, 3)
    assert len(said) == 1
    assert said[0].startswith("pair 2 of growing pairs is longer than the context of")


# ------------------------------------------------- what the objectives make of it


@pytest.mark.parametrize("masked", [False, True])
def test_dpo_starts_at_ln_2_a_pair(masked):
    model = tiny()
    found = stream(numbered(11), masked=masked).with_reference(model)
    for batch in take(found, 4):
        loss, metrics = DPO()(model, batch)
        assert loss.item() / batch.denominator == pytest.approx(math.log(2), abs=1e-5)
        assert metrics["chosen_logprob"].item() == pytest.approx(
            pairs(batch.references)[0].sum().item(), rel=1e-5
        )


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_a_reward_model_reads_what_it_would_read_alone(kind):
    """At the end of turn, and without seeing padding."""
    model = Scorer(tiny(), ScorerConfig(kind))
    torch.nn.init.normal_(model.value_head.weight)
    made = numbered(11)
    batch = next(stream(made, masked=kind == "encoder"))
    _, metrics = Ranking()(model, batch)
    wanted = [0.0, 0.0]
    for lead in batch.leads.tolist():
        one = made[round(lead * 10)]
        for side, answer in enumerate((one.chosen, one.rejected)):
            messages = [*one.prompt, {"role": "assistant", "content": answer}]
            ids, _ = TEMPLATE.render(messages, TOKENIZER)
            assert ids[-1] == END
            wanted[side] += model(torch.tensor([ids])).values[0, -1].item()
    scores = metrics["chosen_score"].item(), metrics["rejected_score"].item()
    assert scores == pytest.approx(wanted, abs=1e-5)
    assert abs(wanted[0] - wanted[1]) > 1e-3
