"""Attention: every path against a longhand loop, and masks that can't leak."""

import itertools

import pytest
import torch

from folio.infer.cache import make_caches
from folio.model.attend import (
    attend,
    attend_reference,
    attention_weights,
    fastest_path,
    share_keys,
)
from folio.model.attention import Attention, Shared
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.mask import Mask, Masks, causal_mask, visible
from folio.model.positions import Rotary

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")

LOW = (torch.float16, torch.bfloat16)
PATHS = ("reference", "explicit", "fused")  # that have gradients on a CPU
AT = torch.tensor([[4, 2, 0, 5, 1, 3], [-1, -1, 0, 1, 2, 3]])


def normal(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def standing(length: int) -> Shared:
    """What layers share when tokens stand at 0, 1, 2, ... and nothing is turned."""
    positions = torch.arange(length)[None]
    return Shared(positions, Masks(positions, plain=True))


def longhand(q, k, v, seen, softcap=None):
    """Attention of one query at a time, in Python floats."""
    result = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    group = q.shape[1] // k.shape[1]
    for b, h, t in itertools.product(*map(range, q.shape[:3])):
        places = seen[b % len(seen), 0, t].nonzero()[:, 0].tolist()
        if not places:
            continue
        scores = [q[b, h, t] @ k[b, h // group, s] for s in places]
        scores = torch.stack(scores) / q.shape[-1] ** 0.5
        if softcap is not None:
            scores = softcap * (scores / softcap).tanh()
        powers = scores.exp()
        for share, s in zip(powers / powers.sum(), places, strict=True):
            result[b, h, t] += share * v[b, h // group, s]
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


def test_visible_is_the_rule_in_words():
    """Each query and key by itself, for every window, sinks and document."""
    queries, keys = torch.tensor([[-1, 0, 3, 6, 9]]), torch.arange(-1, 10)[None]
    of_query, of_key = queries % 2, keys // 4 % 2
    for window, sinks, packed in itertools.product(
        (None, 1, 3, 20), (0, 1, 4), (False, True)
    ):
        documents = (of_query, of_key) if packed else None
        seen = visible(queries, keys, window, sinks, documents)
        for t, s in itertools.product(range(5), range(11)):
            p, j = queries[0, t].item(), keys[0, s].item()
            wanted = 0 <= j <= p
            wanted &= window is None or p - j < window or j < sinks
            wanted &= not packed or p % 2 == j // 4 % 2
            assert seen[0, t, s] == wanted


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("path", [*PATHS, "flex", None])
def test_attention_is_a_longhand_loop(path, kv_heads, softcap, window):
    if path == "fused" and softcap is not None:
        pytest.skip("refused, see below")
    q, k = normal(2, 4, 6, 4), normal(2, kv_heads, 6, 4, seed=1)
    v = normal(2, kv_heads, 6, 3, seed=2)  # as wide as it likes
    mask = Mask(AT, AT, window, sinks=1)
    y = attend(q, k, v, mask, softcap=softcap, path=path)
    wanted = longhand(q, k, v, mask.seen, softcap)
    assert torch.allclose(y, wanted, atol=1e-12)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("path", [*PATHS, "flex", None])
def test_sinks_are_met_by_queries_of_their_own(path, softcap):
    """`sink_q` for the keys at 0 and 1, q for the others: score by score."""
    if path == "fused" and softcap is not None:
        pytest.skip("refused, see below")
    q, sink_q = normal(2, 4, 6, 8), normal(2, 4, 6, 8, seed=3)
    k, v = normal(2, 2, 6, 8, seed=1), normal(2, 2, 6, 8, seed=2)
    mask = Mask(AT, AT, 2, sinks=2)
    y = attend(q, k, v, mask, softcap=softcap, sink_q=sink_q, path=path)
    k, v = share_keys(k, 4), share_keys(v, 4)
    for b, t in itertools.product(range(2), range(6)):
        places = mask.seen[b, 0, t].nonzero()[:, 0].tolist()
        if not places:
            assert not y[b, :, t].any()
            continue
        asked = [(sink_q if AT[b, s] < 2 else q)[b, :, t] for s in places]
        scores = torch.stack(
            [(a * k[b, :, s]).sum(-1) for a, s in zip(asked, places, strict=True)], -1
        ) / (8**0.5)
        if softcap is not None:
            scores = softcap * (scores / softcap).tanh()
        wanted = scores.softmax(-1)[:, None] @ v[b, :, places]
        assert torch.allclose(y[b, :, t], wanted[:, 0], atol=1e-12)


def test_what_a_path_cannot_do_is_refused():
    q, mask = normal(1, 1, 4, 4), causal_mask(4)
    with pytest.raises(ValueError, match="'fused' has no softcap"):
        attend(q, q, q, mask, softcap=2.0, path="fused")
    with pytest.raises(ValueError, match="'flex' has no dropout"):
        attend(q, q, q, mask, dropout=0.5, path="flex")


def test_a_triangle_is_known_for_what_it_is():
    assert causal_mask(7).causal
    assert torch.equal(causal_mask(7).seen[0, 0], torch.ones(7, 7).tril().bool())
    positions = torch.arange(7)[None]
    masks = Masks(positions, plain=True)
    assert masks.of(positions) is masks.of(positions)
    assert masks.of(positions, 7, 2) is masks.of(positions)  # not felt
    assert not masks.of(positions, 6, 2).causal
    assert not masks.of(positions.clone()).causal
    assert not Masks(positions, plain=False).of(positions).causal
    assert not Masks(positions, plain=True, documents=positions).of(positions).causal


@pytest.mark.parametrize("path", PATHS)
def test_the_triangle_equals_the_mask_written_out(path):
    q, k, v = (normal(2, 3, 7, 4, seed=i) for i in range(3))
    positions = torch.arange(7)[None]
    wanted = attend_reference(q, k, v, Mask(positions, positions))
    assert torch.allclose(attend(q, k, v, causal_mask(7), path=path), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, *LOW])
@pytest.mark.parametrize("path", PATHS)
def test_a_query_that_sees_nothing_gives_zeros_and_disturbs_nobody(path, dtype):
    q, k, v = (normal(2, 2, 5, 8, seed=i, dtype=dtype) for i in range(3))
    at, keys = torch.arange(5).repeat(2, 1), torch.arange(5).repeat(2, 1)
    whole = attend(q, k, v, Mask(at, keys), path=path)
    at = at.clone()
    at[0, 2] = -1
    for tensor in (q, k, v):
        tensor.requires_grad_()
    y = attend(q, k, v, Mask(at, keys), path=path)
    assert y[0, :, 2].abs().max() == 0
    others = at >= 0
    assert torch.equal(
        y.transpose(1, 2)[others], whole.detach().transpose(1, 2)[others]
    )
    y.float().square().sum().backward()
    for tensor in (q, k, v):
        assert tensor.grad.isfinite().all()
    assert not q.grad[0, :, 2].any()


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("path", PATHS)
def test_low_precision_stays_near_the_truth(path, dtype):
    q, k, v = (normal(2, 4, 40, 16, seed=i) for i in range(3))
    at = torch.arange(40)[None] - torch.tensor([[0], [7]])
    mask = Mask(at, at, 9)
    wanted = attend_reference(q, k, v, mask)
    found = attend(q.to(dtype), k.to(dtype), v.to(dtype), mask, path=path)
    assert found.dtype == dtype
    assert (found - wanted).abs().max() < 16 * torch.finfo(dtype).eps


def test_the_path_fits_device_dtype_and_shape():
    """The thresholds that `bench/attention.py` gave, and what no kernel can do."""
    q, mask = normal(1, 4, 64, 8, dtype=torch.float32), causal_mask(64)
    assert fastest_path(q, q, mask) == "fused"
    assert fastest_path(q, q, mask, dropout=0.1) == "fused"
    assert fastest_path(q, q, mask, softcap=30.0) == "explicit"
    assert fastest_path(q, q, mask, sink_q=q) == "explicit"
    assert fastest_path(q, q[..., :4], mask) == "explicit"
    for dtype in LOW:
        low = q.to(dtype)
        assert fastest_path(low, low, mask) == "explicit"
        with torch.no_grad():  # only their backward is slow
            assert fastest_path(low, low, mask) == "fused"
            assert fastest_path(low, low, mask, sink_q=low) == "explicit"
        long = low[:, :, :1].expand(-1, -1, 1024, -1)
        assert fastest_path(long, long, causal_mask(1024)) == "fused"
        assert fastest_path(long, long, causal_mask(1024), sink_q=long) == "explicit"
    long = q[:, :, :1].expand(-1, -1, 1024, -1)
    assert fastest_path(long, long, causal_mask(1024), sink_q=long) == "fused"


def test_rows_of_weights_sum_to_one():
    q, k = normal(1, 2, 5, 4), normal(1, 2, 5, 4, seed=1)
    weights = attention_weights(q, k, causal_mask(5))
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


@pytest.mark.parametrize(
    "changes",
    [
        {"n_kv_heads": 1},
        {"n_kv_heads": 2},
        {"n_kv_heads": 4},
        {"window": 3, "sinks": 2},
        {"window": 3, "attention_softcap": 2.0, "qk_norm": True},
        {"head_dim": 6, "rope_fraction": 0.7, "attention_scale": 0.3},
    ],
)
def test_the_pattern_for_figures_is_the_one_that_is_used(changes):
    config = ModelConfig(vocab_size=9, d_model=16, n_heads=4, **changes)
    torch.manual_seed(0)
    model = Decoder(config).double()
    attention, (_, shared) = (
        model.blocks[0].attention,
        model.embed(torch.ones(1, 7).long()),
    )
    x = normal(1, 7, 16)
    weights = attention.weights(x, shared)  # (B, H, T, T)
    value = share_keys(attention.split(attention.value(x), config.kv_heads), 4)
    wanted = attention.out((weights @ value).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(x, shared), wanted, atol=1e-12)


def test_dropout_acts_in_training_only():
    attention = Attention(ModelConfig(d_model=16, n_heads=2, dropout=0.5))
    x = normal(1, 6, 16, dtype=torch.float32)
    torch.manual_seed(0)
    for path in (None, *PATHS):
        attention.train().path = path
        first, second = attention(x, standing(6)), attention(x, standing(6))
        assert not torch.equal(first, second)
        attention.eval()
        assert torch.equal(attention(x, standing(6)), attention(x, standing(6)))


def test_dropout_drops_weights_and_keeps_their_mean():
    q, k = normal(1, 1, 1, 8), normal(1, 1, 50, 8, seed=1)
    mask = Mask(torch.tensor([[49]]), torch.arange(50)[None])
    eye = torch.eye(50, dtype=torch.float64)[None, None]
    weights = attend(q, k, eye, mask, path="reference")
    for path in PATHS:
        torch.manual_seed(0)
        dropped = attend(q, k, eye, mask, dropout=0.25, path=path)
        kept = dropped != 0
        assert 25 < kept.sum() < 46
        assert torch.allclose(dropped[kept], (weights / 0.75)[kept])


# ---- windows, sinks and their distances ----------------------------------------------


def test_qk_norm_is_an_rms_norm_of_each_head():
    attention = Attention(ModelConfig(d_model=16, n_heads=2, qk_norm=True)).double()
    torch.nn.init.normal_(attention.query_norm.gain)
    torch.nn.init.normal_(attention.key_norm.gain)
    x = normal(1, 5, 16)
    q, k, _ = attention.project(x)
    for found, linear, norm in (
        (q, attention.query, attention.query_norm),
        (k, attention.key, attention.key_norm),
    ):
        heads = (x @ linear.weight.T).view(1, 5, 2, 8).transpose(1, 2)
        size = (heads.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        assert torch.allclose(found, heads / size * norm.gain, atol=1e-12)


@pytest.mark.parametrize("sinks", [0, 1, 3])
@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("cached", [False, True])
def test_sinks_stand_right_before_the_window(window, sinks, cached):
    """StreamingLLM in longhand: distances counted in the cache, not in the text.

    A query at p sees its window at distances 0 to window - 1, and the sinks behind it
    as if nothing lay between: the sink j at min(p, window + sinks - 1) - j.
    """
    config = ModelConfig(
        vocab_size=9, d_model=16, n_heads=2, n_layers=1, window=window, sinks=sinks
    )
    torch.manual_seed(0)
    model = Decoder(config).double()
    attention, x = model.blocks[0].attention, normal(1, 12, 16)
    cache = make_caches(config, 1, 12, dtype=torch.float64)[0]
    if cached:
        found = []
        for p in range(12):
            positions = torch.tensor([[p]])
            rotary = Rotary(config)
            shared = Shared(
                positions, Masks(positions, plain=False), rotary, rotary(positions)
            )
            found.append(attention(x[:, p : p + 1], shared, cache))
        found = torch.cat(found, 1)[0]
    else:
        _, shared = model.embed(torch.zeros(1, 12, dtype=torch.long))
        found = attention(x, shared)[0]

    frequencies = 10_000.0 ** (-torch.arange(0, 8, 2, dtype=torch.float64) / 8)

    def turned(head, distance):
        """One head (8,) as seen from `distance` further on: pairs as complex."""
        pairs = torch.complex(head[:4], head[4:])
        return pairs * torch.polar(torch.ones(4).double(), -distance * frequencies)

    q, k, v = (
        linear(x)[0].view(12, 2, 8)
        for linear in (attention.query, attention.key, attention.value)
    )
    for p in range(12):
        places = sorted(
            {*range(min(sinks, p + 1)), *range(max(0, p - window + 1), p + 1)}
        )
        parts = []
        for h in range(2):
            ask = torch.complex(q[p, h, :4], q[p, h, 4:])
            scores = []
            for j in places:
                at = min(p, window + sinks - 1) if j < sinks else p
                scores.append((ask.conj() * turned(k[j, h], at - j)).real.sum())
            weights = (torch.stack(scores) / 8**0.5).softmax(0)
            parts.append(sum(w * v[j, h] for w, j in zip(weights, places, strict=True)))
        wanted = attention.out(torch.cat(parts))
        assert torch.allclose(found[p], wanted, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 70])
@pytest.mark.parametrize("sinks", [0, 3])
def test_flex_attention_compiled(sinks, window, softcap):
    """Windows, documents, padding, caps and sinks on a GPU: values and gradients."""
    q, sink_q = (normal(2, 4, 600, 32, seed=i, dtype=torch.float32) for i in (0, 3))
    k, v = (normal(2, 2, 600, 32, seed=i, dtype=torch.float32) for i in (1, 2))
    at = (torch.arange(600)[None] - torch.tensor([[0], [50]])).clamp(min=-1).cuda()
    documents = (at // 250).cuda()
    mask = Mask(at, at, window, sinks, (documents, documents))
    results = []
    for path in ("flex", "reference"):
        given = [x.cuda().requires_grad_() for x in (q, k, v, sink_q)]
        more = {"sink_q": given[3]} if sinks else {}
        y = attend(*given[:3], mask, softcap=softcap, path=path, **more)
        y.square().sum().backward()
        results.append([y.detach(), *(x.grad for x in given if x.grad is not None)])
    for fast, naive in zip(*results, strict=True):
        assert (fast - naive).abs().max() < 0.02 * naive.abs().max()
    assert fastest_path(given[0], given[2], mask, softcap=softcap) == "flex"
