"""Experts: sorted equals one by one, routers as in the papers, work that is shared."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from folio.data.batch import Batch
from folio.model import moe
from folio.model.attention import Shared
from folio.model.config import Experts as Options
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.mask import Masks
from folio.model.moe import (
    MixtureOfExperts,
    balance_loss,
    balance_routers,
    choices_counted,
    mix_reference,
    routers_of,
    z_loss,
)
from folio.objectives.next_token import next_token

VOCABULARY = 13


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def config_of(mlp: str = "swiglu", **options) -> ModelConfig:
    return ModelConfig(
        vocab_size=VOCABULARY,
        max_seq_len=32,
        d_model=16,
        n_layers=2,
        n_heads=2,
        mlp=mlp,
        experts=Options(**({"count": 4, "active": 2, "width": 12} | options)),
    )


def mixture_of(mlp: str = "swiglu", seed: int = 0, **options) -> MixtureOfExperts:
    part = MixtureOfExperts(config_of(mlp, **options)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*part.parameters(), *part.buffers()):
            if tensor.is_floating_point():
                tensor.normal_(std=0.5, generator=generator)
    return part


def shared_by(positions: torch.Tensor) -> Shared:
    return Shared(positions, Masks(positions, plain=False))


def standing(length: int) -> Shared:
    return shared_by(torch.arange(length)[None])


# ---- one token at a time -------------------------------------------------------------


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("active", [1, 2, 4])
def test_a_softmax_mixture_is_mixtrals_block_token_by_token(active, renormalize):
    """Jiang et al. 2024, section 2.1: softmax over the top k logits of SwiGLU experts;
    without renormalizing, Switch's: probabilities over all experts."""
    part = mixture_of(active=active, renormalize=renormalize)
    x = normal(2, 5, 16, seed=1)
    found = part(x, standing(5))
    for b in range(2):
        for t in range(5):
            logits = part.router.score.weight @ x[b, t]
            best = sorted(range(4), key=lambda e: -logits[e].item())[:active]
            if renormalize:
                shares = logits[best].softmax(-1)
            else:
                shares = logits.softmax(-1)[best]
            wanted = torch.zeros(16, dtype=torch.float64)
            for share, e in zip(shares, best, strict=True):
                gate = part.experts.gate[e] @ x[b, t]
                hidden = gate * gate.sigmoid() * (part.experts.up[e] @ x[b, t])
                wanted += share * (part.experts.down[e] @ hidden)
            assert torch.allclose(found[b, t], wanted, atol=1e-12)


def test_a_sigmoid_router_chooses_with_its_bias_and_weighs_without():
    """DeepSeek-V3, equations 12 to 16, with a shared expert."""
    part = mixture_of(router="sigmoid", active=2, shared=1, bias_rate=0.1)
    part.router.bias.copy_(torch.tensor([0.0, 0.9, -0.9, 0.3]))
    x = normal(1, 6, 16, seed=1)
    found, moved = part(x, standing(6)), 0
    for t in range(6):
        scores = (part.router.score.weight @ x[0, t]).sigmoid()
        steered = scores + part.router.bias
        best = sorted(range(4), key=lambda e: -steered[e].item())[:2]
        moved += set(best) != set(scores.topk(2).indices.tolist())
        wanted = part.shared_expert(x[0, t])
        for e in best:
            share = scores[e] / scores[best].sum()
            wanted = wanted + share * part.experts.one(x[0, t][None], e)[0]
        assert torch.allclose(found[0, t], wanted, atol=1e-12)
    assert moved  # the bias has changed a choice


@pytest.mark.parametrize("mlp", ["relu2", "geglu"])
def test_a_shared_expert_is_as_wide_as_all_that_are_shared(mlp):
    part = mixture_of(mlp, shared=3)
    assert part.shared_expert.up.weight.shape == (36, 16)
    x = normal(1, 5, 16)
    with torch.no_grad():
        whole = part(x, standing(5))
        part.shared_expert.down.weight.zero_()
        alone = part(x, standing(5))
        flat = x.flatten(0, 1)
        assert torch.allclose(
            alone[0], mix_reference(part.experts, flat, part.router(flat)), atol=1e-12
        )
    assert not torch.allclose(whole, alone)


# ---- kernels -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("counts", [[3, 0, 4], [0, 0, 7], [7, 0, 0], [2, 3, 2]])
@pytest.mark.parametrize("width", [5, 8])  # the kernel can, and can't
def test_grouped_products_are_products(width, counts, dtype):
    x, weights = normal(7, width).to(dtype), normal(3, 16, width, seed=1).to(dtype)
    x.requires_grad_()
    weights.requires_grad_()
    y = moe.grouped_linear(x, weights, torch.tensor(counts))
    (y * normal(7, 16, seed=2).to(dtype)).sum().backward()
    found = [y, x.grad, weights.grad]
    start, exact = 0, x.detach().double().requires_grad_()
    matrices, parts = weights.detach().double().requires_grad_(), []
    for e, count in enumerate(counts):
        parts.append(exact[start : start + count] @ matrices[e].T)
        start += count
    wanted = torch.cat(parts)
    (wanted * normal(7, 16, seed=2).to(dtype)).sum().backward()
    for ours, true in zip(found, (wanted, exact.grad, matrices.grad), strict=True):
        tolerance = 8 * torch.finfo(dtype).eps
        assert torch.allclose(ours.double(), true, rtol=tolerance, atol=tolerance)


def test_under_autocast_experts_work_in_bf16_and_the_router_in_fp32():
    part, x = mixture_of().float(), normal(2, 6, 16).float()
    with torch.autocast("cpu", torch.bfloat16):
        choice = part.router(x.flatten(0, 1))
        up = moe.grouped_linear(x.flatten(0, 1), part.experts.up, torch.tensor([3] * 4))
        y = part(x, standing(6))
    assert up.dtype == torch.bfloat16
    assert choice.logits.dtype == torch.float32
    assert torch.equal(choice.logits, x.flatten(0, 1) @ part.router.score.weight.T)
    wanted = part(x, standing(6))
    assert (y.float() - wanted).abs().max() < 0.05 * wanted.abs().max()
    low = copy.deepcopy(part).bfloat16().router(x.bfloat16().flatten(0, 1))
    assert low.logits.dtype == low.weights.dtype == torch.float32
    assert low.logits.bfloat16().float().ne(low.logits).any()  # not rounded


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_tokens_give_the_same_bits(dtype):
    part = mixture_of(count=16, active=3).to(dtype)
    x = normal(4, 50, 16).to(dtype)
    results = []
    for _ in range(2):
        part.zero_grad()
        y = part(x, standing(50))
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad.clone() for p in part.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_the_bias_stays_exact_when_the_model_is_rounded():
    part = mixture_of(router="sigmoid", bias_rate=0.001).float()
    exact = part.router.bias.clone()
    assert torch.equal(part.bfloat16().router.bias, exact)
    assert part.router.score.weight.dtype == torch.bfloat16
    assert part.half().double().router.bias.dtype == torch.float32
    with torch.device("meta"):
        empty = MixtureOfExperts(config_of(router="sigmoid"))
    assert empty.to_empty(device="cpu").router.bias.shape == (4,)


def test_the_bias_is_kept_with_the_weights_and_the_load_is_not():
    part = mixture_of(router="sigmoid", bias_rate=0.001)
    part(normal(1, 5, 16), standing(5))
    assert part.load.sum() == 10
    state = part.state_dict()
    assert "router.bias" in state
    assert "load" not in state
    other = mixture_of(router="sigmoid", seed=1, bias_rate=0.001)
    other.load_state_dict(state)
    assert torch.equal(other.router.bias, part.router.bias)


# ---- losses --------------------------------------------------------------------------


def longhand_balance(shares, experts, real) -> list[float]:
    """E sum f P per row, in Python floats: f over all k choices, P over all shares."""
    losses, (rows, length), count = [], real.shape, shares.shape[-1]
    for b in range(rows):
        places = [b * length + t for t in range(length) if real[b, t]]
        chosen = [e for n in places for e in experts[n].tolist()]
        loss = 0.0
        for e in range(count):
            got = chosen.count(e) / max(len(chosen), 1)
            given = sum(shares[n, e].item() for n in places) / max(len(places), 1)
            loss += count * got * given
        losses.append(loss)
    return losses


@pytest.mark.parametrize("router", ["softmax", "sigmoid"])
@pytest.mark.parametrize("active", [1, 2, 3])
def test_losses_of_the_router_in_longhand(active, router):
    part = mixture_of(active=active, router=router)
    real = torch.tensor([[True] * 5, [False, False, True, True, True], [False] * 5])
    choice = part.router(normal(15, 16, seed=2))
    found = balance_loss(choice, real)
    assert found.tolist() == pytest.approx(
        longhand_balance(choice.shares, choice.experts, real)
    )
    squares = [
        math.log(sum(math.exp(x) for x in row)) ** 2 for row in choice.logits.tolist()
    ]
    wanted = [sum(squares[:5]) / 5, sum(squares[7:10]) / 3, 0.0]
    assert z_loss(choice, real).tolist() == pytest.approx(wanted)


def test_all_choices_count_not_only_the_first():
    """With the first choices even and the second all the same, work isn't even."""
    logits = torch.full((4, 4), -9.0)
    logits[range(4), range(4)] = 2.0  # the first choices: each expert once
    logits[:3, 3] = logits[3, 0] = 1.0  # the second: expert 3, nearly always
    logits[3, 0] = 1.0
    shares = logits.softmax(-1)
    choice = moe.Choice(shares.topk(2).indices, shares.topk(2).values, shares, logits)
    real = torch.ones(1, 4, dtype=torch.bool)
    assert choices_counted(choice, real).tolist() == [[2, 1, 1, 4]]
    top1 = moe.Choice(shares.topk(1).indices, shares.topk(1).values, shares, logits)
    assert balance_loss(top1, real).item() == pytest.approx(1.0)
    assert balance_loss(choice, real).item() > 1.1


def test_even_work_costs_one_and_the_greatest_waste_e_over_k():
    real = torch.ones(1, 4, dtype=torch.bool)
    even = torch.full((4, 4), 0.25)
    each = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
    assert balance_loss(moe.Choice(each, None, even, None), real).item() == 1.0
    waste = torch.tensor([[0.5, 0.5, 0.0, 0.0]]).expand(4, 4)
    same = torch.tensor([[0, 1]]).expand(4, 2).contiguous()
    assert balance_loss(moe.Choice(same, None, waste, None), real).item() == 2.0


def test_padding_has_no_part_in_losses_and_load():
    part = mixture_of(z_loss=0.1).train()
    x = normal(2, 6, 16)
    positions = torch.tensor([[0, 1, 2, 3, -1, -1], [-1, 0, 1, 2, 3, 4]])
    results = []
    for fill in (0.0, 5.0):
        shared = shared_by(positions)
        part.load.zero_()
        part(x.masked_fill(positions[..., None] < 0, fill), shared)
        results.append((shared.router_losses.all[0], part.load.clone()))
        assert part.load.sum() == 9 * 2
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_weights_of_the_losses_and_none_when_evaluating():
    tokens = torch.arange(10)[None] % VOCABULARY
    for options, parts in (
        ({"balance": 0.5, "z_loss": 0.25}, (0.5, 0.25)),
        ({"balance": 0.5}, (0.5, 0.0)),
        ({"balance": 0.0, "z_loss": 0.25}, (0.0, 0.25)),
    ):
        model = Decoder(config_of(**options)).train()
        choices = []
        for part in routers_of(model).values():
            part.router.register_forward_hook(
                lambda *event, kept=choices: kept.append(event[-1])
            )
        found = model(tokens).router_loss
        real = torch.ones(1, 10, dtype=torch.bool)
        wanted = sum(
            parts[0] * balance_loss(choice, real) + parts[1] * z_loss(choice, real)
            for choice in choices
        )
        assert torch.allclose(found, wanted)
        assert model.eval()(tokens).router_loss is None
    assert Decoder(config_of(balance=0.0)).train()(tokens).router_loss is None


def test_the_objective_adds_what_routers_ask_for_as_often_as_a_row_has_weight():
    model = Decoder(config_of(balance=0.5)).train()
    rows = torch.arange(22).view(2, 11) % VOCABULARY
    weights = torch.ones(2, 10)
    weights[1, :7] = 0
    batch = Batch(13.0, inputs=rows[:, :-1], targets=rows[:, 1:], weights=weights)
    loss, metrics = next_token(model, batch)
    output = model(rows[:, :-1], targets=rows[:, 1:])
    asked = 10 * output.router_loss[0] + 3 * output.router_loss[1]
    assert metrics["router_loss"].item() == pytest.approx(asked.item())
    text = -(output.logprobs * weights).sum().item()
    assert metrics["text_loss"].item() == pytest.approx(text)
    assert loss.item() == pytest.approx(text + asked.item())


# ---- balance -------------------------------------------------------------------------


def test_a_bias_sinks_where_there_is_too_much():
    model = Decoder(config_of(router="sigmoid", bias_rate=0.25))
    first, second = routers_of(model).values()
    first.load.copy_(torch.tensor([6, 2, 4, 4]))
    shares = balance_routers(model)
    assert list(shares) == ["blocks.0.moe"]  # the other has seen nothing
    assert shares["blocks.0.moe"].tolist() == [6 / 16, 2 / 16, 4 / 16, 4 / 16]
    assert first.router.bias.tolist() == [-0.25, 0.25, 0.0, 0.0]
    assert not second.router.bias.any()
    assert not first.load.any()
    assert balance_routers(model) == {}
    first.load.copy_(torch.tensor([6, 2, 4, 4]))
    other_rank = torch.tensor([0.0, 9.0, 0.0, 0.0])
    shares = balance_routers(model, lambda load: load + other_rank)
    wanted = [6 / 25, 11 / 25, 4 / 25, 4 / 25]
    assert shares["blocks.0.moe"].tolist() == pytest.approx(wanted)
    assert first.router.bias.tolist() == [0.0, 0.0, 0.25, 0.25]


def train_skewed(steps: int = 80, **options) -> float:
    """Train a little with a router that begins in love with expert 0.

    Returns the greatest share of choices of the last steps (an even one is 0.25).
    """
    torch.manual_seed(0)
    config = config_of(active=1, renormalize=False, **options)
    model = Decoder(config).train()
    with torch.no_grad():  # all tokens have a part in common, which expert 0 likes
        model.embedding.weight[:, 0] = 0.05
        for part in routers_of(model).values():
            part.router.score.weight.zero_()
            part.router.score.weight[0, 0] = 0.3
            part.router.score.weight[1:, 1:].normal_(std=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    generator, shares = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        rows = torch.randint(VOCABULARY, (4, 17), generator=generator)
        weights = torch.ones(4, 16)
        batch = Batch(64.0, inputs=rows[:, :-1], targets=rows[:, 1:], weights=weights)
        (next_token(model, batch)[0] / 64).backward()
        optimizer.step()
        optimizer.zero_grad()
        shares.append(torch.stack(list(balance_routers(model).values())))
    assert shares[0].max() > 0.8
    return torch.stack(shares[-10:]).mean(0).max().item()


def test_skewed_work_stays_skewed_by_itself_and_is_spread_by_bias_or_loss():
    assert train_skewed(balance=0.0) > 0.7
    assert train_skewed(router="sigmoid", balance=0.0) > 0.7
    biased = train_skewed(router="sigmoid", balance=0.0, bias_rate=0.02)
    assert biased < 0.45
    assert train_skewed(balance=1.0, steps=150) < 0.45


def test_checkpointed_layers_count_alike_and_lose_alike():
    tokens = torch.arange(30).view(2, 15) % VOCABULARY
    results = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = Decoder(config_of(router="sigmoid", bias_rate=0.01, z_loss=0.1)).train()
        model.checkpoint_layers = checkpointed
        model.zero_grad()
        output = model(tokens, targets=tokens)
        (output.router_loss.sum() - output.logprobs.sum()).backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        shares = balance_routers(model).values()
        biases = [part.router.bias for part in routers_of(model).values()]
        results.append([output.router_loss, *gradients, *shares, *biases])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


# ---- patterns ------------------------------------------------------------------------


def test_a_pattern_says_which_layers_are_dense_sparse_or_both():
    config = config_of()
    changed = {"n_layers": 3, "mlp_pattern": "deb"}
    model = Decoder(ModelConfig(**(vars(config) | changed))).double().train()
    dense, sparse, both = model.blocks
    assert (dense.moe, sparse.mlp) == (None, None)
    assert list(routers_of(model)) == ["blocks.1.moe", "blocks.2.moe"]
    x, shared = normal(1, 5, 16), standing(5)
    assert torch.equal(dense.think(x, shared), dense.mlp(x))
    assert torch.equal(sparse.think(x, shared), sparse.moe(x, shared))
    assert torch.equal(both.think(x, shared), both.moe(x, shared) + both.mlp(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("width", [12, 16])
def test_cuda_agrees_without_waiting_for_the_card(width):
    part, x = mixture_of(width=width).float(), normal(2, 40, 16).float()
    wanted = part(x, standing(40))
    part, shared = part.cuda().bfloat16(), shared_by(torch.arange(40)[None].cuda())
    part.eval()
    if width == 16:
        torch.cuda.set_sync_debug_mode("error")
    try:
        found = part(x.cuda().bfloat16(), shared)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert F.mse_loss(found.float().cpu(), wanted) < 0.01 * wanted.var()
