"""Each request gets what it would get alone, to the last bit, whoever is beside it."""

import random

import pytest
import torch

from engines import (
    VARIED,
    check_empty,
    check_pages,
    engine_of,
    model_of,
    outcome,
    random_request,
)
from folio.infer.request import Request
from folio.infer.sampling import GREEDY, Sampling
from folio.model.config import Experts

SHAPES = {
    "plain": {},
    "learned": {"positions": "learned", "norm": "layernorm", "mlp": "gelu"},
    "window": {"window": 20, "sinks": 2},
    "hybrid": {"window": 9, "sinks": 3, "attention_pattern": "wf"},
    "softcap": {"attention_softcap": 20.0, "logit_softcap": 30.0, "qk_norm": True},
    "mqa": {"n_kv_heads": 1, "positions": "none"},
}


def alone(model, request, **options) -> list[tuple]:
    """What a fresh engine gives that has nothing else to do."""
    handle = engine_of(model, **options).submit(request)
    return [outcome(sample) for sample in handle.result()]


def mixed(model, chances: random.Random, requests: list[Request]):
    """The same requests in one small engine, arriving at random, some cancelled."""
    engine = engine_of(
        model,
        pages=chances.choice((9, 10, 13, 40)),
        max_batch=chances.choice((2, 3, 5, 9)),
        chunk=chances.choice((16, 32, 64, 128)),
    )
    todo, handles, doomed = list(requests), [], []
    while todo or not all(h.done for h in handles):
        if todo and chances.random() < 0.3:
            handles.append(engine.submit(todo.pop(0)))
        if chances.random() < 0.1:
            doomed.append(engine.submit(random_request(chances)))
        if doomed and chances.random() < 0.1:
            doomed.pop(0).cancel()
        engine.step()
        check_pages(engine)
    for handle in doomed:
        handle.cancel()
    check_empty(engine)
    return [[outcome(s) for s in h.completions] for h in handles], engine


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_alone_or_among_others_in_random_schedules(shape, dtype):
    model, preemptions = model_of(**SHAPES[shape]).to(dtype), 0
    seeds = range(1, 4) if dtype == torch.float32 else range(6, 7)
    for seed in seeds:
        chances = random.Random(seed)
        requests = [random_request(chances) for _ in range(8)]
        found, engine = mixed(model, chances, requests)
        chunk = chances.choice((16, 64, 256))
        assert found == [alone(model, r, chunk=chunk) for r in requests]
        preemptions += engine.scheduler.preemptions
    if dtype == torch.float32 and "window" not in SHAPES[shape]:
        assert preemptions  # or this has not tried what it says


def test_preempted_again_and_again():
    """What was chosen before is then read again as it was then: one by one."""
    model = model_of()
    engine = engine_of(model, pages=9, max_batch=6, chunk=32)
    requests = [
        Request([i] * 20, 100, VARIED[i % len(VARIED)], seed=i) for i in range(8)
    ]
    handles = [engine.submit(r) for r in requests]
    hidden, read_in_chunks = model.hidden, set()

    def watched(tokens, positions, caches):
        if positions.shape[1] > 1:
            read_in_chunks.update(positions.flatten().tolist())
        return hidden(tokens, positions, caches)

    model.hidden = watched
    engine.run()
    del model.hidden
    assert engine.scheduler.preemptions > 5
    assert read_in_chunks == set(range(-1, 20))  # the prompts, and padding
    for request, handle in zip(requests, handles, strict=True):
        assert [outcome(s) for s in handle.completions] == alone(model, request)


def test_past_the_blocks_of_the_kernel_with_windows_that_leave_pages_out():
    for shape in (
        {"window": 40, "sinks": 3, "attention_pattern": "wf"},
        {"window": 40},
    ):
        model = model_of(max_seq_len=1400, **shape)
        requests = [
            Request([(i * j) % 61 for j in range(i * 333)], 40, Sampling(1.0), seed=i)
            for i in (1, 2, 3, 4)
        ]
        engine = engine_of(model, max_batch=4, chunk=128)
        handles = [engine.submit(r) for r in requests]
        engine.run()
        for request, handle in zip(requests, handles, strict=True):
            found = [outcome(s) for s in handle.completions]
            assert found == alone(model, request, chunk=512)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_where_bits_may_differ_the_logits_are_close(dtype):
    """bf16, and experts, whose batches are made of all rows: equal up to rounding."""
    experts = {"experts": Experts(count=4, active=2)} if dtype == torch.float32 else {}
    model = model_of(**experts).to(dtype)
    requests = [Request([i, 2 * i, 3], 1, GREEDY, top=5) for i in range(20)]
    engine = engine_of(model, max_batch=20)
    handles = [engine.submit(r) for r in requests]
    engine.run()
    limit = 0.1 if dtype == torch.bfloat16 else 1e-4
    for request, handle in zip(requests, handles, strict=True):
        (lonely,) = engine_of(model).submit(request).result()
        one, other = dict(lonely.top[0]), dict(handle.completions[0].top[0])
        assert all(abs(one[i] - other[i]) < limit for i in one.keys() & other.keys())


def test_logits_of_a_row_are_the_same_bits_in_any_batch():
    model = model_of()
    prompts = [[(i * j + 1) % 61 for j in range(3 + 6 * i)] for i in range(16)]
    options = {"max_new_tokens": 12, "sampling": GREEDY, "top": 61}
    wanted = [
        outcome(engine_of(model).generate([prompt], **options)[0]) for prompt in prompts
    ]
    for batch in (3, 24):
        for page_size in (4, 16, 32):
            engine = engine_of(model, max_batch=batch, page_size=page_size)
            assert [outcome(s) for s in engine.generate(prompts, **options)] == wanted


def test_one_page_of_garbage_beside_it_changes_nothing():
    model = model_of()
    request = Request([1, 2, 3], 20, GREEDY, top=5)
    engine = engine_of(model)
    for tensor in (engine.reader.store.keys, engine.reader.store.values):
        tensor.fill_(float("nan"))  # as if a request before had gone wrong
        tensor[:, :, 0] = 0
    assert [outcome(s) for s in engine.submit(request).result()] == alone(
        model, request
    )
