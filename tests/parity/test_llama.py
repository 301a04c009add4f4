"""A decoder of Llama's parts computes what transformers' Llama computes."""

import pytest
import torch
import transformers
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from folio.infer.generate import generate
from folio.infer.sampling import GREEDY
from folio.model.config import llama_like
from folio.model.decoder import Decoder

# theirs -> ours, for layer {i}
LAYER = {
    "input_layernorm.weight": "attention_norm.gain",
    "self_attn.q_proj.weight": "attention.query.weight",
    "self_attn.k_proj.weight": "attention.key.weight",
    "self_attn.v_proj.weight": "attention.value.weight",
    "self_attn.o_proj.weight": "attention.out.weight",
    "post_attention_layernorm.weight": "mlp_norm.gain",
    "mlp.gate_proj.weight": "mlp.gate.weight",
    "mlp.up_proj.weight": "mlp.up.weight",
    "mlp.down_proj.weight": "mlp.down.weight",
}


def their_model(layers, heads, kv_heads, width, tied, theta, eps):
    config = transformers.LlamaConfig(
        vocab_size=41,
        max_position_embeddings=64,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        rms_norm_eps=eps,
        tie_word_embeddings=tied,
        attn_implementation="sdpa",
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # gains too
            parameter.normal_(std=0.6, generator=generator)
    return model


def our_model(theirs, theta: float) -> Decoder:
    """The same weights under our names."""
    config = theirs.config
    model = Decoder(
        llama_like(
            vocab_size=config.vocab_size,
            max_seq_len=config.max_position_embeddings,
            d_model=config.hidden_size,
            n_layers=config.num_hidden_layers,
            n_heads=config.num_attention_heads,
            n_kv_heads=config.num_key_value_heads,
            d_ff=config.intermediate_size,
            rope_theta=theta,
            norm_eps=config.rms_norm_eps,
            tie_embeddings=config.tie_word_embeddings,
        )
    )
    source = theirs.state_dict()
    table = {
        "embedding.weight": source["model.embed_tokens.weight"],
        "norm.gain": source["model.norm.weight"],
        "head.weight": source["lm_head.weight"],
    }
    for i in range(config.num_hidden_layers):
        for their, our in LAYER.items():
            table[f"blocks.{i}.{our}"] = source[f"model.layers.{i}.{their}"]
    model.load_state_dict(table)
    return model.eval()


def in_fp64(theirs):
    """Their model in fp64 throughout: their RMSNorm rounds to fp32 on the way."""
    theirs = theirs.double()
    for module in list(theirs.modules()):
        for name, child in module.named_children():
            if isinstance(child, LlamaRMSNorm):
                norm = nn.RMSNorm(child.weight.shape, eps=child.variance_epsilon)
                norm.weight = child.weight
                setattr(module, name, norm)
    return theirs


SHAPES = [
    # layers, heads, kv_heads, width, tied, theta, eps
    (1, 1, 1, 8, False, 10_000.0, 1e-5),
    (2, 4, 4, 16, False, 10_000.0, 1e-6),
    (2, 4, 2, 16, True, 10_000.0, 1e-5),
    (2, 4, 1, 32, False, 500_000.0, 1e-5),
    (3, 8, 2, 32, True, 100.0, 1e-2),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_logits(shape):
    theirs = their_model(*shape)
    ours = our_model(theirs, theta=shape[-2])
    tokens = torch.randint(41, (3, 50), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(50).expand(3, 50)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-6)):
        if dtype == torch.float64:
            theirs, ours = in_fp64(theirs), ours.double()
        wanted = theirs(tokens).logits
        assert wanted.std() > 0.4
        for found in (ours(tokens), ours(tokens, positions)):
            assert (found.logits - wanted).abs().max() < tolerance


@torch.no_grad()
def test_padding_in_front_is_as_invisible_to_us_as_to_them():
    theirs = their_model(*SHAPES[2])
    ours = our_model(theirs, theta=10_000.0)
    tokens = torch.randint(41, (2, 9), generator=torch.Generator().manual_seed(1))
    positions = torch.tensor([[-1, -1, -1, *range(6)], [*range(9)]])
    wanted = theirs(
        tokens,
        attention_mask=(positions >= 0).long(),
        position_ids=positions.clamp(min=0),
    ).logits
    found = ours(tokens, positions).logits
    assert (found - wanted)[positions >= 0].abs().max() < 1e-4


@torch.no_grad()
def test_greedy_text():
    theirs = their_model(*SHAPES[2])
    tokens = theirs.generate(
        torch.tensor([[1, 2, 3]]), do_sample=False, max_new_tokens=40
    )
    ours = generate(our_model(theirs, 10_000.0), [1, 2, 3], 40, sampling=GREEDY)
    assert list(ours) == tokens[0, 3:].tolist()
