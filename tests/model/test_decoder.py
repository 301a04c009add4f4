"""The decoder: causal, blind to padding, sound in half precision."""

import pytest
import torch
import torch.nn.functional as F

from folio.config import UserError
from folio.infer.cache import full_caches
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
    cache = full_caches(model.config, 2, 10, dtype=dtype)
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
        model(some_tokens(1, 3), cache=full_caches(model.config, 1, 12))


@pytest.mark.parametrize("kind", POSITIONS)
def test_attention_maps_are_patterns_over_the_past(kind):
    model = model_of(positions=kind)
    maps = model.attention_maps(some_tokens(2, 7))
    assert maps.shape == (2, 2, 4, 7, 7)  # layers, B, H, T, T
    assert torch.allclose(maps.sum(-1), torch.ones(2, 2, 4, 7), atol=1e-5)
    assert maps.triu(1).abs().max() == 0
    assert maps.requires_grad is False


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
