"""Attention: the fused kernel against the readable one, and masks that can't leak."""

import pytest
import torch

from folio.model.attend import (
    attend,
    attend_reference,
    attention_weights,
    share_keys,
)
from folio.model.attention import Attention, Shared
from folio.model.config import ModelConfig
from folio.model.mask import Masks, visible


def normal(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def standing(length: int) -> Shared:
    """What layers share when tokens stand at 0, 1, 2, ... and nothing is turned."""
    positions = torch.arange(length)[None]
    return Shared(positions, Masks(positions, plain=True))


def longhand(q, k, v, mask):
    """Attention of one query at a time, in Python floats."""
    result = torch.zeros_like(q)
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])):
        seen = mask[b, 0, t].nonzero()[:, 0].tolist()
        scores = [(q[b, h, t] @ k[b, h, s]).item() / q.shape[-1] ** 0.5 for s in seen]
        if not seen:
            continue
        powers = torch.tensor(scores, dtype=torch.float64).exp()
        for share, s in zip(powers / powers.sum(), seen, strict=True):
            result[b, h, t] += share * v[b, h, s]
    return result


def test_visible_is_past_and_present_but_never_padding():
    queries = torch.tensor([[3, 0, -1]])
    keys = torch.tensor([[0, 3, 4, -1, 2]])
    assert visible(queries, keys).tolist() == [
        [
            [True, True, False, False, True],
            [True, False, False, False, False],
            [False, False, False, False, False],
        ]
    ]


@pytest.mark.parametrize("attention", [attend_reference, attend])
def test_attention_is_a_longhand_loop(attention):
    q, k, v = (normal(2, 3, 6, 4, seed=i) for i in range(3))
    positions = torch.tensor([[4, 2, 0, 5, 1, 3], [-1, -1, 0, 1, 2, 3]])
    mask = visible(positions, positions)[:, None]
    y = attention(q, k, v, mask)
    assert torch.allclose(y, longhand(q, k, v, mask), atol=1e-12)


def test_no_mask_means_causal():
    q, k, v = (normal(2, 3, 7, 4, seed=i) for i in range(3))
    mask = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
    wanted = attend_reference(q, k, v, mask)
    assert torch.allclose(attend(q, k, v, None), wanted, atol=1e-12)
    assert torch.allclose(attend(q, k, v, mask), wanted, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attention", [attend_reference, attend])
def test_a_query_that_sees_nothing_gives_zeros_and_disturbs_nobody(attention, dtype):
    q, k, v = (normal(2, 2, 5, 8, seed=i, dtype=dtype) for i in range(3))
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    whole = attention(q, k, v, mask)
    mask[0, :, 2] = False
    for tensor in (q, k, v):
        tensor.requires_grad_()
    y = attention(q, k, v, mask)
    assert y[0, :, 2].abs().max() == 0
    others = torch.ones(2, 5, dtype=torch.bool)
    others[0, 2] = False
    assert torch.equal(
        y.transpose(1, 2)[others], whole.detach().transpose(1, 2)[others]
    )
    y.float().square().sum().backward()
    for tensor in (q, k, v):
        assert tensor.grad.isfinite().all()


def test_rows_of_weights_sum_to_one():
    q, k = normal(1, 2, 5, 4), normal(1, 2, 5, 4, seed=1)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    weights = attention_weights(q, k, mask)
    assert torch.allclose(weights.sum(-1), torch.ones(1, 2, 5, dtype=torch.float64))
    assert weights[0, :, 0, 0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_query_attention_is_multi_head_with_copied_heads(kv_heads):
    config = ModelConfig(d_model=16, n_heads=4, n_kv_heads=kv_heads, bias=True)
    torch.manual_seed(0)
    grouped = Attention(config).double()
    plain = Attention(ModelConfig(d_model=16, n_heads=4, bias=True)).double()
    weights = grouped.state_dict()
    for name in ("key.weight", "key.bias", "value.weight", "value.bias"):
        by_head = weights[name].unflatten(0, (kv_heads, 4))
        # Query head h belongs to group h // (H / G): neighbors share.
        weights[name] = by_head[[h * kv_heads // 4 for h in range(4)]].flatten(0, 1)
    plain.load_state_dict(weights)
    x = normal(2, 6, 16)
    assert torch.allclose(grouped(x, standing(6)), plain(x, standing(6)), atol=1e-12)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_the_pattern_for_figures_is_the_one_that_is_used(kv_heads):
    config = ModelConfig(d_model=16, n_heads=4, n_kv_heads=kv_heads)
    torch.manual_seed(0)
    attention = Attention(config).double()
    x = normal(2, 6, 16)
    weights = attention.weights(x, standing(6))  # (B, H, T, T)
    value = share_keys(attention.split(attention.value(x), kv_heads), 4)
    wanted = attention.out((weights @ value).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(x, standing(6)), wanted, atol=1e-12)


def test_dropout_acts_in_training_only():
    attention = Attention(ModelConfig(d_model=16, n_heads=2, dropout=0.5))
    x = normal(1, 6, 16, dtype=torch.float32)
    torch.manual_seed(0)
    first, second = attention(x, standing(6)), attention(x, standing(6))
    assert not torch.equal(first, second)
    attention.eval()
    assert torch.equal(attention(x, standing(6)), attention(x, standing(6)))
