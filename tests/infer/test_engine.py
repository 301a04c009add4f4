"""What the engine answers: tokens, reasons, numbers; and what it refuses."""

import math

import pytest
import torch

from engines import VOCABULARY, check_empty, engine_of, model_of, recomputed
from folio.config import UserError
from folio.infer.engine import Engine
from folio.infer.request import Request
from folio.infer.sampling import GREEDY, Sampling, adjust
from folio.model.config import Experts, Latent
from folio.text.byte import ByteTokenizer

SHAPES = {
    "plain": {},
    "learned": {"positions": "learned", "norm": "layernorm", "mlp": "gelu"},
    "window": {"window": 20, "sinks": 2},
    "hybrid": {"window": 9, "sinks": 3, "attention_pattern": "wf"},
    "softcap": {"attention_softcap": 20.0, "logit_softcap": 30.0, "qk_norm": True},
    "experts": {"experts": Experts(count=4, active=2)},
    "latent": {"latent": Latent(rank=12, rope_width=4), "n_kv_heads": None},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_tokens_are_those_of_reading_everything_afresh(shape):
    model = model_of(**SHAPES[shape]).double()
    engine = engine_of(model, pages=30, max_batch=5, chunk=16)
    prompts = [[(i * j) % VOCABULARY for j in range(1, 3 + 6 * i)] for i in range(1, 9)]
    found = engine.generate(prompts, max_new_tokens=25, sampling=GREEDY)
    wanted = [recomputed(model, p, 25) for p in prompts]
    assert [c.ids for c in found] == wanted
    assert len({tuple(ids) for ids in wanted}) > 4  # they don't all say one thing
    assert all(c.finish == "length" for c in found)
    check_empty(engine)


@pytest.mark.parametrize("sampling", [Sampling(0.7, top_k=9, top_p=0.8), Sampling(1.5)])
def test_log_probs_are_those_of_the_distribution_that_was_sampled(sampling):
    model = model_of()
    engine = engine_of(model)
    for sample in engine.generate([[1, 2], [3]], max_new_tokens=20, sampling=sampling):
        prompt = [1, 2] if sample.prompt_tokens == 2 else [3]
        ids = torch.tensor([prompt + sample.ids])
        with torch.no_grad():
            logits = model(ids).logits[0, len(prompt) - 1 : -1]
        wanted = adjust(logits, sampling).log_softmax(-1)
        wanted = wanted.gather(-1, torch.tensor(sample.ids)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(sample.logprobs), wanted, atol=1e-4)


def test_samples_have_the_chances_of_the_distribution():
    model = model_of(vocab_size=5, seed=3)
    sampling = Sampling(0.8, top_k=4)
    samples = engine_of(model, max_batch=64).generate(
        [[1, 2]], max_new_tokens=1, sampling=sampling, n=3000
    )
    with torch.no_grad():
        logits = model(torch.tensor([[1, 2]])).logits[0, -1:]
    wanted = adjust(logits, sampling).softmax(-1)[0]
    found = torch.tensor([s.ids[0] for s in samples]).bincount(minlength=5) / 3000
    assert torch.allclose(found, wanted, atol=4 * 0.5 / math.sqrt(3000))
    assert (found[wanted == 0] == 0).all()


def test_alternatives_come_likeliest_first_without_what_was_cut():
    engine = engine_of(model_of())
    request = Request([5], max_new_tokens=6, sampling=Sampling(1.0, top_k=2), top=4)
    (sample,) = engine.submit(request).result()
    for id, logprob, top in zip(sample.ids, sample.logprobs, sample.top, strict=True):
        assert len(top) == 2
        assert dict(top)[id] == logprob
        assert top[0][1] >= top[1][1]
        assert math.exp(top[0][1]) + math.exp(top[1][1]) == pytest.approx(1)


def test_a_batch_has_each_its_own_options():
    model = model_of()
    engine = engine_of(model)
    requests = [
        Request([4], 8, GREEDY),
        Request([4], 8, Sampling(1.0), seed=3, top=2),
        Request([4], 3, Sampling(0.0, repetition_penalty=1.8)),
    ]
    together = [engine.submit(r) for r in requests]
    engine.run()
    for request, handle in zip(requests, together, strict=True):
        (alone,) = engine_of(model).submit(request).result()
        assert handle.completions == [alone]


def test_the_terminal_token_is_kept_among_the_ids_and_not_in_the_text():
    model = model_of()
    (plain,) = engine_of(model).generate([[7]], max_new_tokens=20, sampling=GREEDY)
    stop = plain.ids[6]
    first = plain.ids.index(stop)
    # rows end one by one, each at its own time (for batch > 1 too)
    samples = engine_of(model).generate(
        [[7], [8], [7]], max_new_tokens=20, sampling=GREEDY, stop_ids=frozenset({stop})
    )
    for sample in (samples[0], samples[2]):
        assert sample.ids == plain.ids[: first + 1]
        assert sample.finish == "stop"
        assert len(sample.logprobs) == len(sample.ids)


def test_a_stop_token_in_the_prompt_ends_nothing():
    request = Request([7], 4, GREEDY, stop_ids=frozenset({7}))
    (sample,) = engine_of(model_of()).submit(request).result()
    assert sample.ids


def test_samples_of_one_request_differ_and_those_of_one_seed_do_not():
    engine = engine_of(model_of())
    first, second, third = (
        [c.ids for c in engine.submit(Request([1], 12, seed=seed, n=4)).result()]
        for seed in (1, 1, 2)
    )
    assert first == second
    assert len({tuple(ids) for ids in first + third}) == 8


def test_half_precision_with_ragged_rows_has_no_nan():
    model = model_of().to(torch.float16)
    for sample in engine_of(model).generate([[1], [2] * 30], max_new_tokens=20):
        assert sample.finish == "length"
        assert all(map(math.isfinite, sample.logprobs))


def test_nothing_asked_nothing_made():
    (sample,) = engine_of(model_of()).submit(Request([1], 0)).result()
    assert (sample.ids, sample.finish) == ([], "length")


def test_without_a_number_it_goes_on_to_the_end_of_the_context():
    (sample,) = engine_of(model_of()).submit(Request([1] * 100)).result()
    assert len(sample.ids) == 128 - 100 + 1


def test_a_windowed_model_goes_on_past_its_context_in_little_memory():
    model = model_of(window=20, sinks=2).double()
    engine = engine_of(model, pages=8, max_batch=1, chunk=16)
    (sample,) = engine.submit(Request([1, 2, 3], 200, GREEDY)).result()
    assert sample.ids == recomputed(model, [1, 2, 3], 200)
    check_empty(engine)


def test_prompts_that_begin_alike_are_read_once():
    engine, read = engine_of(model_of(), chunk=64), []
    hidden = engine.model.hidden

    def counting(tokens, positions, caches):
        read.append(int((positions >= 0).sum()))
        return hidden(tokens, positions, caches)

    engine.model.hidden = counting
    prompt = list(range(50))
    handles = [engine.submit(Request([*prompt, i], 1, GREEDY)) for i in range(4)]
    handles.append(engine.submit(Request([*prompt, 9], 1, n=3)))
    engine.run()
    assert sum(read) == 48 + 7 * 3  # three full pages once, the rest of each
    assert [h.completions[0].cached_tokens for h in handles] == [0, 48, 48, 48, 48]
    again = engine.submit(Request([*prompt, 60], 1, GREEDY))
    assert again.result()[0].cached_tokens == 48


def test_weights_that_change_make_it_forget():
    model = model_of()
    engine = engine_of(model)
    prompt = list(range(40))
    engine.generate([prompt], max_new_tokens=5, sampling=GREEDY)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(-0.9)
    (found,) = engine.generate([prompt], max_new_tokens=5, sampling=GREEDY)
    assert found.cached_tokens == 0
    (fresh,) = engine_of(model).generate([prompt], max_new_tokens=5, sampling=GREEDY)
    assert found.ids == fresh.ids


def test_weights_that_change_under_way_leave_nothing_stale_behind():
    model = model_of()
    engine = engine_of(model, chunk=16)
    prompt = list(range(60))
    handle = engine.submit(Request(prompt, 5, GREEDY))
    engine.step()
    with torch.no_grad():
        model.embedding.weight.mul_(-1)
    handle.result()
    (found,) = engine.generate([prompt], max_new_tokens=5, sampling=GREEDY)
    (fresh,) = engine_of(model).generate([prompt], max_new_tokens=5, sampling=GREEDY)
    assert (found.cached_tokens, found.ids) == (0, fresh.ids)


def test_the_mode_of_the_model_is_restored_and_dropout_off():
    model = model_of(dropout=0.5)
    (plain,) = engine_of(model).generate([[1]], max_new_tokens=9, sampling=GREEDY)
    (found,) = engine_of(model.train()).generate(
        [[1]], max_new_tokens=9, sampling=GREEDY
    )
    assert model.training
    assert found == plain


def test_a_long_prompt_does_not_stall_who_is_decoding():
    engine = engine_of(model_of(), chunk=16)
    short = engine.submit(Request([1], 30, GREEDY))
    engine.step()
    engine.submit(Request([2] * 100, 5, GREEDY))
    for _ in range(6):
        before = len(short.completions[0].ids)
        engine.step()
        assert len(short.completions[0].ids) == before + 1


def test_a_short_prompt_does_not_wait_for_a_long_one():
    engine = engine_of(model_of(), chunk=32)
    engine.submit(Request([2] * 120, 5, GREEDY))
    engine.step()
    short = engine.submit(Request([1], 5, GREEDY))
    engine.step()
    assert short.completions[0].ids


# Refusals


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (lambda: Request([]), "the prompt is empty"),
        (lambda: Request([61]), "ids from 61 to 61, the model knows 0 to 60"),
        (lambda: Request([-1]), "ids from -1 to -1"),
        (lambda: Request([1], -1), "max_new_tokens = -1: must be 0 or more"),
        (lambda: Request([1], n=0), "n = 0: must be at least 1"),
        (lambda: Request([1], top=-1), "top = -1"),
        (lambda: Request([1], stop=("",)), "none empty"),
        (lambda: Request([1], stop="end"), "give a tuple"),
        (lambda: Request([1] * 129), "a prompt of 129 tokens: .* max_seq_len = 128"),
        (lambda: Request([1] * 100, 30), "100 tokens and max_new_tokens = 30: "),
        (lambda: Request([1] * 60, 60), r"need 0.03 MiB, the engine's memory is 0.02"),
        (lambda: Request("text"), "no tokenizer: give the prompt as ids"),
    ],
)
def test_what_can_never_be_served_is_refused_at_once(request_, words):
    engine = engine_of(model_of(), pages=10, page_size=8)
    waiting = engine.submit(Request([1], 5))
    with pytest.raises(UserError, match=words):
        engine.submit(request_())
    assert waiting.result()[0].finish == "length"
    check_empty(engine)


def test_what_just_fits_is_served():
    engine = engine_of(model_of(), pages=10, page_size=8)
    (sample,) = engine.submit(Request([1] * 60, 21)).result()
    assert len(sample.ids) == 21


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_batch": 0}, "max_batch = 0"),
        ({"chunk": 0}, "chunk = 0"),
        ({"page_size": 0}, "page_size = 0"),
        ({"memory": 100}, "memory = 100 bytes: two pages of 16 tokens take"),
        ({"tokenizer": ByteTokenizer()}, "the tokenizer has 263 tokens"),
    ],
)
def test_an_engine_that_can_not_be(options, words):
    with pytest.raises(UserError, match=words):
        Engine(model_of(), **options)


def test_a_closed_engine_ends_everything_and_takes_no_more():
    engine = engine_of(model_of(), max_batch=1)
    handles = [engine.submit(Request([1], 20)) for _ in range(3)]
    engine.step()
    engine.close()
    assert [h.result()[0].finish for h in handles] == ["cancelled"] * 3
    check_empty(engine)
    with pytest.raises(UserError, match="closed"):
        engine.submit(Request([1], 5))
