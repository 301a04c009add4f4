"""How weights begin: the sizes that the docstring promises, and the loss they give."""

import math

import pytest
import torch

from folio.model.config import Experts, Latent, ModelConfig
from folio.model.decoder import Decoder


def model_of(seed: int = 0, **changes) -> Decoder:
    fields = {"vocab_size": 500, "d_model": 128, "n_layers": 3, "max_seq_len": 64}
    torch.manual_seed(seed)
    return Decoder(ModelConfig(**(fields | changes)))


def std_of(module) -> float:
    return module.weight.std().item()


@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
def test_gpt2_init(mlp):
    model = model_of(mlp=mlp, bias=True, positions="learned", tie_embeddings=False)
    small = 0.02 / math.sqrt(2 * 3)
    for name, module in model.named_modules():
        if not hasattr(module, "weight"):
            continue
        residual = name.endswith((".attention.out", ".mlp.down"))
        assert std_of(module) == pytest.approx(small if residual else 0.02, rel=0.05)
        assert abs(module.weight.mean().item()) < 1e-3
        if getattr(module, "bias", None) is not None:
            assert not module.bias.any()


@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
def test_fan_in_init(mlp):
    model = model_of(init="fan_in", mlp=mlp, tie_embeddings=False, d_ff=256)
    for name, module in model.blocks.named_modules():
        if not hasattr(module, "weight"):
            continue
        if name.endswith((".attention.out", ".mlp.down")):
            assert not module.weight.any()
        else:
            wanted = 1 / math.sqrt(module.in_features)
            assert std_of(module) == pytest.approx(wanted, rel=0.05)
    assert std_of(model.embedding) == pytest.approx(1 / math.sqrt(128), rel=0.05)
    assert std_of(model.head) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("init", ["gpt2", "fan_in"])
@pytest.mark.parametrize("mlp", ["relu2", "swiglu"])
def test_each_expert_begins_as_a_dense_part_would(mlp, init):
    experts = Experts(3, 2, shared=2, width=160)
    model = model_of(init=init, mlp=mlp, experts=experts, mlp_pattern="b")
    inner, last = (0.02, 0.02 / math.sqrt(6)) if init == "gpt2" else (128**-0.5, 0.0)
    for block in model.blocks:
        stacked, shared = block.moe.experts, block.moe.shared_expert
        inward = [*stacked.up, shared.up.weight, block.mlp.up.weight]
        if mlp == "swiglu":
            inward += [*stacked.gate, shared.gate.weight, block.mlp.gate.weight]
        for matrix in inward:
            assert matrix.std().item() == pytest.approx(inner, rel=0.05)
        for matrix in (*stacked.down, shared.down.weight, block.mlp.down.weight):
            assert matrix.std().item() == pytest.approx(last, rel=0.05)
        assert std_of(block.moe.router.score) == pytest.approx(inner, rel=0.1)
        assert not torch.equal(stacked.up[0], stacked.up[1])


@pytest.mark.parametrize("init", ["gpt2", "fan_in"])
def test_latent_attention_begins_like_any_other(init):
    model = model_of(init=init, latent=Latent(96, 32, 80))
    part = model.blocks[0].attention
    for linear in (part.query, part.key, part.value, part.latent, part.query_latent):
        wanted = 0.02 if init == "gpt2" else linear.in_features**-0.5
        assert std_of(linear) == pytest.approx(wanted, rel=0.05)
    wanted = 0.02 / math.sqrt(6) if init == "gpt2" else 0.0
    assert std_of(part.out) == pytest.approx(wanted, rel=0.05)


def test_the_embeddings_deviation_can_be_chosen():
    model = model_of(init="fan_in", embedding_std=0.3)
    assert std_of(model.embedding) == pytest.approx(0.3, rel=0.05)


def test_with_fan_in_each_block_begins_as_the_identity():
    model = model_of(init="fan_in", mlp_pattern="deb", experts=Experts(4, 2, shared=1))
    x = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(0))
    _, shared = model.embed(torch.zeros(2, 5, dtype=torch.long))
    for block in model.blocks:
        assert torch.equal(block(x, shared), x)


@pytest.mark.parametrize("init", ["gpt2", "fan_in"])
def test_tying_leaves_the_embeddings_as_they_were(init):
    model = model_of(init=init)
    assert model.head.weight is model.embedding.weight
    wanted = 0.02 if init == "gpt2" else 1 / math.sqrt(128)
    assert std_of(model.embedding) == pytest.approx(wanted, rel=0.05)


def first_logits_and_loss(**changes) -> tuple[torch.Tensor, torch.Tensor, float]:
    """What a fresh model says of random tokens, the tokens, and what that costs."""
    model = model_of(**changes)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(500, (16, 65), generator=generator)
    with torch.no_grad():
        logits = model(tokens[:, :-1]).logits
        loss = -model(tokens[:, :-1], targets=tokens[:, 1:]).logprobs.mean()
    return logits, tokens[:, :-1], loss.item()


@pytest.mark.parametrize(
    ("init", "tied"), [("gpt2", True), ("gpt2", False), ("fan_in", False)]
)
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "none"])
def test_the_first_loss_is_that_of_a_guess(positions, init, tied):
    *_, loss = first_logits_and_loss(
        init=init, tie_embeddings=tied, positions=positions
    )
    assert loss == pytest.approx(math.log(500), abs=0.1)


def test_with_fan_in_and_a_tied_head_a_model_begins_by_repeating_each_token():
    """Its own embedding is the likeliest next: sqrt(D) nats of mistake, at first."""
    logits, tokens, loss = first_logits_and_loss(init="fan_in")
    assert torch.equal(logits.argmax(-1), tokens)
    assert loss == pytest.approx(math.sqrt(128), abs=0.5)
    *_, loss = first_logits_and_loss(init="fan_in", embedding_std=0.02)
    assert loss == pytest.approx(math.log(500), abs=0.1)


@torch.no_grad()
def test_depth_does_not_blow_up_the_residual_stream():
    sizes = {}
    for layers in (2, 16):
        model = model_of(n_layers=layers, d_model=64)
        tokens = torch.arange(64)[None]
        x, shared = model.embed(tokens)
        for block in model.blocks:
            x = block(x, shared)
        sizes[layers] = x.std().item()
    assert sizes[16] < 1.5 * sizes[2]


def test_a_seed_decides_every_weight():
    first, second, third = model_of(1), model_of(1), model_of(2)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.embedding.weight, third.embedding.weight)


def test_gains_begin_at_one():
    model = model_of(norm="layernorm", bias=True)
    for name, parameter in model.named_parameters():
        if name.endswith("gain"):
            assert (parameter == 1).all()
