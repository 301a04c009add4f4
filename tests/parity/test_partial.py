"""Partial rotation, which no family of ours has, against GPT-NeoX.

The table is made here: a family is data, and its heads' query, key and value lie
interleaved, as none of ours do.
"""

import pytest
import torch
import transformers

from folio.hub.names import Change, Row, Table, to_ours, to_theirs
from folio.model.config import ModelConfig, RopeScaling
from folio.model.decoder import Decoder
from parity.cases import LENGTH, NO_TOKENS, VOCAB
from parity.reference import exact_softmax, in_fp64, some_tokens

LAYER, OURS = "gpt_neox.layers.{layer}", "blocks.{layer}"


def interleaved(heads: int) -> Change:
    """One tensor (H 3 K, ...) of theirs is three (H K, ...) of ours."""

    def split(theirs):
        parts = theirs[0].unflatten(0, (heads, 3, -1)).unbind(1)
        return [part.flatten(0, 1) for part in parts]

    def join(ours):
        parts = [part.unflatten(0, (heads, -1)) for part in ours]
        return [torch.stack(parts, 1).flatten(0, 2)]

    return Change(split, join)


def table(heads: int) -> Table:
    names = {
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "mlp_norm",
        "attention.dense": "attention.out",
        "mlp.dense_h_to_4h": "mlp.up",
        "mlp.dense_4h_to_h": "mlp.down",
    }
    rows = [
        Row("gpt_neox.embed_in.weight", "embedding.weight"),
        Row("gpt_neox.final_layer_norm.weight", "norm.gain"),
        Row("gpt_neox.final_layer_norm.bias", "norm.bias"),
        Row("lm_head.weight", "head.weight"),
    ]
    for part in ("weight", "bias"):
        three = tuple(f"{OURS}.attention.{n}.{part}" for n in ("query", "key", "value"))
        rows.append(
            Row(f"{LAYER}.attention.query_key_value.{part}", three, interleaved(heads))
        )
        for theirs, ours in names.items():
            ours_part = "gain" if "norm" in ours and part == "weight" else part
            rows.append(Row(f"{LAYER}.{theirs}.{part}", f"{OURS}.{ours}.{ours_part}"))
    return Table(tuple(rows), "gpt_neox.")


@pytest.mark.parametrize(
    ("fraction", "act", "scaling"),
    [
        (0.25, "gelu", None),
        (0.5, "relu2", None),
        (0.75, "gelu", 3.0),
        (1.0, "gelu", None),
    ],
)
@torch.no_grad()
def test_logits(fraction, act, scaling):
    rope = {
        "rope_type": "linear" if scaling else "default",
        "rope_theta": 500.0,
        "partial_rotary_factor": fraction,
    }
    their_config = transformers.GPTNeoXConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        hidden_act=act,
        max_position_embeddings=LENGTH,
        use_parallel_residual=False,
        rope_parameters=rope | ({"factor": scaling} if scaling else {}),
        attn_implementation="eager",
        **NO_TOKENS,
    )
    theirs = transformers.GPTNeoXForCausalLM(their_config).eval()
    generator = torch.Generator().manual_seed(3)
    for parameter in theirs.parameters():
        parameter.normal_(std=0.5, generator=generator)
    config = ModelConfig(
        vocab_size=VOCAB,
        max_seq_len=LENGTH,
        d_model=32,
        n_layers=2,
        n_heads=4,
        d_ff=24,
        rope_theta=500.0,
        rope_fraction=fraction,
        rope_scaling=RopeScaling("linear", scaling) if scaling else None,
        norm="layernorm",
        mlp=act,
        bias=True,
        tie_embeddings=False,
    )
    names, source = table(heads=4), theirs.state_dict()
    weights = dict(to_ours(names, config, source))
    ours = Decoder(config).eval()
    ours.load_state_dict(weights)
    tokens = some_tokens()
    assert (ours(tokens).logits - theirs(tokens).logits).abs().max() < 1e-4
    with exact_softmax():
        wanted = in_fp64(theirs)(tokens).logits
    assert wanted.std() > 0.4
    assert (ours.double()(tokens).logits - wanted).abs().max() < 1e-6
    back = to_theirs(names, config, weights)
    assert back.keys() == source.keys()
    assert all(torch.equal(back[name], source[name]) for name in source)
