"""Weights in 8 and 4 bits: exact formulas, bounded errors, and back from disk."""

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from folio.config import UserError
from folio.model.config import Experts
from folio.model.quantize import (
    Int4Linear,
    Int8Linear,
    Quantization,
    from_int4,
    from_int8,
    pack,
    quantization_of,
    quantize,
    to_int4,
    to_int8,
    unpack,
)
from folio.model.store import load_model, save_model
from helpers import tiny_model

SHAPE = {"d_model": 64, "n_heads": 4, "d_ff": 96}
often = settings(derandomize=True, deadline=None, database=None, max_examples=40)


def matrix(seed: int, rows: int = 5, width: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = 10.0 ** torch.randint(-4, 3, (rows, 1), generator=generator)
    return torch.randn(rows, width, generator=generator) * sizes


@often
@given(seed=st.integers(0, 10**6))
def test_int8_is_within_half_a_step_row_by_row(seed):
    weight = matrix(seed)
    codes, scale = to_int8(weight)
    for row, numbers in enumerate(weight.tolist()):
        step = max(abs(number) for number in numbers) / 127
        assert scale[row].item() == pytest.approx(step, rel=1e-6)
        for code, number in zip(codes[row].tolist(), numbers, strict=True):
            assert abs(code * step - number) <= 0.5001 * step
    assert codes.abs().amax(1).tolist() == [127] * 5
    assert torch.equal(from_int8(codes, scale), codes.float() * scale[:, None])


@often
@given(seed=st.integers(0, 10**6), group=st.sampled_from([32, 64]))
def test_int4_is_within_half_a_step_group_by_group(seed, group):
    weight = matrix(seed) + 0.3
    codes, scale, middle = to_int4(weight, group)
    restored = from_int4(codes, scale, middle)
    for row in range(len(weight)):
        for start in range(0, weight.shape[1], group):
            true = weight[row, start : start + group]
            step = (true.max() - true.min()).item() / 15
            error = (restored[row, start : start + group] - true).abs().max().item()
            # half a step, and what scale and middle lose in bf16
            slack = 2**-8 * (true.abs().max().item() + 15 * step)
            assert error <= 0.5 * step + slack
    assert int(codes.min()) >= 0
    assert int(codes.max()) <= 15


def test_a_code_of_4_bits_is_the_nearest_to_what_scale_and_middle_are_kept_as():
    weight = matrix(3, rows=20) + 0.3
    codes, scale, middle = to_int4(weight, 32)
    error = (from_int4(codes, scale, middle) - weight).abs()
    for change in (-1, 1):
        others = (codes.int() + change).clamp(0, 15)
        other_error = (from_int4(others, scale, middle) - weight).abs()
        assert (error <= other_error * (1 + 1e-4) + 1e-9).all()


def test_weights_in_bf16_are_rounded_as_their_fp32_copies():
    weight = matrix(4).bfloat16()
    for found, expected in (
        (to_int8(weight), to_int8(weight.float())),
        (to_int4(weight, 32), to_int4(weight.float(), 32)),
    ):
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_four_bits_by_hand():
    codes = torch.tensor([[0, 15, 8, 9]], dtype=torch.uint8)
    scale = torch.tensor([[2.0, 0.5]]).bfloat16()
    middle = torch.tensor([[1.0, -1.0]]).bfloat16()
    assert from_int4(codes, scale, middle).tolist() == [[-15.0, 15.0, -1.0, -0.5]]


def test_rows_and_groups_of_one_number_are_kept():
    for number in (0.0, 0.25):
        weight = torch.full((2, 32), number)
        assert torch.allclose(from_int8(*to_int8(weight)), weight)
        assert torch.equal(from_int4(*to_int4(weight, 32)), weight)
        assert to_int4(weight, 32)[0].unique().tolist() == [8]


@often
@given(seed=st.integers(0, 10**6), half=st.integers(1, 9))
def test_two_codes_a_byte(seed, half):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 16, (3, 2 * half), generator=generator).to(torch.uint8)
    assert pack(codes).shape == (3, half)
    assert torch.equal(unpack(pack(codes)), codes)


@pytest.mark.parametrize("bias", [False, True])
def test_layers_multiply_by_their_restored_weights(bias):
    linear, x = nn.Linear(64, 7, bias=bias), torch.randn(3, 64)
    for empty in (
        Int8Linear(64, 7, bias),
        Int4Linear(64, 7, bias, 32),
        Int4Linear(64, 7, bias, 64),
    ):
        shapes = {name: part.shape for name, part in empty.state_dict().items()}
        layer = empty.fill(linear)
        assert {n: part.shape for n, part in layer.state_dict().items()} == shapes
        expected = F.linear(x, layer.restored(), linear.bias)
        assert torch.allclose(layer(x), expected)
        assert not torch.equal(layer.restored(), linear.weight)
        low = layer.bfloat16()(x.bfloat16())
        assert low.dtype == torch.bfloat16
        assert torch.allclose(low.float(), expected, atol=0.05)


@torch.no_grad()
def test_a_layer_keeps_nothing_of_the_one_it_was_made_from():
    for layer in (Int8Linear(64, 7, True), Int4Linear(64, 7, True, 32)):
        linear, x = nn.Linear(64, 7), torch.randn(3, 64)
        before = layer.fill(linear)(x)
        linear.weight.zero_()
        linear.bias.zero_()
        assert torch.equal(layer(x), before)


def test_8_bits_and_groups_of_32_unless_told():
    assert Quantization() == Quantization(8, 32)
    assert quantization_of(quantize(tiny_model(**SHAPE))) == Quantization(8, 32)
    assert quantization_of(tiny_model()) is None


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bits", [8, 4])
def test_which_layer_gets_which_bits(bits, tied):
    model = tiny_model(**SHAPE, dropout=0.5, tie_embeddings=tied).train()
    small = quantize(model, bits)
    kinds = {
        name: type(layer)
        for name, layer in small.named_modules()
        if isinstance(layer, (nn.Linear, Int8Linear, Int4Linear))
    }
    assert kinds.pop("head") is Int8Linear
    assert set(kinds.values()) == {Int8Linear if bits == 8 else Int4Linear}
    assert len(kinds) == 2 * (4 + 3)  # layers x (attention's and the MLP's)
    assert model.training
    assert not small.training
    assert not any(parameter.requires_grad for parameter in small.parameters())
    if not tied:
        assert torch.equal(small.embedding.weight, model.embedding.weight)


def test_a_bf16_model_stays_one():
    model = tiny_model(**SHAPE).eval().bfloat16()
    small = quantize(model)
    assert small.embedding.weight.dtype == torch.bfloat16
    tokens = torch.randint(0, 17, (2, 9))
    one, other = model(tokens).logits, small(tokens).logits
    assert (one - other).norm() / one.norm() < 0.05


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("bits", "group"), [(8, 32), (4, 32), (4, 64)])
def test_a_quantized_model_comes_back_from_disk(tmp_path, bits, group, tied):
    shape = SHAPE | {"d_ff": 128}
    model = tiny_model(**shape, tie_embeddings=tied, qkv_bias=True).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = quantize(model, bits, group)
    save_model(small, tmp_path)
    loaded = load_model(tmp_path)
    assert quantization_of(loaded) == Quantization(bits, group)
    tokens = torch.randint(0, 17, (2, 9))
    assert torch.equal(loaded(tokens).logits, small(tokens).logits)
    assert torch.equal(loaded.embedding.weight, small.embedding.weight)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])  # the one it was made from
    if tied:
        assert torch.equal(small.embedding.weight, small.head.restored())


@pytest.mark.parametrize(("bits", "most"), [(8, 0.02), (4, 0.3)])
def test_a_quantized_model_is_close_to_the_model(bits, most):
    model = tiny_model(**SHAPE).eval()
    tokens = torch.randint(0, 17, (2, 9))
    one, other = model(tokens).logits, quantize(model, bits)(tokens).logits
    error = (one - other).norm() / one.norm()
    assert 0 < error < most


def test_files_are_smaller(tmp_path):
    model = tiny_model(**SHAPE, n_layers=4)
    sizes = []
    for name, one in (("32", model), ("8", quantize(model)), ("4", quantize(model, 4))):
        save_model(one, tmp_path / name)
        sizes.append((tmp_path / name / "model.safetensors").stat().st_size)
    assert sizes[1] < 0.35 * sizes[0]
    assert sizes[2] < 0.25 * sizes[0]


@pytest.mark.parametrize(
    ("arguments", "changes", "words"),
    [
        ((3,), {}, "bits = 3: choose 8 or 4"),
        ((4, 48), {}, "group = 48: choose one of 32, 64"),
        ((4, 64), {}, "mlp.down is 96 wide, which is not divisible by group = 64"),
        ((8,), {"experts": {"count": 2}}, "has experts"),
    ],
)
def test_what_cannot_be_quantized(arguments, changes, words):
    if "experts" in changes:
        changes = {"experts": Experts(**changes["experts"])}
    with pytest.raises(UserError, match=words):
        quantize(tiny_model(**SHAPE | changes), *arguments)


def test_not_twice():
    with pytest.raises(UserError, match="8-bit weights already"):
        quantize(quantize(tiny_model(**SHAPE)), 4)


@pytest.mark.parametrize(
    ("value", "words"),
    [(5, "expected an object"), ({"bits": 5}, "bits = 5"), ({"bit": 8}, "unknown key")],
)
def test_a_damaged_config_is_one_line(tmp_path, value, words):
    save_model(quantize(tiny_model(**SHAPE)), tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text()) | {"quantization": value}
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=words):
        load_model(tmp_path)
