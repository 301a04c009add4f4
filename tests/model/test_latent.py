"""Latent attention: made = absorbed = cached, and what DeepSeek-V3 computes."""

from itertools import pairwise

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as theirs

from folio.config import UserError
from folio.model.config import Latent, ModelConfig
from folio.model.count import count_parameters
from folio.model.decoder import Decoder

many = settings(derandomize=True, deadline=None, database=None, max_examples=60)
LENGTH, VOCABULARY = 12, 11


class GrowingCache:
    """Remember everything by appending it: the protocol at its simplest."""

    def __init__(self):
        self.kept = None

    def update(self, k, v, positions):
        new = (k, v, positions.expand(len(k), -1))
        if self.kept is not None:
            places = (2, 2, 1)
            new = [
                torch.cat(pair, at)
                for *pair, at in zip(self.kept, new, places, strict=True)
            ]
        self.kept = new
        return tuple(new)


def model_of(seed: int = 0, **changes) -> Decoder:
    fields = {
        "vocab_size": VOCABULARY,
        "max_seq_len": LENGTH,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 4,
        "latent": Latent(rank=6, rope_width=2),
    }
    model = Decoder(ModelConfig(**(fields | changes))).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
    return model.eval()


def tokens_of(seed: int, rows: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (rows, LENGTH), generator=generator)


shapes = st.fixed_dictionaries(
    {
        "latent": st.builds(
            Latent,
            rank=st.sampled_from([1, 6]),
            rope_width=st.sampled_from([2, 4]),
            query_rank=st.sampled_from([None, 5]),
        ),
        "head_dim": st.sampled_from([None, 3]),
        "bias": st.booleans(),
        "window": st.sampled_from([None, 3]),
        "attention_softcap": st.sampled_from([None, 2.0]),
        "attention_scale": st.sampled_from([None, 0.4]),
    }
)


@many
@given(shapes, st.integers(0, 2**30), st.sets(st.integers(1, LENGTH - 1)))
@torch.no_grad()
def test_made_and_absorbed_are_the_same_for_any_cut(shape, seed, cuts):
    model, tokens = model_of(seed, **shape), tokens_of(seed)
    shift = torch.tensor([[0], [3]])  # the second row is padded in front
    positions = (torch.arange(LENGTH) - shift).clamp(min=-1)
    cache = [GrowingCache() for _ in model.blocks]
    found = torch.cat(
        [
            model(tokens[:, a:b], positions[:, a:b], cache).logits
            for a, b in pairwise([0, *sorted(cuts), LENGTH])
        ],
        dim=1,
    )
    real = positions >= 0
    for wanted in (
        model(tokens, positions).logits[real],
        torch.cat([model(tokens[:1]).logits[0], model(tokens[1:, 3:]).logits[0]]),
    ):
        assert torch.allclose(found[real], wanted, atol=1e-10)
    heads, key_width, value_width = model.config.cache_shape
    k, v, _ = cache[0].kept
    assert k.shape == (2, heads, LENGTH, key_width)
    assert v.shape == (2, heads, LENGTH, value_width)


@pytest.mark.parametrize("query_rank", [None, 5])
def test_each_head_in_longhand(query_rank):
    """DeepSeek-V2, equations 9 to 19, one query, key and head at a time."""
    latent = Latent(rank=6, rope_width=4, query_rank=query_rank)
    model = model_of(latent=latent, n_layers=1)
    part, x = model.blocks[0].attention, torch.randn(5, 16, dtype=torch.float64)

    def norm(x, gain):
        return x / (x.square().mean() + 1e-5).sqrt() * gain

    def turned(x, place):
        angles = place * 10_000.0 ** (-torch.arange(2, dtype=torch.float64) / 2)
        pairs = torch.complex(x[:2], x[2:]) * torch.polar(
            torch.ones(2).double(), angles
        )
        return torch.cat([pairs.real, pairs.imag])

    latents = [norm(part.latent.weight @ row, part.latent_norm.gain) for row in x]
    _, shared = model.embed(torch.zeros(1, 5, dtype=torch.long))
    found, pattern = part(x[None], shared)[0], part.weights(x[None], shared)[0]
    for t in range(5):
        asked = x[t]
        if query_rank is not None:
            asked = norm(part.query_latent.weight @ asked, part.query_norm.gain)
        heads = []
        for h, q in enumerate((part.query.weight @ asked).view(4, 8)):
            k, v = (
                [(linear.weight @ c).view(4, 4)[h] for c in latents]
                for linear in (part.key, part.value)
            )
            scores = [
                q[:4] @ k[s]
                + turned(q[4:], t) @ turned(part.rotary_key.weight @ x[s], s)
                for s in range(t + 1)
            ]
            weights = (torch.stack(scores) / 8**0.5).softmax(0)
            assert torch.allclose(pattern[h, t, : t + 1], weights, atol=1e-6)
            heads.append(sum(w * v[s] for s, w in enumerate(weights)))
        wanted = part.out.weight @ torch.cat(heads)
        assert torch.allclose(found[t], wanted, atol=1e-6)


@pytest.mark.parametrize("query_rank", [None, 12])
@torch.no_grad()
def test_the_layer_is_deepseek_v3s(query_rank):
    config = transformers.DeepseekV3Config(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=4,
        q_lora_rank=query_rank,
        kv_lora_rank=10,
        qk_nope_head_dim=8,
        qk_rope_head_dim=6,
        v_head_dim=8,
        attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    layer = theirs.DeepseekV3Attention(config, 0).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.normal_(std=0.5, generator=generator)
    model = Decoder(
        ModelConfig(
            vocab_size=3,
            d_model=32,
            n_layers=1,
            n_heads=4,
            norm_eps=1e-6,
            rope_theta=500.0,
            latent=Latent(rank=10, rope_width=6, query_rank=query_rank),
        )
    )
    ours, source = model.blocks[0].attention, layer.state_dict()
    halves = torch.tensor([0, 2, 4, 1, 3, 5])  # they turn neighbors, we turn halves
    query = source["q_proj.weight" if query_rank is None else "q_b_proj.weight"]
    query = query.view(4, 14, -1)
    query = torch.cat([query[:, :8], query[:, 8:][:, halves]], 1).flatten(0, 1)
    down = source["kv_a_proj_with_mqa.weight"]
    up = source["kv_b_proj.weight"].view(4, 16, 10)
    weights = {
        "query.weight": query,
        "latent.weight": down[:10],
        "latent_norm.gain": source["kv_a_layernorm.weight"],
        "rotary_key.weight": down[10:][halves],
        "key.weight": up[:, :8].flatten(0, 1),
        "value.weight": up[:, 8:].flatten(0, 1),
        "out.weight": source["o_proj.weight"],
    }
    if query_rank is not None:
        weights["query_latent.weight"] = source["q_a_proj.weight"]
        weights["query_norm.gain"] = source["q_a_layernorm.weight"]
    ours.load_state_dict(weights)
    x = torch.randn(2, 9, 32, generator=generator)
    places = torch.arange(9)[None]
    angles = theirs.DeepseekV3RotaryEmbedding(config)(x, places)
    hidden = torch.full((9, 9), -torch.inf).triu(1)[None, None]
    wanted = layer(x, position_embeddings=angles, attention_mask=hidden)[0]
    _, shared = model.embed(torch.zeros(1, 9, dtype=torch.long))
    assert wanted.std() > 0.5
    for cache in (None, GrowingCache()):
        assert torch.allclose(ours(x, shared, cache), wanted, atol=1e-4)


def test_absorbing_sees_what_an_adapter_adds():
    model, tokens = model_of(), tokens_of(1)

    class Adapted(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 0.3 * x.sum(-1, keepdim=True)

    for block in model.blocks:
        for name in ("key", "value"):
            linear = getattr(block.attention, name)
            adapted = Adapted(*linear.weight.shape[::-1], bias=False).double()
            adapted.weight = linear.weight
            setattr(block.attention, name, adapted)
    cache = [GrowingCache() for _ in model.blocks]
    positions = torch.arange(LENGTH)[None]
    found = model(tokens, positions, cache).logits
    assert torch.allclose(found, model(tokens).logits, atol=1e-10)


def test_a_future_token_changes_nothing_and_gradients_reach_every_weight():
    model, tokens = model_of(latent=Latent(6, 2, 5)), tokens_of(1)
    before = model(tokens).logits
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % VOCABULARY
    after = model(changed).logits
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7], after[:, 7])
    before.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("query_rank", [None, 5])
@pytest.mark.parametrize("head_dim", [None, 3])
def test_parameters_are_counted(head_dim, query_rank, bias):
    model = model_of(latent=Latent(6, 2, query_rank), bias=bias, head_dim=head_dim)
    counts = count_parameters(model.config)
    assert counts["total"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"positions": "learned"}, ["positions = 'learned'", "'rotary'"]),
        ({"window": 3, "sinks": 1}, ["sinks = 1", "latent", "leave it out"]),
        ({"n_kv_heads": 2}, ["n_kv_heads = 2", "leave it out"]),
        ({"qk_norm": True}, ["qk_norm = True"]),
        ({"qkv_bias": False}, ["qkv_bias = False"]),
        ({"rope_fraction": 0.5}, ["rope_fraction = 0.5"]),
    ],
)
def test_what_does_not_go_with_it_is_named(fields, words):
    with pytest.raises(UserError) as caught:
        ModelConfig(latent=Latent(), **fields)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"rank": 0}, "rank = 0"),
        ({"rope_width": 3}, "rope_width = 3: .* even"),
        ({"rope_width": 0}, "rope_width = 0"),
        ({"query_rank": 0}, "query_rank = 0"),
    ],
)
def test_impossible_latents_are_refused(fields, word):
    with pytest.raises(UserError, match=word):
        Latent(**fields)
