"""Exercise: remember keys and values."""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import alike, expect, normal, same


def cache(batch: int = 1, capacity: int = 4):
    from folio.infer.cache import FullCache

    return FullCache(batch, 1, capacity, 2)


def at(*positions: int) -> torch.Tensor:
    return torch.tensor([positions])


def all_that_is_kept_comes_back(update):
    mine, k = cache(), normal(1, 1, 2, 2)
    got = update(mine, k, k + 1, at(0, 1))
    expect(
        isinstance(got, tuple) and len(got) == 3, "return keys, values and positions"
    )
    for part, wanted in zip(got, (mine.k, mine.v, mine.positions), strict=True):
        alike(part, wanted)


def the_slot_is_the_position(update):
    k = normal(1, 1, 2, 2)
    keys, values, positions = update(cache(), k, k + 1, at(2, 0))
    same(keys[:, :, [2, 0]], k, "the key of position 2 lies in slot 2")
    same(values[:, :, [2, 0]], k + 1, "the value of position 2 lies in slot 2")
    same(
        positions[0, :3], torch.tensor([0, -1, 2]), "slots say who is in them; -1: none"
    )


def earlier_tokens_are_remembered(update):
    mine, k = cache(), normal(1, 1, 3, 2)
    update(mine, k[:, :, :2], k[:, :, :2], at(0, 1))
    keys, _, _ = update(mine, k[:, :, 2:], k[:, :, 2:], at(2))
    same(keys[:, :, :3], k, "after two calls, all three keys are there")


def rows_may_stand_at_different_places(update):
    k = normal(2, 1, 1, 2)
    keys, _, positions = update(cache(2), k, k, torch.tensor([[0], [3]]))
    same(keys[1, :, 3], k[1, :, 0], "row 1 writes at its own position, 3")
    expect(int(positions[1, 0]) == -1, "row 1 has nothing at position 0")


def padding_is_never_seen(update):
    mine, k = cache(), normal(1, 1, 2, 2)
    _, _, positions = update(mine, k, k, at(-1, 0))
    expect(int(positions[0, -1]) == -1, "position -1 is padding: its slot must say -1")


def cached_equals_uncached(update):
    from folio.infer.cache import make_caches
    from folio.model.config import ModelConfig
    from folio.model.decoder import Decoder

    torch.manual_seed(0)
    config = ModelConfig(vocab_size=9, d_model=8, n_layers=1, n_heads=2, max_seq_len=8)
    model, tokens = Decoder(config).eval(), at(1, 5, 3, 7, 2)
    caches, parts = make_caches(config, 1, 8), []
    with torch.no_grad():
        for piece in (range(0, 2), range(2, 3), range(3, 5)):
            places = at(*piece)
            parts.append(model(tokens[:, list(piece)], places, caches).logits)
        whole = model(tokens).logits
    same(torch.cat(parts, 1), whole, "a text read in pieces gives what it gives whole")


EXERCISE = Exercise(
    title="A cache of keys and values",
    chapter=21,
    place=2,
    week=4,
    symbol="folio.infer.cache:FullCache.update",
    task="""
    Store new keys and values k, v (B, G, T, K) at positions (B, T), and return all that
    is kept. self.k and self.v are (B, G, capacity + 1, K); self.positions (B, capacity
    + 1) says which position lies in a slot, -1 where none does; self.rows is (B, 1),
    the numbers of the rows. Slot = position; -1, padding, goes to the last slot.
    """,
    hints=(
        "Index with two tensors: rows (B, 1) and positions (B, T) pick (B, T) slots.",
        "self.k[self.rows, :, positions] is (B, T, G, K): what must k become?",
        "self.k[self.rows, :, positions] = k.transpose(1, 2), and so for v; and "
        "self.positions[self.rows, positions] = positions.",
    ),
    checks=(
        all_that_is_kept_comes_back,
        the_slot_is_the_position,
        earlier_tokens_are_remembered,
        rows_may_stand_at_different_places,
        padding_is_never_seen,
        cached_equals_uncached,
    ),
    wrong=(
        Wrong(
            "only what is new comes back",
            "return self.k, self.v, self.positions",
            "return k, v, positions",
            "wrong shape",
        ),
        Wrong(
            "slots are filled in the order of coming",
            "self.k[self.rows, :, positions] = k",
            "self.k[:, :, : k.shape[2]] = k.transpose(1, 2)",
            "lies in slot 2",
        ),
        Wrong(
            "values are keys",
            "self.v[self.rows, :, positions] = v.transpose(1, 2)",
            "self.v[self.rows, :, positions] = k.transpose(1, 2)",
            "the value of position 2",
        ),
        Wrong(
            "nobody notes who is where",
            "    self.positions[self.rows, positions] = positions\n",
            "",
            "slots say who is in them",
        ),
        Wrong(
            "all rows stand where the first does",
            "self.k[self.rows, :, positions]",
            "self.k[self.rows, :, positions[:1]]",
            "row 1 writes at its own position",
        ),
    ),
)
