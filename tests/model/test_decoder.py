"""The decoder: causal, blind to padding, sound in half precision."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from folio.config import UserError
from folio.infer.cache import make_caches
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.heads import token_logprobs

POSITIONS = ("learned", "sinusoidal", "rotary", "none")


def model_of(seed: int = 0, **changes) -> Decoder:
    """A small decoder whose every parameter is random, gains and biases too."""
    fields = {
        "vocab_size": 13,
        "max_seq_len": 12,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
    }
    model = Decoder(ModelConfig(**(fields | changes)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model.eval()


def some_tokens(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randint(13, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("kind", POSITIONS)
def test_a_future_token_changes_nothing_before_it(kind, explicit, training):
    model = model_of(positions=kind).double().train(training)
    tokens = some_tokens(2, 10)
    positions = torch.arange(10).expand(2, 10) if explicit else None
    before = model(tokens, positions).logits
    for place in range(10):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % 13
        after = model(changed, positions).logits
        assert torch.equal(before[:, :place], after[:, :place])
        assert not torch.equal(before[:, place], after[:, place])


@pytest.mark.parametrize("kind", POSITIONS)
def test_no_gradient_flows_from_a_place_to_later_tokens(kind):
    model = model_of(positions=kind)
    vectors = {}

    def watch(module, inputs, output):
        output.retain_grad()
        vectors["embedded"] = output

    handle = model.embedding.register_forward_hook(watch)
    logits = model(some_tokens(1, 8)).logits
    handle.remove()
    logits[0, 4].square().sum().backward()
    sizes = vectors["embedded"].grad[0].abs().sum(-1)
    assert sizes[5:].max() == 0
    assert sizes[:5].min() > 0


@pytest.mark.parametrize("kind", POSITIONS)
def test_order_matters_where_there_are_positions(kind):
    model = model_of(positions=kind, n_layers=1).double()
    tokens = torch.tensor([[1, 2, 3, 4, 5], [3, 2, 1, 4, 5]])
    first, second = model(tokens).logits[:, -1]
    assert torch.allclose(first, second) == (kind == "none")


@pytest.mark.parametrize("mlp", ["gelu", "gelu_tanh", "swiglu"])
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_dropout_is_off_when_evaluating_and_on_when_training(norm, mlp):
    model = model_of(norm=norm, mlp=mlp, dropout=0.3)
    tokens = some_tokens(2, 8)
    assert torch.equal(model(tokens).logits, model(tokens).logits)
    model.train()
    assert not torch.equal(model(tokens).logits, model(tokens).logits)


def test_dropout_follows_the_embedding_and_both_parts_of_each_block():
    model, calls = model_of(dropout=0.3).train(), []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(some_tokens(2, 8))
    wanted = ["dropout", *["blocks.0.dropout"] * 2, *["blocks.1.dropout"] * 2]
    assert calls == wanted


@pytest.mark.parametrize("kind", POSITIONS)
def test_padding_is_never_seen_and_shifts_nobody(kind):
    model = model_of(positions=kind)
    text = some_tokens(1, 6)
    alone = model(text).logits
    for fill in (0, 7):
        padded = torch.full((1, 9), fill)
        padded[:, 3:] = text  # padding in front
        positions = torch.tensor([[-1, -1, -1, 0, 1, 2, 3, 4, 5]])
        assert torch.allclose(model(padded, positions).logits[:, 3:], alone, atol=1e-5)
        padded = torch.full((1, 9), fill)
        padded[:, :6] = text  # padding behind
        positions = torch.tensor([[0, 1, 2, 3, 4, 5, -1, -1, -1]])
        assert torch.allclose(model(padded, positions).logits[:, :6], alone, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", POSITIONS)
def test_a_row_of_padding_alone_stays_finite_and_alone(kind, dtype):
    model = model_of(positions=kind).to(dtype)
    tokens = some_tokens(2, 5)
    positions = torch.tensor([[-1] * 5, [0, 1, 2, 3, 4]])
    logits = model(tokens, positions).logits
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    alone = model(tokens[1:], positions[1:]).logits[0]
    rounding = 16 * torch.finfo(dtype).eps * alone.abs().max()
    assert (logits[1] - alone).abs().max() < rounding
    model.zero_grad()
    model(tokens, positions, targets=tokens).logprobs[1].sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", POSITIONS)
@torch.no_grad()
def test_half_precision_stays_near_full(kind, dtype):
    model = model_of(positions=kind)
    tokens = some_tokens(2, 10)
    wanted = model(tokens).logits
    model.to(dtype)
    cache = make_caches(model.config, 2, 10, dtype=dtype)
    positions = torch.arange(10).expand(2, 10)
    for logits in (
        model(tokens).logits,
        model(tokens, positions).logits,
        model(tokens, positions, cache).logits,
    ):
        assert logits.dtype == dtype
        assert (logits.float() - wanted).abs().max() < 0.05 * wanted.abs().max()


@pytest.mark.parametrize("kind", POSITIONS)
def test_autocast_keeps_log_probabilities_in_fp32(kind):
    model = model_of(positions=kind).train()
    tokens = some_tokens(2, 10)
    wanted = model(tokens, targets=tokens).logprobs
    with torch.autocast("cpu", torch.bfloat16):
        found = model(tokens, targets=tokens).logprobs
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 0.3
    found.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


def test_targets_give_the_log_probabilities_of_the_logits():
    model, tokens = model_of(), some_tokens(2, 10)
    output = model(tokens, targets=tokens)
    assert output.logits is None
    table = model(tokens).logits.log_softmax(-1)
    wanted = table.gather(-1, tokens[..., None]).squeeze(-1)
    assert torch.allclose(output.logprobs, wanted, atol=1e-5)


def test_log_probabilities_of_extreme_scores_are_finite():
    logits = torch.tensor([[[6e4, -6e4, 0.0]]], dtype=torch.float16)
    for target, wanted in ((0, 0.0), (1, -1.2e5)):
        found = token_logprobs(logits, torch.tensor([[target]]))
        assert found.item() == pytest.approx(wanted, rel=1e-3)


def test_tied_weights_learn_from_both_ends():
    tied, free = model_of(tie_embeddings=True), model_of(tie_embeddings=False)
    assert len(list(free.parameters())) == len(list(tied.parameters())) + 1
    tokens = some_tokens(1, 4)
    tied(tokens).logits.sum().backward()
    unused = [i for i in range(13) if i not in tokens[0].tolist()]
    assert tied.embedding.weight.grad[unused].abs().min() > 0  # as the head
    free(tokens).logits.sum().backward()
    assert free.embedding.weight.grad[unused].abs().max() == 0


def test_learned_positions_say_where_they_end():
    model = model_of(positions="learned")
    with pytest.raises(UserError, match=r"13 tokens.*max_seq_len = 12.*rotary"):
        model(some_tokens(1, 13))
    with pytest.raises(UserError, match=r"13 tokens.*max_seq_len = 12"):
        model.attention_maps(some_tokens(1, 13))
    for kind in ("sinusoidal", "rotary", "none"):
        assert model_of(positions=kind)(some_tokens(1, 13)).logits.shape == (1, 13, 13)


def test_a_cache_without_positions_is_refused():
    model = model_of()
    with pytest.raises(ValueError, match="positions"):
        model(some_tokens(1, 3), cache=make_caches(model.config, 1, 12))


def test_documents_and_a_cache_are_refused():
    model, positions = model_of(), torch.arange(3)[None]
    cache = make_caches(model.config, 1, 12)
    with pytest.raises(ValueError, match="can't have documents"):
        model(some_tokens(1, 3), positions, cache, documents=positions)


@torch.no_grad()
def test_one_token_costs_few_operations():
    """Decoding small models is a matter of how many operations are asked for."""

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            Counting.count += 1
            return function(*args, **(kwargs or {}))

    counts = {}
    for layers in (2, 4):
        model = model_of(n_layers=layers)
        cache = make_caches(model.config, 1, 12)
        positions = torch.arange(5)[None]
        model(some_tokens(1, 5), positions, cache)
        Counting.count = 0
        with Counting(), torch.inference_mode():
            model(some_tokens(1, 1), positions[:, :1] + 5, cache)
        counts[layers] = Counting.count
    assert (counts[4] - counts[2]) / 2 <= 50
    assert 2 * counts[2] - counts[4] <= 30  # outside the layers


@pytest.mark.parametrize("kind", POSITIONS)
def test_attention_maps_are_patterns_over_the_past(kind):
    model = model_of(positions=kind)
    maps = model.attention_maps(some_tokens(2, 7))
    assert maps.shape == (2, 2, 4, 7, 7)  # layers, B, H, T, T
    assert torch.allclose(maps.sum(-1), torch.ones(2, 2, 4, 7), atol=1e-5)
    assert maps.triu(1).abs().max() == 0
    assert maps.requires_grad is False


def test_soft_caps_keep_the_order_and_the_bounds():
    model = model_of(logit_softcap=0.8)
    free, tokens = model_of(), some_tokens(2, 10)
    capped, wanted = model(tokens).logits, free(tokens).logits
    assert wanted.abs().max() > 1
    assert capped.abs().max() < 0.8
    assert torch.allclose(capped, 0.8 * torch.tanh(wanted / 0.8), atol=1e-5)
    found = model(tokens, targets=tokens).logprobs
    assert torch.allclose(found, token_logprobs(capped, tokens), atol=1e-5)


def test_scaled_embeddings_are_larger_by_the_root_of_the_width():
    scaled, plain = model_of(scale_embeddings=True), model_of()
    tokens = some_tokens(1, 5)
    assert torch.equal(scaled.embed(tokens)[0], 4 * plain.embed(tokens)[0])
    low = scaled.bfloat16().embed(tokens)[0]
    assert low.dtype == torch.bfloat16


@pytest.mark.parametrize("mlp", ["relu2", "geglu"])
def test_gemma_like_parts_written_out(mlp):
    """Norms after both parts, wide heads, a scale, caps: by hand, as below."""
    model = model_of(
        n_layers=1,
        n_heads=1,
        n_kv_heads=1,
        head_dim=6,
        positions="none",
        mlp=mlp,
        post_norm=True,
        scale_embeddings=True,
        attention_scale=0.7,
        attention_softcap=2.0,
        logit_softcap=3.0,
    ).double()
    tokens, part = some_tokens(1, 5), model.blocks[0]

    def norm(x, module):
        return F.rms_norm(x, (16,), module.gain, 1e-5)

    x = 4 * model.embedding.weight[tokens[0]]
    h = norm(x, part.attention_norm)
    q, k, v = (
        h @ linear.weight.T
        for linear in (part.attention.query, part.attention.key, part.attention.value)
    )
    scores = 2 * (0.7 * q @ k.T / 2).tanh()
    scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    h = scores.softmax(-1) @ v @ part.attention.out.weight.T
    x = x + norm(h, part.attention_post_norm)
    h = norm(x, part.mlp_norm)
    up = h @ part.mlp.up.weight.T
    if mlp == "relu2":
        inner = up.clamp(min=0) ** 2
    else:
        inner = F.gelu(h @ part.mlp.gate.weight.T, approximate="tanh") * up
    x = x + norm(inner @ part.mlp.down.weight.T, part.mlp_post_norm)
    wanted = 3 * (norm(x, model.norm) @ model.embedding.weight.T / 3).tanh()
    assert torch.allclose(model(tokens).logits[0], wanted, atol=1e-10)


def test_the_model_is_the_sum_of_its_parts():
    """One layer, one head, written out with the weights in the hand."""
    model = model_of(
        n_layers=1, n_heads=1, n_kv_heads=1, positions="learned", mlp="gelu"
    ).double()
    tokens, part = some_tokens(1, 5), model.blocks[0]
    norm = {"normalized_shape": (16,), "eps": 1e-5}
    x = model.embedding.weight[tokens[0]] + model.positions.table.weight[:5]
    h = F.rms_norm(x, weight=part.attention_norm.gain, **norm)
    q, k, v = (
        h @ linear.weight.T
        for linear in (part.attention.query, part.attention.key, part.attention.value)
    )
    scores = (q @ k.T / 4).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    x = x + scores.softmax(-1) @ v @ part.attention.out.weight.T
    h = F.rms_norm(x, weight=part.mlp_norm.gain, **norm)
    up = F.gelu(h @ part.mlp.up.weight.T)
    x = x + up @ part.mlp.down.weight.T
    x = F.rms_norm(x, weight=model.norm.gain, **norm)
    wanted = x @ model.embedding.weight.T
    assert torch.allclose(model(tokens).logits[0], wanted, atol=1e-10)
