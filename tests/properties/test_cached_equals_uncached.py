"""Promise: a text read in pieces, through a cache, is a text read at once."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.infer.cache import full_caches
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder

LENGTH, VOCABULARY = 14, 17

shapes = st.fixed_dictionaries(
    {
        "positions": st.sampled_from(["learned", "sinusoidal", "rotary", "none"]),
        "norm": st.sampled_from(["layernorm", "rmsnorm"]),
        "mlp": st.sampled_from(["gelu", "swiglu"]),
        "n_kv_heads": st.sampled_from([1, 2, 4]),
        "bias": st.booleans(),
        "tie_embeddings": st.booleans(),
    }
)
seeds = st.integers(0, 2**30)
paddings = st.lists(st.integers(0, LENGTH - 1), min_size=1, max_size=3)
cuts = st.sets(st.integers(1, LENGTH - 1))
many = settings(derandomize=True, deadline=None, database=None, max_examples=150)


def model_of(seed: int, **shape) -> Decoder:
    model = Decoder(
        ModelConfig(
            vocab_size=VOCABULARY,
            max_seq_len=LENGTH,
            d_model=16,
            n_layers=2,
            n_heads=4,
            **shape,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model.eval()


def tokens_of(seed: int, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (rows, LENGTH), generator=generator)


def read_in_pieces(model, tokens, positions, cuts, capacity) -> torch.Tensor:
    cache = full_caches(model.config, len(tokens), capacity)
    edges = [0, *sorted(cuts), tokens.shape[1]]
    return torch.cat(
        [
            model(tokens[:, a:b], positions[:, a:b], cache).logits
            for a, b in pairwise(edges)
        ],
        dim=1,
    )


@many
@given(shapes, seeds, cuts, st.integers(1, 3), st.integers(0, 5))
@torch.no_grad()
def test_any_cut_gives_the_same_logits(shape, seed, cuts, rows, spare):
    model, tokens = model_of(seed, **shape), tokens_of(seed, rows)
    positions = torch.arange(LENGTH).expand(rows, -1)
    found = read_in_pieces(model, tokens, positions, cuts, LENGTH + spare)
    assert torch.allclose(found, model(tokens).logits, atol=1e-5)


@many
@given(
    shapes, seeds, cuts, st.lists(st.integers(0, LENGTH - 1), min_size=1, max_size=3)
)
@torch.no_grad()
def test_padding_in_front_gives_the_same_logits_as_none(shape, seed, cuts, padding):
    """Texts of different lengths in one batch, pushed to the right, cut anywhere."""
    model, tokens = model_of(seed, **shape), tokens_of(seed, len(padding))
    shift = torch.tensor(padding)[:, None]
    positions = (torch.arange(LENGTH) - shift).clamp(min=-1)
    found = read_in_pieces(model, tokens, positions, cuts, LENGTH)
    for row, empty in enumerate(padding):
        alone = model(tokens[row : row + 1, empty:]).logits[0]
        assert torch.allclose(found[row, empty:], alone, atol=1e-5)


@many
@given(shapes, seeds, cuts, st.integers(1, LENGTH - 1))
@torch.no_grad()
def test_a_call_of_many_tokens_with_a_cache_is_causal(shape, seed, cuts, place):
    model, tokens = model_of(seed, **shape).double(), tokens_of(seed, 1)
    positions = torch.arange(LENGTH)[None]
    changed = tokens.clone()
    changed[:, place:] = (changed[:, place:] + 1) % VOCABULARY

    def read(ids: torch.Tensor) -> torch.Tensor:
        cache = full_caches(model.config, 1, LENGTH, dtype=torch.float64)
        edges = [0, *sorted(cuts), LENGTH]
        parts = [
            model(ids[:, a:b], positions[:, a:b], cache).logits
            for a, b in pairwise(edges)
        ]
        return torch.cat(parts, dim=1)

    assert torch.equal(read(tokens)[:, :place], read(changed)[:, :place])


@many
@given(shapes, seeds, st.permutations(range(LENGTH)))
@torch.no_grad()
def test_the_order_of_slots_means_nothing(shape, seed, order):
    """Positions decide: a text whose tokens are handed over shuffled is the same."""
    model, tokens = model_of(seed, **shape), tokens_of(seed, 1)
    shuffled = model(tokens[:, order], torch.tensor([order])).logits
    assert torch.allclose(shuffled, model(tokens).logits[:, order], atol=1e-5)
