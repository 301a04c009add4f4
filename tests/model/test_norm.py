"""Norms: written out, as modules, and as torch has them."""

import pytest
import torch
import torch.nn.functional as F

from folio.model.config import ModelConfig
from folio.model.norm import LayerNorm, RMSNorm, layer_norm, make_norm, rms_norm


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_layer_norm_written_out_is_the_module_and_torch(draw, with_bias, eps):
    x, gain = 3 * draw(4, 5, 16) + 2, draw(16)
    bias = draw(16) if with_bias else None
    module = LayerNorm(16, eps, with_bias).double()
    with torch.no_grad():
        module.gain.copy_(gain)
        if with_bias:
            module.bias.copy_(bias)
    written = layer_norm(x, gain, bias, eps)
    assert torch.allclose(written, F.layer_norm(x, (16,), gain, bias, eps), atol=1e-12)
    assert torch.allclose(written, module(x), atol=1e-12)


@pytest.mark.parametrize("eps", [1e-6, 0.3])
def test_rms_norm_written_out_is_the_module_and_torch(draw, eps):
    x, gain = 3 * draw(4, 5, 16) + 2, draw(16)
    module = RMSNorm(16, eps).double()
    with torch.no_grad():
        module.gain.copy_(gain)
    written = rms_norm(x, gain, eps)
    assert torch.allclose(written, F.rms_norm(x, (16,), gain, eps), atol=1e-12)
    assert torch.allclose(written, module(x), atol=1e-12)


def test_what_a_norm_ignores(draw):
    x, ones = draw(2, 8), torch.ones(8, dtype=torch.float64)
    layer, rms = (norm(x, ones, eps=0.0) for norm in (layer_norm, rms_norm))
    assert torch.allclose(layer_norm(x + 5, ones, eps=0.0), layer)
    assert torch.allclose(layer_norm(x * 7, ones, eps=0.0), layer)
    assert torch.allclose(rms_norm(x * 7, ones, eps=0.0), rms)
    assert not torch.allclose(rms_norm(x + 5, ones, eps=0.0), rms)


@pytest.mark.parametrize(
    ("norm", "bias", "names"),
    [
        ("rmsnorm", True, ["gain"]),
        ("layernorm", True, ["gain", "bias"]),
        ("layernorm", False, ["gain"]),
    ],
)
def test_the_configuration_chooses_the_norm(norm, bias, names):
    module = make_norm(ModelConfig(norm=norm, bias=bias, norm_eps=0.25))
    assert [name for name, _ in module.named_parameters()] == names
    assert module.eps == 0.25


def test_half_precision_does_not_overflow_in_the_square():
    x = torch.full((1, 8), 300.0, dtype=torch.float16)  # 300^2 is above fp16's 65,504
    assert RMSNorm(8, 1e-5).half()(x).tolist() == [[1.0] * 8]
