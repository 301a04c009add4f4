"""What the tests of the engine share: small models that don't settle into one token."""

import random

import torch

from folio.infer.engine import Engine
from folio.infer.request import Request
from folio.infer.sampling import GREEDY, Sampling
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder

VOCABULARY = 61
VARIED = (
    GREEDY,
    Sampling(1.0),
    Sampling(0.8, top_k=9, top_p=0.9),
    Sampling(0.0, repetition_penalty=1.7),
    Sampling(1.3, min_p=0.05, repetition_penalty=0.8),
)


def model_of(seed: int = 0, **changes) -> Decoder:
    """Random weights, large enough that greedy text wanders."""
    fields = {
        "vocab_size": VOCABULARY,
        "max_seq_len": 128,
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "tie_embeddings": False,
    }
    model = Decoder(ModelConfig(**(fields | changes)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                scale = 2.0 / parameter.shape[-1] ** 0.5
                parameter.normal_(std=scale, generator=generator)
    return model.eval()


def recomputed(model: Decoder, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens the naive way: all is read anew for each, without a cache."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
    return ids[len(prompt) :]


class BoundedEngine(Engine):
    """One that goes round in circles fails its test instead of hanging it."""

    steps_left = 5000

    def _step(self) -> bool:
        self.steps_left -= 1
        assert self.steps_left >= 0, "the engine gets nowhere"
        return super()._step()


def engine_of(model, pages: int | None = None, tokenizer=None, **options) -> Engine:
    """An engine whose memory is so many pages."""
    probe = BoundedEngine(model, tokenizer, memory=1 << 22, **options)
    if pages is None:
        return probe
    memory = pages * probe.page_bytes
    return BoundedEngine(model, tokenizer, memory=memory, **options)


def random_prompt(chances: random.Random, longest: int = 40) -> list[int]:
    """Ids; three in four prompts begin like others do."""
    common = [(7 * i) % VOCABULARY for i in range(chances.choice((0, 16, 20, 33)))]
    own = [chances.randrange(VOCABULARY) for _ in range(chances.randrange(1, longest))]
    return common + own


def random_request(chances: random.Random, longest: int = 30) -> Request:
    return Request(
        random_prompt(chances),
        max_new_tokens=chances.randrange(1, longest),
        sampling=chances.choice(VARIED),
        seed=chances.randrange(5),
        n=chances.choice((1, 1, 1, 3)),
        stop_ids=frozenset(chances.sample(range(VOCABULARY), chances.choice((0, 1)))),
        top=chances.choice((0, 3)),
    )


def outcome(completion) -> tuple:
    """All of a sample that must not depend on anybody else, to the last bit."""
    return (
        completion.ids,
        completion.logprobs,
        completion.top,
        completion.text,
        completion.finish,
    )


def check_pages(engine: Engine) -> None:
    """Every page is free, remembered or held, once; users are counted right."""
    scheduler, table = engine.scheduler, engine.scheduler.table
    pool = scheduler.pool
    held = {}
    for row in range(len(table.ends)):
        for page in table.pages[row][table.pages[row] > 0].tolist():
            held[page] = held.get(page, 0) + 1
    groups = [set(pool.free), set(pool.idle), set(held)]
    assert len(pool.free) == len(groups[0])
    assert sum(map(len, groups)) == pool.count
    assert set().union(*groups) == set(range(1, pool.count + 1))
    assert all(pool.users[page] == held.get(page, 0) for page in range(pool.count + 1))
    assert {p: n for n, p in pool.known.items()} == pool.names
    assert set(pool.idle) <= set(pool.names)
    rows = [s.row for s in scheduler.running]
    assert sorted(rows + scheduler.rows) == list(range(engine.max_batch))
    assert not table.pages[scheduler.rows].any()
    assert all(s.row is None and s.computed == 0 for s in scheduler.waiting)


def check_empty(engine: Engine) -> None:
    """Nothing is held by anybody."""
    check_pages(engine)
    assert engine.scheduler.pool.used == 0
    assert not engine.scheduler.running
    assert not engine.scheduler.waiting
