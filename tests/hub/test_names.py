"""Tables: both directions, exact inverses, and files that don't fit."""

import dataclasses

import pytest
import torch

from folio.config import UserError
from folio.hub.convert import FAMILIES, config_from_hf, tensors_from_hf, tensors_to_hf
from folio.hub.names import (
    ADD_ONE,
    SPLIT,
    STACK,
    TRANSPOSE,
    TRANSPOSE_SPLIT,
    their_shapes,
    to_ours,
)
from folio.model.decoder import Decoder

SIZES = {
    "model_type": "llama",
    "vocab_size": 11,
    "max_position_embeddings": 16,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 11,
    "n_positions": 16,
    "n_embd": 8,
    "n_layer": 2,
    "n_head": 2,
}
MOE = SIZES | {
    "model_type": "mixtral",
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
}


def files(values: dict) -> dict[str, torch.Tensor]:
    """Random tensors of the right names and shapes."""
    config, family = config_from_hf(values)
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator)
        for name, shape in their_shapes(family.table, config).items()
    }


def read(values: dict, source) -> dict[str, torch.Tensor]:
    config, family = config_from_hf(values)
    return tensors_from_hf(family, config, source)


@pytest.mark.parametrize(
    ("change", "shapes"),
    [
        (TRANSPOSE, [(3, 5)]),
        (SPLIT, [(6,)]),
        (TRANSPOSE_SPLIT, [(2, 6)]),
        (STACK, [(2, 3), (2, 3)]),
        (ADD_ONE, [(4,)]),
    ],
)
def test_changes_have_inverses(change, shapes):
    theirs = [torch.randn(shape).double() for shape in shapes]
    back = change.to_theirs(change.to_ours(theirs))
    assert [x.shape for x in back] == [x.shape for x in theirs]
    for found, wanted in zip(back, theirs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-15)


def test_changes_longhand():
    fused = torch.arange(12.0).view(2, 6)  # (inputs, outputs), as GPT-2 has it
    query, key, value = TRANSPOSE_SPLIT.to_ours([fused])
    assert query.tolist() == [[0, 6], [1, 7]]
    assert key.tolist() == [[2, 8], [3, 9]]
    assert value.tolist() == [[4, 10], [5, 11]]
    experts = STACK.to_ours([torch.zeros(2), torch.ones(2)])[0]
    assert experts.tolist() == [[0, 0], [1, 1]]


def test_adding_one_is_undone_bit_for_bit():
    """What came in once goes out and in again unchanged, whatever its size."""
    gains = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    gains *= 10 ** torch.linspace(-6, 3, len(gains))
    ours = ADD_ONE.to_ours([gains])
    assert torch.equal(ADD_ONE.to_ours(ADD_ONE.to_theirs(ours))[0], ours[0])
    assert ADD_ONE.to_ours([gains.bfloat16()])[0].dtype == torch.float32


def test_one_tensor_is_read_at_a_time():
    """Or one layer's stack of experts, so a large model is never in memory twice."""
    reads = []

    class Noting(dict):
        def get(self, name):
            reads.append(name)
            return super().get(name)

    config, family = config_from_hf(MOE)
    most = 0
    for _ in to_ours(family.table, config, Noting(files(MOE))):
        most = max(most, len(reads))
        reads.clear()
    assert most == config.experts.count


def test_in_another_dtype():
    config, family = config_from_hf(GPT2)
    exact = tensors_from_hf(family, config, files(GPT2))
    found = tensors_from_hf(family, config, files(GPT2), torch.bfloat16)
    assert found.keys() == exact.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, exact[name].bfloat16())
        assert tensor.is_contiguous()


def test_a_bare_model_has_no_prefix():
    """As the first published GPT-2 has it, with buffers of masks besides."""
    whole = files(GPT2)
    bare = {name.removeprefix("transformer."): x for name, x in whole.items()}
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 16, 16) for i in range(2)}
    found, wanted = read(GPT2, bare | masks), read(GPT2, whole)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_what_holds_nothing_learned_is_passed_over():
    """Old files of Llama have the frequencies of rotary positions in every layer."""
    name = "model.layers.1.self_attn.rotary_emb.inv_freq"
    whole = files(SIZES)
    found = read(SIZES, whole | {name: torch.ones(2)})
    assert found.keys() == read(SIZES, whole).keys()


def test_a_weight_without_a_row_is_not_lost_silently():
    config, family = config_from_hf(SIZES)
    model = Decoder(dataclasses.replace(config, qk_norm=True))
    with pytest.raises(AssertionError, match="query_norm"):
        tensors_to_hf(family, model)


def test_missing_and_unexpected_tensors_are_named():
    source = files(SIZES)
    weight = source.pop("model.layers.1.mlp.up_proj.weight")
    with pytest.raises(UserError, match=r"missing 'model.layers.1.mlp.up_proj.weight'"):
        read(SIZES, source)
    source["model.layers.1.mlp.up_proj.weights"] = weight
    with pytest.raises(UserError, match=r"unexpected '.*up_proj.weights'"):
        read(SIZES, source)


def test_a_bias_that_the_configuration_has_not_is_unexpected():
    source = files(SIZES) | {"model.layers.0.self_attn.q_proj.bias": torch.ones(8)}
    with pytest.raises(UserError, match=r"unexpected '.*q_proj.bias'"):
        read(SIZES, source)


@pytest.mark.parametrize(
    ("values", "name", "wrong"),
    [
        (SIZES, "model.embed_tokens.weight", torch.ones(12, 8)),
        (SIZES, "model.norm.weight", torch.ones(8, dtype=torch.int64)),
        (GPT2, "transformer.h.0.attn.c_attn.weight", torch.ones(8, 25)),
        (GPT2, "transformer.h.0.attn.c_proj.weight", torch.ones(8)),
        (MOE, "model.layers.1.block_sparse_moe.experts.2.w1.weight", torch.ones(8, 12)),
    ],
)
def test_misshapen_tensors_are_named(values, name, wrong):
    with pytest.raises(UserError, match=name.replace(".", r"\.") + ".*is .* of "):
        read(values, files(values) | {name: wrong})


def test_a_copy_of_a_tied_head_must_be_one():
    tied = SIZES | {"tie_word_embeddings": True}
    source = files(tied)
    assert "lm_head.weight" not in source
    copy = source["model.embed_tokens.weight"].clone()
    assert "head.weight" not in read(tied, source | {"lm_head.weight": copy})
    with pytest.raises(UserError, match="tie_word_embeddings"):
        read(tied, source | {"lm_head.weight": copy + 1})


def test_more_layers_than_tensors_cost_nothing():
    for values in (
        SIZES | {"num_hidden_layers": 9_999},
        MOE | {"num_local_experts": 10**6},
    ):
        with pytest.raises(UserError, match="but the files hold only"):
            read(values, {"model.norm.weight": torch.ones(8)})


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda f: f.name)
def test_no_name_stands_twice_in_a_table(family):
    theirs = [row.theirs for row in family.table.rows]
    ours = [
        name
        for row in family.table.rows
        for name in ([row.ours] if isinstance(row.ours, str) else row.ours)
    ]
    assert len(set(theirs)) == len(theirs)
    assert len(set(ours)) == len(ours)
