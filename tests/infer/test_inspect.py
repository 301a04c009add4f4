"""Looking inside: everything seen agrees with a plain forward of the same model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.infer.inspect import (
    attention_patterns,
    candidates,
    expert_routes,
    logit_lens,
    next_scores,
    residuals,
    token_texts,
)
from folio.infer.sampling import GREEDY, Sampling, adjust
from folio.model.config import Experts
from folio.text.byte import ByteTokenizer
from helpers import tiny_model

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
EXPERTS = Experts(count=4, active=2, width=8)


def plain_logits(model, ids=IDS):
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0]


def test_next_scores_are_the_last_logits():
    model = tiny_model()
    torch.testing.assert_close(next_scores(model, IDS), plain_logits(model)[-1])


def test_attention_is_that_of_the_model_and_looks_back_only():
    model = tiny_model()
    found = attention_patterns(model, IDS)
    assert found.shape == (2, 2, len(IDS), len(IDS))
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, len(IDS)))
    assert not found.triu(1).any()


def test_the_last_reading_of_the_lens_is_the_model():
    model = tiny_model()
    lens, chances = logit_lens(model, IDS), plain_logits(model).softmax(-1)
    assert lens.tokens.shape == lens.rank.shape == (3, len(IDS))
    assert lens.final.tolist() == chances.argmax(-1).tolist()
    torch.testing.assert_close(lens.probabilities[-1], chances.amax(-1))
    torch.testing.assert_close(lens.final_probabilities[-1], chances.amax(-1))
    assert not lens.rank[-1].any()


def test_an_early_reading_is_norm_and_head_of_that_residual():
    model = tiny_model()
    lens, stream = logit_lens(model, IDS), residuals(model, IDS)
    assert stream.shape == (3, len(IDS), 16)
    with torch.no_grad():
        embedded = model.embedding(torch.tensor(IDS))
        chances = model.read(model.norm(embedded)).softmax(-1)
    torch.testing.assert_close(stream[0], embedded)
    assert lens.tokens[0].tolist() == chances.argmax(-1).tolist()
    theirs = chances.gather(-1, lens.final[:, None])
    torch.testing.assert_close(lens.final_probabilities[0], theirs[:, 0])
    assert lens.rank[0].tolist() == (chances > theirs).sum(-1).tolist()


def test_the_lens_reads_no_id_that_the_tokenizer_lacks():
    model = tiny_model()
    with torch.no_grad():
        model.head.weight[10:] = 50 * model.head.weight[:7]
    assert logit_lens(model, IDS).tokens.max() >= 10
    assert logit_lens(model, IDS, vocab_size=10).tokens.max() < 10


def test_routes_are_those_of_the_forward():
    model = tiny_model(experts=EXPERTS, mlp_pattern="de")
    assert [route.layer for route in expert_routes(model, IDS)] == [1]
    [route] = expert_routes(model, IDS)
    assert route.experts.shape == route.weights.shape == (len(IDS), 2)
    torch.testing.assert_close(route.shares.sum(-1), torch.ones(len(IDS)))
    likeliest = route.shares.topk(2).indices
    assert route.experts.sort(-1).values.tolist() == likeliest.sort(-1).values.tolist()
    assert not model.blocks[1].moe.router._forward_hooks


def test_a_dense_model_has_no_routes():
    assert expert_routes(tiny_model(), IDS) == []


def test_looking_changes_nothing():
    model = tiny_model(dropout=0.5, experts=EXPERTS, mlp_pattern="de").train()
    load = model.blocks[1].moe.load.clone()
    state = torch.get_rng_state()
    first = [logit_lens(model, IDS).probabilities, expert_routes(model, IDS)[0].shares]
    again = [logit_lens(model, IDS).probabilities, expert_routes(model, IDS)[0].shares]
    assert all(map(torch.equal, first, again))
    assert model.training
    assert model.blocks[1].moe.training
    assert torch.equal(model.blocks[1].moe.load, load)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("ids", "words"),
    [([], "empty"), ([99], "ids from 99"), ([1] * 17, "17 tokens")],
)
def test_what_cant_be_read_is_said(ids, words):
    for look in (next_scores, attention_patterns, logit_lens, residuals):
        with pytest.raises(UserError, match=words):
            look(tiny_model(), ids)


def test_tokens_are_shown_by_themselves():
    tokenizer = ByteTokenizer()
    ids = [*"né".encode(), tokenizer.end_of_text]
    assert token_texts(tokenizer, ids) == ["n", "<C3>", "<A9>", "<|endoftext|>"]


# ---- candidates: the same chances as the sampler's, and who removed whom -------------

LINE = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05]).log()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-4, 4), min_size=2, max_size=9),
    st.floats(0.2, 3),
    st.none() | st.integers(1, 6),
    st.none() | st.floats(0.1, 1),
    st.none() | st.floats(0.05, 1),
    st.sampled_from([1.0, 1.5]),
)
def test_what_is_kept_is_what_is_sampled_from(scores, heat, k, p, min_p, penalty):
    sampling, scores = Sampling(heat, k, p, min_p, penalty), torch.tensor(scores)
    seen = torch.zeros(1, len(scores), dtype=torch.bool)
    seen[0, 0] = True
    real = adjust(scores[None], sampling, seen).softmax(-1)[0]
    for one in candidates(scores, sampling, seen=[0]):
        assert one.kept == pytest.approx(real[one.token].item(), abs=1e-6)
        assert bool(one.cut) == (one.kept == 0)


def test_the_first_cut_that_removes_a_token_is_named():
    sampling = Sampling(1.0, top_k=4, top_p=0.8, min_p=0.5)
    found = candidates(LINE, sampling)
    assert [one.cut for one in found] == ["", "", "min_p", "top_p", "top_k"]
    assert sum(one.kept for one in found) == pytest.approx(1)


def test_greedy_leaves_one():
    found = candidates(LINE, GREEDY)
    assert [one.kept for one in found] == [1, 0, 0, 0, 0]
    assert {one.cut for one in found[1:]} == {"temperature 0"}


def test_temperature_and_penalty_show_before_the_cuts():
    plain, cool = candidates(LINE, Sampling()), candidates(LINE, Sampling(0.5))
    assert cool[0].own == pytest.approx(plain[0].own)
    assert cool[0].warmed > plain[0].warmed
    [first, *_] = candidates(LINE, Sampling(repetition_penalty=2.0), seen=[0])
    assert (first.token, first.own) == (0, pytest.approx(0.4))
    assert first.warmed < 0.3


def test_only_so_many_are_listed_in_the_models_order():
    found = candidates(LINE.flip(0), Sampling(), count=3)
    assert [one.token for one in found] == [4, 3, 2]
