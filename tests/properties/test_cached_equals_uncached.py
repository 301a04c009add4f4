"""Promise: a text read in pieces, through a cache, is a text read at once."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.infer.cache import FullCache, make_caches
from folio.infer.paged_rows import paged_caches
from folio.infer.stream import Stream, streaming
from folio.model.config import Experts, ModelConfig, RopeScaling
from folio.model.decoder import Decoder

LENGTH, VOCABULARY = 20, 17
SCALINGS = (
    None,
    RopeScaling("linear", factor=2.0),
    RopeScaling("ntk", factor=4.0),
    RopeScaling("yarn", factor=4.0, original_len=8),
    RopeScaling("llama3", factor=8.0, original_len=8),
)


def many(examples: int):
    return settings(
        derandomize=True, deadline=None, database=None, max_examples=examples
    )


@st.composite
def shapes(draw) -> dict:
    """Fields of a model: everything that touches attention."""
    choose = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    shape = {
        "positions": choose("rotary", "rotary", "learned", "sinusoidal", "none"),
        "n_layers": choose(1, 2, 3),
        "n_kv_heads": choose(1, 2, 4),
        "norm": choose("layernorm", "rmsnorm"),
        "bias": draw(st.booleans()),
        "qk_norm": draw(st.booleans()),
        "attention_softcap": choose(None, None, 2.0),
        "attention_scale": choose(None, 0.7),
        "post_norm": draw(st.booleans()),
    }
    if shape["positions"] == "rotary":
        shape["rope_fraction"] = choose(1.0, 0.5)
        shape["rope_scaling"] = choose(*SCALINGS)
    if draw(st.integers(0, 3)):
        shape["window"] = draw(st.integers(1, 9))
        shape["sinks"] = choose(0, 1, 3)
        shape["attention_pattern"] = choose(None, "w", "wf", "fw", "wwf")
        if shape["attention_pattern"] == "fw":
            shape["n_layers"] = max(shape["n_layers"], 2)
    return shape


@st.composite
def layouts(draw) -> torch.Tensor:
    """Positions (B, LENGTH) of rows of any length, padded with -1 at either end or
    anywhere between."""
    rows = []
    for length in draw(st.lists(st.integers(1, LENGTH), min_size=1, max_size=3)):
        side = draw(st.sampled_from(["left", "right", "between"]))
        empty = [-1] * (LENGTH - length)
        row = [*empty, *range(length)] if side == "left" else [*range(length), *empty]
        if side == "between":
            order = draw(st.randoms(use_true_random=False))
            columns = sorted(order.sample(range(LENGTH), length))
            row = [columns.index(c) if c in columns else -1 for c in range(LENGTH)]
        rows.append(row)
    return torch.tensor(rows)


seeds = st.integers(0, 2**30)
cuts = st.sets(st.integers(1, LENGTH - 1))
kinds = st.sampled_from(["full", "rolling", "paged"])


def model_of(seed: int, **shape) -> Decoder:
    fields = {"d_model": 16, "n_heads": 4, "n_layers": 2, "max_seq_len": LENGTH}
    model = Decoder(ModelConfig(vocab_size=VOCABULARY, **(fields | shape)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model.eval()


def tokens_of(seed: int, rows: int, length: int = LENGTH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (rows, length), generator=generator)


def caches_of(kind: str, model: Decoder, rows: int, page_size: int = 3) -> list:
    """Empty caches for `rows` texts of LENGTH tokens."""
    config, dtype = model.config, model.embedding.weight.dtype
    if kind == "rolling":
        return make_caches(config, rows, LENGTH, dtype=dtype)
    if kind == "paged":
        return paged_caches(config, rows, LENGTH, page_size, dtype=dtype)
    shape = (rows, config.kv_heads, LENGTH, config.head_width, "cpu", dtype)
    caches = [FullCache(*shape)]
    for _ in range(config.n_layers - 1):
        caches.append(FullCache(*shape, beside=caches[0]))
    return caches


def read_in_pieces(model, tokens, positions, cuts, caches) -> torch.Tensor:
    edges = [0, *sorted(cuts), tokens.shape[1]]
    parts = [
        model(tokens[:, a:b], positions[:, a:b], caches).logits
        for a, b in pairwise(edges)
    ]
    return torch.cat(parts, dim=1)


@many(200)
@given(shapes(), seeds, cuts, layouts(), kinds, st.integers(1, 6))
@torch.no_grad()
def test_any_cut_of_any_rows_gives_the_same_logits(
    shape, seed, cuts, positions, kind, page_size
):
    rows = len(positions)
    model, tokens = model_of(seed, **shape), tokens_of(seed, rows)
    caches = caches_of(kind, model, rows, page_size)
    found = read_in_pieces(model, tokens, positions, cuts, caches)
    for row in range(rows):
        real = positions[row] >= 0
        alone = model(tokens[row : row + 1, real]).logits[0]
        assert torch.allclose(found[row, real], alone, atol=1e-5)


@many(60)
@given(shapes(), seeds, layouts(), kinds)
@torch.no_grad()
def test_token_by_token_is_the_text_at_once(shape, seed, positions, kind):
    """The cut that decoding makes, where a ring overwrites what has left it."""
    rows = len(positions)
    model, tokens = model_of(seed, **shape), tokens_of(seed, rows)
    caches, every = caches_of(kind, model, rows), set(range(1, LENGTH))
    found = read_in_pieces(model, tokens, positions, every, caches)
    wanted = model(tokens, positions).logits
    real = positions >= 0
    assert torch.allclose(found[real], wanted[real], atol=1e-5)


@many(100)
@given(shapes(), seeds, st.permutations(range(LENGTH)))
@torch.no_grad()
def test_the_order_of_slots_means_nothing(shape, seed, order):
    """Positions decide: a text whose tokens are handed over shuffled is the same."""
    model, tokens = model_of(seed, **shape), tokens_of(seed, 1)
    shuffled = model(tokens[:, order], torch.tensor([order])).logits
    assert torch.allclose(shuffled, model(tokens).logits[:, order], atol=1e-5)


# The future


experts = st.builds(
    Experts,
    count=st.just(3),
    active=st.integers(1, 3),
    shared=st.integers(0, 1),
    router=st.sampled_from(["softmax", "sigmoid"]),
)
thinking = st.one_of(
    st.fixed_dictionaries({"mlp": st.sampled_from(["swiglu", "gelu", "relu2"])}),
    st.fixed_dictionaries(
        {"experts": experts, "mlp_pattern": st.sampled_from(["e", "ed", "b"])}
    ),
)
places = st.integers(1, LENGTH - 1)


def changed_from(tokens: torch.Tensor, place: int) -> torch.Tensor:
    changed = tokens.clone()
    changed[:, place:] = (changed[:, place:] + 1) % VOCABULARY
    return changed


@many(80)
@given(shapes(), thinking, seeds, places, st.sets(places, max_size=3), st.booleans())
@torch.no_grad()
def test_in_training_the_future_changes_nothing(
    shape, parts, seed, place, starts, packed
):
    """Nor does another document of the row, before or after."""
    model = model_of(seed, **shape, **parts).double().train()
    tokens = tokens_of(seed, 2)
    documents = torch.zeros(2, LENGTH, dtype=torch.long)
    for start in starts:
        documents[:, start:] += 1
    options = {"documents": documents} if packed else {}
    before = model(tokens, **options).logits
    after = model(changed_from(tokens, place), **options).logits
    assert torch.allclose(before[:, :place], after[:, :place], rtol=0, atol=1e-10)
    assert not torch.allclose(before[:, place], after[:, place], atol=1e-6)
    if packed and starts:
        last = max(starts)
        first = tokens.clone()
        first[:, :last] = (first[:, :last] + 1) % VOCABULARY
        other = model(first, **options).logits
        assert torch.allclose(before[:, last:], other[:, last:], rtol=0, atol=1e-10)


@many(60)
@given(shapes(), seeds, cuts, places, kinds)
@torch.no_grad()
def test_in_decoding_the_future_changes_nothing(shape, seed, cuts, place, kind):
    """Not even the future of the same piece: a call with many tokens is causal."""
    model, tokens = model_of(seed, **shape).double(), tokens_of(seed, 1)
    positions = torch.arange(LENGTH)[None]
    before, after = (
        read_in_pieces(model, ids, positions, cuts, caches_of(kind, model, 1))
        for ids in (tokens, changed_from(tokens, place))
    )
    assert torch.equal(before[:, :place], after[:, :place])


# StreamingLLM, longhand


def turned(vector: torch.Tensor, position: int, theta: float) -> torch.Tensor:
    """One head's vector, pair by pair."""
    half, out = len(vector) // 2, vector.clone()
    for pair in range(half):
        angle = position * theta ** (-pair / half)
        a, b = vector[pair].item(), vector[pair + half].item()
        out[pair] = a * math.cos(angle) - b * math.sin(angle)
        out[pair + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


class LonghandLayer:
    """Section 3.2 of Xiao et al. 2023: keys are kept as they were before they are
    turned, and turned anew each time to their places *in the cache*."""

    def __init__(self, attention, window: int, sinks: int, rotary: bool):
        self.attention, self.rotary = attention, rotary
        self.window, self.sinks = window, sinks
        self.keys, self.values = [], []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """One token (D,) -> (D,)."""
        part = self.attention
        heads, groups, width = part.n_heads, part.n_kv_heads, part.head_width
        query = part.query(x).view(heads, width)
        self.keys.append(part.key(x).view(groups, width))
        self.values.append(part.value(x).view(groups, width))
        if len(self.keys) > self.sinks + self.window:
            del self.keys[self.sinks], self.values[self.sinks]
        mixed = []
        for head in range(heads):
            group = head * groups // heads
            q, scores = self.at(query[head], len(self.keys) - 1), []
            for place, key in enumerate(self.keys):
                scores.append(q @ self.at(key[group], place) / math.sqrt(width))
            top = max(scores)
            weights = [math.exp(score - top) for score in scores]
            answer = sum(
                w * v[group] for w, v in zip(weights, self.values, strict=True)
            )
            mixed.append(answer / sum(weights))
        return part.out(torch.cat(mixed))

    def at(self, vector: torch.Tensor, place: int) -> torch.Tensor:
        return turned(vector, place, 10_000.0) if self.rotary else vector


def longhand(model: Decoder, ids: list[int], window: int, sinks: int) -> torch.Tensor:
    """Logits (T, V) of a whole text, one token and one layer at a time."""
    rotary = model.config.positions == "rotary"
    layers = [LonghandLayer(b.attention, window, sinks, rotary) for b in model.blocks]
    logits = []
    for token in ids:
        x = model.embedding.weight[token]
        for block, layer in zip(model.blocks, layers, strict=True):
            x = x + layer(block.attention_norm(x))
            x = x + block.mlp(block.mlp_norm(x))
        logits.append(model.head(model.norm(x)))
    return torch.stack(logits)


@pytest.mark.parametrize("kind", ["rotary", "none"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(("window", "sinks"), [(1, 1), (3, 0), (4, 2), (7, 4)])
@torch.no_grad()
def test_sinks_are_streaming_llm(kind, layers, window, sinks):
    """By one call as in training, in pieces through a ring, and as an endless stream
    of a model that was trained with full attention."""
    shape = {"positions": kind, "n_layers": layers, "n_kv_heads": 2}
    model = model_of(layers, **shape, window=window, sinks=sinks)
    tokens = tokens_of(3, 1)
    wanted = longhand(model, tokens[0].tolist(), window, sinks)
    assert torch.allclose(model(tokens).logits[0], wanted, atol=1e-5)
    positions = torch.arange(LENGTH)[None]
    for cuts in ({5, 6, 16}, set(range(1, LENGTH))):
        caches = make_caches(model.config, 1, LENGTH)
        found = read_in_pieces(model, tokens, positions, cuts, caches)
        assert torch.allclose(found[0], wanted, atol=1e-5)
    stream = Stream(streaming(model_of(layers, **shape), window, sinks))
    found = [model.read(stream.hidden([token]))[0, 0] for token in tokens[0].tolist()]
    assert torch.allclose(torch.stack(found), wanted, atol=1e-5)
