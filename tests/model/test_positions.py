"""Positions: sines, tables and turned pairs, each against its defining property."""

import math

import pytest
import torch

from folio.model.config import ModelConfig
from folio.model.positions import (
    LearnedPositions,
    Rotary,
    SinusoidalPositions,
    make_positions,
    rotate,
    sinusoidal,
)


def test_sinusoidal_is_the_formula_of_the_paper():
    table = sinusoidal(torch.arange(20), 8)
    for position in (0, 1, 7, 19):
        for i in range(4):
            angle = position / 10_000 ** (2 * i / 8)
            assert table[position, 2 * i] == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[position, 2 * i + 1] == pytest.approx(
                math.cos(angle), abs=1e-5
            )


def angles(positions, width: int, theta: float):
    return Rotary(ModelConfig(head_dim=width, rope_theta=theta))(positions)


def test_rotating_is_multiplying_by_a_complex_number():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 8, generator=generator)
    positions = torch.tensor([[0, 1, 2, 3, 4], [7, 3, 9, 0, 100]])
    turned = rotate(x, angles(positions, 8, 50.0))
    pairs = torch.complex(x[..., :4], x[..., 4:])
    for i in range(4):
        angle = positions.float() / 50.0 ** (2 * i / 8)
        wanted = pairs[..., i] * torch.polar(torch.ones(()), angle)[:, None]
        assert torch.allclose(turned[..., i], wanted.real, atol=1e-5)
        assert torch.allclose(turned[..., i + 4], wanted.imag, atol=1e-5)


def test_rotation_keeps_lengths_and_sees_only_distances():
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=generator, dtype=torch.float64)

    def score(query_at: int, key_at: int) -> float:
        turned = [
            rotate(x, angles(torch.tensor([[at]]), 16, 10_000.0))
            for x, at in ((q, query_at), (k, key_at))
        ]
        assert turned[0].norm() == pytest.approx(q.norm().item(), rel=1e-6)
        return (turned[0] * turned[1]).sum().item()

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) == pytest.approx(score(5, 0), abs=1e-4)
    assert abs(score(9, 4) - score(9, 6)) > 1e-2


def test_theta_is_used():
    slow, fast = (angles(torch.tensor([[3]]), 8, t)[0] for t in (1e6, 10.0))
    assert slow[0, 0, 0, 1] > fast[0, 0, 0, 1] + 0.1


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("learned", LearnedPositions),
        ("sinusoidal", SinusoidalPositions),
        ("rotary", type(None)),
        ("none", type(None)),
    ],
)
def test_the_configuration_chooses_the_part(kind, part):
    assert type(make_positions(ModelConfig(positions=kind))) is part


def test_sinusoidal_positions_are_as_small_as_the_embeddings():
    part = SinusoidalPositions(ModelConfig(d_model=64))
    size = part(torch.arange(50)[None]).square().mean().sqrt().item()
    assert size == pytest.approx(0.02 / math.sqrt(2), rel=0.01)
    assert list(part.parameters()) == []
