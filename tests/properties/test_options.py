"""Promise: whatever the options, the past is blind to the future, documents to others.

And layers that are computed twice to save memory give the same numbers bit for bit.
"""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.model.config import Experts, Latent, ModelConfig, RopeScaling
from folio.model.decoder import Decoder

LENGTH, VOCABULARY = 12, 13
many = settings(derandomize=True, deadline=None, database=None, max_examples=120)
seeds = st.integers(0, 2**30)
scalings = st.sampled_from(
    [
        None,
        RopeScaling("linear", 2.0),
        RopeScaling("ntk", 4.0),
        RopeScaling("yarn", 4.0, 8),
        RopeScaling("llama3", 8.0, 16),
    ]
)
experts = st.builds(
    Experts,
    count=st.sampled_from([3, 5]),
    active=st.integers(1, 3),
    shared=st.integers(0, 1),
    width=st.sampled_from([None, 8]),
    router=st.sampled_from(["softmax", "sigmoid"]),
    renormalize=st.booleans(),
    balance=st.sampled_from([0.0, 0.5]),
    z_loss=st.sampled_from([0.0, 0.5]),
)
latents = st.builds(
    Latent,
    rank=st.just(6),
    rope_width=st.just(2),
    query_rank=st.sampled_from([None, 5]),
)


@st.composite
def shapes(draw) -> ModelConfig:
    """Any possible combination of options, in three small layers."""

    def one_of(*values):
        return draw(st.sampled_from(values))

    fields = {
        "positions": one_of("rotary", "learned", "sinusoidal", "none"),
        "head_dim": one_of(None, 6),
        "window": one_of(None, 1, 4),
        "attention_softcap": one_of(None, 3.0),
        "attention_scale": one_of(None, 0.3),
        "logit_softcap": one_of(None, 5.0),
        "norm": one_of("rmsnorm", "layernorm"),
        "post_norm": one_of(False, True),
        "mlp": one_of("swiglu", "geglu", "gelu", "gelu_tanh", "relu2"),
        "experts": draw(st.none() | experts),
        "bias": one_of(False, True),
        "tie_embeddings": one_of(False, True),
        "scale_embeddings": one_of(False, True),
    }
    if fields["window"]:
        fields["attention_pattern"] = one_of(None, "wwf", "fw")
    if fields["experts"]:
        fields["mlp_pattern"] = one_of(None, "deb", "eb")
    if fields["positions"] == "rotary":
        fields["rope_scaling"] = draw(scalings)
    if fields["positions"] == "rotary" and one_of(False, True):
        fields["latent"] = draw(latents)
    else:
        fields["n_kv_heads"] = one_of(None, 1, 2)
        fields["qk_norm"] = one_of(False, True)
        fields["qkv_bias"] = one_of(None, False, True)
        fields["sinks"] = one_of(0, 1, 3) if fields["window"] else 0
        fields["rope_fraction"] = 0.67 if fields["head_dim"] else one_of(1.0, 0.5)
    return ModelConfig(
        vocab_size=VOCABULARY,
        max_seq_len=LENGTH,
        d_model=16,
        n_layers=3,
        n_heads=4,
        **fields,
    )


def model_of(config: ModelConfig, seed: int) -> Decoder:
    model = Decoder(config).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model.eval()


def tokens_of(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, shape, generator=generator)


@many
@given(shapes(), seeds, st.integers(0, LENGTH - 1), st.booleans(), st.booleans())
@torch.no_grad()
def test_a_future_token_changes_nothing_before_it(
    config, seed, place, training, explicit
):
    model, tokens = model_of(config, seed).train(training), tokens_of(seed, 2, LENGTH)
    positions = torch.arange(LENGTH).expand(2, LENGTH) if explicit else None
    changed = tokens.clone()
    changed[:, place] = (changed[:, place] + 1) % VOCABULARY
    before, after = (model(t, positions).logits for t in (tokens, changed))
    # Experts sort tokens anew, and sums of other lengths round differently
    torch.testing.assert_close(
        after[:, :place], before[:, :place], rtol=0, atol=1e-12 if config.experts else 0
    )
    assert not torch.equal(before[:, place], after[:, place])


@settings(many, max_examples=60)
@given(shapes(), seeds, st.sets(st.integers(1, LENGTH - 1), max_size=3))
def test_a_packed_row_is_its_documents_apart(config, seed, cuts):
    """Log-probabilities and gradients alike; each document counts from 0."""
    model, tokens = model_of(config, seed), tokens_of(seed, 1, LENGTH)
    edges = [0, *sorted(cuts), LENGTH]
    sizes = [b - a for a, b in pairwise(edges)]
    positions = torch.cat([torch.arange(size) for size in sizes])[None]
    documents = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    packed = model(tokens, positions, targets=tokens, documents=documents[None])
    results = [(packed.logprobs, gradients(model, packed.logprobs))]
    apart = [model(part, targets=part).logprobs for part in tokens.split(sizes, 1)]
    results.append((torch.cat(apart, 1), gradients(model, torch.cat(apart, 1))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def gradients(model: Decoder, logprobs: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    logprobs.sum().backward()
    return [torch.zeros(()) if p.grad is None else p.grad for p in model.parameters()]


@settings(many, max_examples=40)
@given(shapes(), seeds)
def test_computing_layers_twice_changes_no_bit(config, seed):
    """Dropout draws the same, and routers ask for the same, in fp32."""
    model = model_of(config, seed).float().train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
        if hasattr(module, "softcap"):
            module.dropout = 0.2
    tokens, results = tokens_of(seed, 2, LENGTH), []
    for model.checkpoint_layers in (False, True):
        torch.manual_seed(seed)
        model.zero_grad()
        output = model(tokens, targets=tokens)
        loss = -output.logprobs.sum()
        if output.router_loss is not None:
            loss = loss + output.router_loss.sum()
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    for one, other in zip(*results, strict=True):
        assert one is other is None or torch.equal(one, other)


@pytest.mark.parametrize("experts", [None, Experts(4, 2)])
def test_layers_computed_twice_keep_only_what_enters_them(experts):
    config = ModelConfig(
        vocab_size=VOCABULARY, d_model=32, n_layers=6, n_heads=4, experts=experts
    )
    model, tokens = Decoder(config).train(), tokens_of(0, 2, 64)
    held = {}
    for model.checkpoint_layers in (False, True):
        sizes = {}

        def keep(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(tokens, targets=tokens)
        held[model.checkpoint_layers] = sum(sizes.values())
        output.logprobs.sum().backward()
    parameters = sum(p.numel() for p in model.parameters())
    entering = 6 * 2 * 64 * 32  # L B T D
    assert held[True] < parameters + 3 * entering
    assert held[False] > held[True] + 8 * entering
    assert not any(p.grad is None for p in model.parameters())


def test_evaluating_and_decoding_are_never_computed_twice():
    model = Decoder(ModelConfig(vocab_size=VOCABULARY, d_model=16)).eval()
    model.checkpoint_layers, calls = True, []
    for block in model.blocks:
        block.register_forward_hook(lambda *event: calls.append(1))
    model(tokens_of(0, 1, 5)).logits.sum().backward()
    assert len(calls) == 4
