"""Reward models, critics, and policies with a critic."""

import pytest
import torch

from folio.config import UserError
from folio.model.config import Experts, ModelConfig
from folio.model.decoder import Decoder
from folio.model.lora import LoRA, add_lora
from folio.model.scorer import ActorCritic, Scorer, ScorerConfig
from folio.model.store import (
    load_model,
    load_scorer,
    load_tensors,
    model_tensors,
    save_model,
)

SHAPE = ModelConfig(vocab_size=17, max_seq_len=24, d_model=16, n_layers=2, n_heads=2)
KINDS = ("decoder", "encoder")


def made(kind="decoder", seed=0, shape=SHAPE, **more) -> Scorer:
    """A scorer whose head says something."""
    torch.manual_seed(seed)
    model = Scorer(Decoder(shape), ScorerConfig(kind, **more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def tokens_of(*shape: int, seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(17, shape, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_scorer_says_nothing_but_can_learn(kind):
    model = Scorer(Decoder(SHAPE), ScorerConfig(kind))
    values = model(tokens_of(2, 7)).values
    assert values.shape == (2, 7)
    assert not values.any()
    values.sum().backward()
    assert model.value_head.weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.parameters())  # no idle parts


def test_in_a_decoder_a_value_knows_only_what_came_before():
    model, tokens = made("decoder"), tokens_of(1, 9)
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 17
    before, after = model(tokens).values[0], model(changed).values[0]
    assert torch.equal(before[:5], after[:5])
    assert (before[5:] != after[5:]).all()


def test_in_an_encoder_every_token_sees_every_other():
    model, tokens = made("encoder"), tokens_of(1, 9)
    values = model(tokens).values[0]
    torch.testing.assert_close(values, values[:1].expand(9), rtol=0, atol=1e-6)
    for place in range(9):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % 17
        assert (model(changed).values[0] - values).abs().min() > 1e-6


def test_an_encoder_is_attention_to_all_and_a_mean_longhand():
    """One layer by hand: softmax over all keys, no mask."""
    shape = ModelConfig(
        vocab_size=17, d_model=16, n_layers=1, n_heads=2, positions="sinusoidal"
    )
    model, tokens = made("encoder", shape=shape).double(), tokens_of(1, 6)
    trunk, block = model.trunk, model.trunk.blocks[0]
    x = trunk.embedding(tokens) + trunk.positions(torch.arange(6)[None]).double()
    h, part = block.attention_norm(x), block.attention
    q, k, v = (
        f(h).view(1, 6, 2, 8).transpose(1, 2)
        for f in (part.query, part.key, part.value)
    )
    y = (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1) @ v
    x = x + part.out(y.transpose(1, 2).reshape(1, 6, 16))
    x = trunk.norm(x + block.mlp(block.mlp_norm(x)))
    wanted = model.value_head(x.mean(1))
    torch.testing.assert_close(model(tokens).values[:, 0], wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [None, 4])
def test_padding_and_neighbors_change_no_score(kind, window):
    shape = ModelConfig(vocab_size=17, d_model=16, n_layers=2, n_heads=2, window=window)
    model = made(kind, shape=shape)
    short, long = tokens_of(1, 5), tokens_of(1, 11, seed=1)
    both, positions = torch.zeros(2, 11, dtype=torch.long), torch.full((2, 11), -1)
    both[0, :5], both[1] = short, long
    positions[0, :5], positions[1] = torch.arange(5), torch.arange(11)
    values = model(both, positions).values
    for row, tokens in enumerate((short, long)):
        alone = model(tokens).values[0]
        torch.testing.assert_close(
            values[row, : len(alone)], alone, rtol=1e-5, atol=1e-6
        )


def test_documents_of_a_packed_row_stay_apart_in_an_encoder():
    model, tokens = made("encoder"), tokens_of(1, 9)
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    documents = torch.tensor([[0] * 4 + [1] * 5])
    values = model(tokens, positions, documents).values
    for part in (slice(0, 4), slice(4, 9)):
        alone = model(tokens[:, part]).values
        torch.testing.assert_close(values[:, part], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_stored_and_loaded_it_says_the_same(kind, tied, tmp_path):
    shape = ModelConfig(vocab_size=17, d_model=16, n_layers=1, tie_embeddings=tied)
    model = made(kind, shape=shape, mean=0.5, deviation=2.0)
    save_model(model, tmp_path)
    again = load_scorer(tmp_path)
    assert again.config == model.config
    assert torch.equal(again(tokens_of(2, 5)).values, model(tokens_of(2, 5)).values)
    with pytest.raises(UserError, match="reward model, which gives scores"):
        load_model(tmp_path)


def test_a_language_model_is_no_reward_model(tmp_path):
    save_model(Decoder(SHAPE), tmp_path)
    with pytest.raises(UserError, match="only a reward model has scores"):
        load_scorer(tmp_path)


@pytest.mark.parametrize("apart", [True, False])
def test_policy_and_critic_answer_as_each_alone(apart):
    torch.manual_seed(0)
    policy, critic = Decoder(SHAPE), made(seed=1) if apart else None
    model, tokens = ActorCritic(policy, critic).eval(), tokens_of(2, 8)
    where = tokens > 5
    output = model(tokens, targets=tokens, where=where, entropy=True)
    wanted = policy(tokens, targets=tokens, where=where, entropy=True)
    assert torch.equal(output.logprobs, wanted.logprobs)
    assert torch.equal(output.entropy, wanted.entropy)
    if apart:
        assert torch.equal(output.values, critic(tokens).values)
    else:
        assert not output.values.any()
        output.values.sum().backward()
        assert model.value_head.weight.grad.abs().sum() > 0


def test_the_losses_of_routers_of_both_are_added():
    shape = ModelConfig(vocab_size=17, d_model=16, n_layers=1, experts=Experts(4, 2))
    policy, critic = Decoder(shape).train(), Scorer(Decoder(shape)).train()
    model, tokens = ActorCritic(policy, critic), tokens_of(2, 8)
    both = model(tokens, targets=tokens).router_loss
    one, other = policy(tokens).router_loss, critic(tokens).router_loss
    torch.testing.assert_close(both, one + other)


@pytest.mark.parametrize("lora", [False, True])
def test_weights_of_policy_and_critic_go_out_and_in(lora):
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        policy, critic = Decoder(SHAPE), made(seed=seed)
        if lora:
            add_lora(policy, LoRA(rank=2, targets=("query",)))
        models.append(ActorCritic(policy, critic))
    tensors = model_tensors(models[0])
    assert any(name.startswith("policy.blocks.0.") for name in tensors)
    assert "critic.value_head.weight" in tensors
    load_tensors(models[1], tensors)
    again = model_tensors(models[1])
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    with pytest.raises(UserError, match="unexpected"):
        load_tensors(models[1], tensors | {"policy.extra": torch.zeros(1)})


def test_a_critic_that_looks_ahead_is_refused():
    with pytest.raises(UserError, match=r"critic.kind = 'encoder'"):
        ActorCritic(Decoder(SHAPE), made("encoder"))


def test_an_encoder_has_no_cache():
    from folio.infer.cache import make_caches

    model = made("encoder")
    caches = make_caches(SHAPE, 1, 8, "cpu", torch.float32)
    with pytest.raises(ValueError, match="encoder reads whole texts"):
        model.trunk.hidden(tokens_of(1, 3), torch.arange(3)[None], caches)
