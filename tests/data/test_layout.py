"""Laid out or not, a model says the same of the same rows."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import folio.data.layout as layout
from folio.data.batch import Batch
from folio.data.layout import answers_laid_out, ends_of, lay_out, respond
from folio.data.packing import pack
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.mask import Mask, visible
from folio.model.options import Experts
from folio.model.scorer import ActorCritic, Scorer
from folio.objectives.distill import Distill
from folio.objectives.dpo import DPO
from folio.objectives.grpo import GRPO
from folio.objectives.next_token import next_token
from folio.objectives.ppo import PPO
from folio.objectives.ranking import Ranking

VOCABULARY = 17
SHAPES = {
    "plain": {},
    "learned": {"positions": "learned"},
    "grouped": {"n_heads": 4, "n_kv_heads": 2},
    "window": {"window": 5, "sinks": 2},
    "experts": {"experts": Experts(4, 2)},
}


def model_of(shape: str = "plain", seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    sizes = {"d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 64}
    return Decoder(ModelConfig(vocab_size=VOCABULARY, **sizes | SHAPES[shape])).double()


def rows_of(groups: list[tuple[int, list[int]]], seed: int = 0) -> Batch:
    """For each group a prompt of so many ids, and answers of so many."""
    make = torch.Generator().manual_seed(seed)
    total = sum(len(answers) for _, answers in groups)
    width = max(size + max(answers) for size, answers in groups) - 1
    inputs = torch.zeros(total, width, dtype=torch.long)
    targets, weights = inputs.clone(), torch.zeros(total, width).double()
    row = 0
    for size, answers in groups:
        prompt = torch.randint(1, VOCABULARY, (size,), generator=make)
        for answer in answers:
            said = torch.randint(1, VOCABULARY, (answer,), generator=make)
            ids = torch.cat([prompt, said])
            inputs[row, : len(ids) - 1] = ids[:-1]
            targets[row, : len(ids) - 1] = ids[1:]
            weights[row, size - 1 : len(ids) - 1] = 1
            row += 1
    tensors = {"inputs": inputs, "targets": targets, "weights": weights}
    return Batch(weights.sum().item(), **tensors)


PAIRS = [(9, [3, 7]), (1, [8, 2]), (12, [1, 2]), (4, [6, 5])]
GROUPS = [(9, [3, 7, 7, 1]), (11, [8, 2, 4, 4])]


def laid(batch: Batch) -> Batch:
    found = answers_laid_out(batch.inputs, batch.weights)
    assert found
    return Batch(batch.denominator, **batch, **found)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.integers(1, 6), min_size=1)),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 99),
)
def test_every_token_is_read_once_and_after_its_own_text(groups, seed):
    batch = rows_of([(size, answers[:4]) for size, answers in groups], seed)
    found = answers_laid_out(batch.inputs, batch.weights)
    if not found:
        return
    slots, documents = found["slots"], found["slot_documents"]
    taken = slots[slots >= 0]
    assert len(taken.unique()) == len(taken)
    rows, width = batch.inputs.shape
    assert set((batch.weights.flatten() != 0).nonzero().flatten().tolist()) <= set(
        taken.tolist()
    )
    assert slots.numel() <= layout.WORTH * rows * width
    places = torch.where(slots >= 0, slots % width, -1)
    seen = visible(places, places, documents=(documents, documents))
    for row, slot in (slots >= 0).nonzero().tolist():
        own, place = divmod(slots[row, slot].item(), width)
        text = batch.inputs.flatten()[slots[row][seen[row, slot]]]
        order = places[row][seen[row, slot]].argsort()
        assert torch.equal(text[order], batch.inputs[own, : place + 1])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_says_the_same(shape):
    model, batch = model_of(shape).eval(), rows_of(PAIRS)
    asked = {"targets": batch.targets, "where": batch.weights != 0, "entropy": True}
    plain, moved = (respond(model, each, **asked) for each in (batch, laid(batch)))
    for name in ("logprobs", "entropy"):
        torch.testing.assert_close(getattr(moved, name), getattr(plain, name))
    assert plain.logprobs.abs().max() > 1


def of_rollout(batch: Batch) -> Batch:
    make = torch.Generator().manual_seed(1)

    def noise():
        return torch.randn(batch.weights.shape, generator=make).double()

    names = ("advantages", "returns", "old_values", "reference_logprobs")
    return Batch(
        batch.denominator,
        **batch,
        **{name: noise() for name in names},
        old_logprobs=-2.5 + 0.1 * noise(),
        return_std=torch.ones(len(batch.inputs)).double(),
    )


def objectives():
    pairs, groups = rows_of(PAIRS), rows_of(GROUPS)
    ends = ends_of(pairs.weights)
    teacher = torch.randn(*groups.inputs.shape, VOCABULARY).double()
    few = len(PAIRS)
    preference = Batch(few, **pairs, references=-3.0 * torch.ones(2 * few).double())
    ranking = Batch(few, **pairs, ends=ends - 1, leads=torch.zeros(few))
    distilled = Batch(groups.denominator, **groups, teacher_logits=teacher)
    decoder = model_of()
    scorer, critic = Scorer(model_of(seed=2)), Scorer(model_of(seed=3))
    for each in (scorer, critic):
        torch.nn.init.normal_(each.value_head.weight)
    both = ActorCritic(decoder, critic.double())
    return {
        "next token": (next_token, decoder, pairs),
        "dpo": (DPO(nll=0.1), decoder, preference),
        "ranking": (Ranking(), scorer.double(), ranking),
        "grpo": (GRPO(entropy=True), decoder, of_rollout(groups)),
        "ppo": (PPO(value_clip=0.2), both, of_rollout(groups)),
        "distill": (Distill(), decoder, distilled),
    }


@pytest.mark.parametrize("name", objectives())
def test_every_objective_and_its_gradient_are_the_same(name):
    objective, model, batch = objectives()[name]
    results = []
    for each in (batch, laid(batch)):
        model.zero_grad()
        loss, metrics = objective(model, each)
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((loss.detach(), metrics, grads))
    (loss, metrics, grads), (same, same_metrics, same_grads) = results
    torch.testing.assert_close(same, loss)
    torch.testing.assert_close(same_metrics, metrics)
    torch.testing.assert_close(same_grads, grads)
    assert max(grad.abs().max() for grad in grads) > 1e-3


def test_each_row_has_the_router_loss_of_where_it_was_read():
    model = model_of("experts").train()
    batch = laid(rows_of([(20, [7, 7, 7]), (3, [9])]))
    asked = {"targets": batch.targets, "where": batch.weights != 0}
    found = respond(model, batch, **asked).router_loss
    width = batch.inputs.shape[1]
    there = batch.slots >= 0
    raw = model(
        batch.inputs.flatten()[batch.slots.clamp(min=0)],
        positions=torch.where(there, batch.slots % width, -1),
        documents=batch.slot_documents,
    ).router_loss
    assert len(found) == 4
    for row, slots in enumerate(batch.slots):
        for own in set((slots[slots >= 0] // width).tolist()):
            assert found[own] == raw[row]


def test_a_wide_group_is_split_and_its_prompt_repeated(monkeypatch):
    monkeypatch.setattr(layout, "WIDEST", 20)
    batch = rows_of([(9, [5, 5, 5, 5])])
    found = answers_laid_out(batch.inputs, batch.weights)
    assert found["slots"].shape == (2, 8 + 2 * 5)
    trunks = found["slots"][:, :8]
    assert (trunks % batch.inputs.shape[1] == torch.arange(8)).all()


def test_rows_that_are_dense_already_are_left_alone():
    batch = rows_of([(4, [5]), (3, [6])])
    assert answers_laid_out(batch.inputs, batch.weights) == {}


def test_equal_prompts_that_are_not_neighbors_or_whole_are_not_shared():
    inputs = torch.tensor([[5, 6, 7, 1], [5, 6, 9, 1], [5, 6, 7, 1], [9, 9, 0, 0]])
    found = lay_out(inputs, torch.tensor([3, 2, 2, 1]), torch.tensor([4, 4, 4, 2]))
    rows = [set(row[row >= 0].tolist()) for row in found["slots"]]
    assert {0, 1, 2, 3} <= rows[0]
    assert found["slots"][found["slots"] >= 0].tolist().count(8) == 0  # read with row 1
    assert {4, 5, 6, 7, 10, 11} <= set.union(*rows)


def test_the_mask_rule_is_the_same_one_token_at_a_time():
    """FlexAttention's form of several documents, against the readable one."""
    flex = pytest.importorskip("folio.model.flex")
    batch = laid(rows_of(GROUPS))
    places = torch.where(batch.slots >= 0, batch.slots % batch.inputs.shape[1], -1)
    documents = batch.slot_documents
    mask = Mask(places, places, documents=(documents, documents))
    rule = flex.rule_of(mask, len(places))
    width = range(places.shape[1])
    one = [
        [[bool(rule(b, 0, q, k)) for k in width] for q in width]
        for b in range(len(places))
    ]
    assert torch.equal(torch.tensor(one), mask.seen[:, 0])


def test_the_model_is_not_told_of_rows_it_needn_t_read():
    model, batch = model_of().eval(), laid(rows_of(GROUPS))
    read = []
    model.register_forward_pre_hook(lambda _, args: read.append(args[0].numel()))
    respond(model, batch, targets=batch.targets)
    assert read[0] == batch.slots.numel() < 0.6 * batch.inputs.numel()


def test_padding_may_hold_anything():
    model, batch = model_of().eval(), rows_of(PAIRS)
    dirty = copy.deepcopy(batch)
    ends = ends_of(batch.weights)
    for row, end in enumerate(ends.tolist()):
        dirty["inputs"][row, end:] = 16
        dirty["targets"][row, end:] = 16
    asked = {"where": batch.weights != 0}
    found = [
        respond(model, laid(each), targets=each.targets, **asked).logprobs
        for each in (batch, dirty)
    ]
    assert torch.equal(*found)


def test_packing_leaves_nothing_out_and_overfills_nothing():
    sizes = np.random.default_rng(0).integers(1, 30, 50).tolist()
    rows = pack(sizes, 40)
    assert sorted(i for row in rows for i in row) == list(range(50))
    assert max(sum(sizes[i] for i in row) for row in rows) <= 40
    assert len(rows) < 1.1 * sum(sizes) / 40 + 1
