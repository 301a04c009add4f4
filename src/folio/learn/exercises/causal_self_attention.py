"""Exercise: causal attention of many heads, with one fused projection."""

import torch

from folio.learn.exercise import Broken, Exercise, Wrong
from folio.learn.expect import alike, expect, no_look_ahead, normal, same


def made(attention, d_model: int = 8, n_heads: int = 2, max_seq_len: int = 6):
    torch.manual_seed(0)
    return attention(d_model, n_heads, max_seq_len)


def parts_have_their_names_and_shapes(attention):
    mine = made(attention)
    for name, shape in (("c_attn", (24, 8)), ("c_proj", (8, 8))):
        linear = getattr(mine, name, None)
        expect(linear is not None, f"there is no {name}")
        got = tuple(linear.weight.shape)
        expect(got == shape, f"{name}.weight is {got}, expected {shape}")


def the_mask_is_a_buffer(attention):
    mine = made(attention)
    buffers = dict(mine.named_buffers())
    expect(
        "bias" in buffers, "the mask must be a buffer named `bias`, so that it moves"
    )
    got = tuple(buffers["bias"].shape[-2:])
    expect(got == (6, 6), f"`bias` is {got}, expected max_seq_len squared, (6, 6)")


def shapes_stay_the_same(attention):
    for length in (6, 3, 1):
        x = normal(2, length, 8)
        alike(made(attention)(x), x)


def a_query_must_not_look_at_a_later_key(attention):
    mine, x = made(attention), normal(1, 6, 8)
    changed = x.clone()
    changed[0, 5] += 1
    no_look_ahead(mine(x), mine(changed), 5)


def every_earlier_token_is_seen(attention):
    mine, x = made(attention), normal(1, 6, 8)
    changed = x.clone()
    changed[0, 0] += 1
    rows = (mine(x) - mine(changed)).abs().amax(-1)[0] > 1e-6
    if not rows.all():
        raise Broken(f"token {int((~rows).int().argmax())} doesn't see token 0")


def it_equals_the_attention_of_the_package(attention):
    mine, x = made(attention), normal(2, 6, 8, seed=1)
    same(
        mine(x), by_the_package(mine, x), "the same weights in the package's Attention"
    )


def by_the_package(mine, x: torch.Tensor) -> torch.Tensor:
    """What `folio.model.attention.Attention` gives with the weights of `mine`."""
    from folio.model.attention import Attention, Shared
    from folio.model.config import gpt2_like
    from folio.model.mask import Masks

    d = mine.c_proj.in_features
    theirs = Attention(gpt2_like(vocab_size=1, d_model=d, n_heads=mine.n_heads))
    parts = zip(mine.c_attn.weight.split(d), mine.c_attn.bias.split(d), strict=True)
    with torch.no_grad():
        for part, (weight, bias) in zip(("query", "key", "value"), parts, strict=True):
            getattr(theirs, part).weight.copy_(weight)
            getattr(theirs, part).bias.copy_(bias)
        theirs.out.load_state_dict(mine.c_proj.state_dict())
    positions = torch.arange(x.shape[1])[None]
    return theirs(x, Shared(positions, Masks(positions, plain=True)))


EXERCISE = Exercise(
    title="CausalSelfAttention",
    chapter=10,
    place=2,
    week=2,
    symbol="folio.learn.reference.causal_self_attention:CausalSelfAttention",
    task="""
    Attention of many heads, as small GPTs have it: `c_attn` is one linear layer that
    makes queries, keys and values at once, `c_proj` mixes the heads, and the buffer
    `bias` is torch.tril of ones. Keep `n_heads` as an attribute.
    """,
    hints=(
        "c_attn has 3 * d_model outputs; .split(d_model, dim=2) gives q, k and v.",
        "Bring each to (B, H, T, K); scores are q @ k.transpose(-2, -1) / sqrt(K).",
        "scores.masked_fill(self.bias[:, :, :t, :t] == 0, -torch.inf), softmax, @ v, "
        "then transpose(1, 2) and view(b, t, d) before c_proj.",
    ),
    checks=(
        parts_have_their_names_and_shapes,
        the_mask_is_a_buffer,
        shapes_stay_the_same,
        a_query_must_not_look_at_a_later_key,
        every_earlier_token_is_seen,
        it_equals_the_attention_of_the_package,
    ),
    wrong=(
        Wrong(
            "no mask",
            'scores = scores.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf"))',
            "pass",
            "changing token 5 changed the output at token 0",
        ),
        Wrong(
            "the mask the other way round",
            "[:, :, :t, :t] == 0",
            "[:, :, :t, :t].mT == 0",
            "a query must not look at a later key",
        ),
        Wrong(
            "a triangle without its diagonal",
            "torch.tril(torch.ones(max_seq_len, max_seq_len))",
            "torch.tril(torch.ones(max_seq_len, max_seq_len), -1)",
            "NaN",
        ),
        Wrong(
            "heads are not brought back side by side",
            "y.transpose(1, 2).contiguous().view(b, t, d)",
            "y.contiguous().view(b, t, d)",
            "a query must not look at a later key",
        ),
        Wrong(
            "a mask that doesn't move",
            'self.register_buffer("bias", mask[None, None])',
            "self.bias = mask[None, None]",
            "must be a buffer",
        ),
        Wrong(
            "not divided by sqrt(K)",
            " / math.sqrt(k.shape[-1])",
            "",
            "package's Attention",
        ),
    ),
)
