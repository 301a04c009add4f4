"""Positions: sines, tables and turned pairs, each against its defining property."""

import copy
import math

import pytest
import torch

from folio.model.config import ModelConfig, RopeScaling
from folio.model.positions import (
    LearnedPositions,
    Rotary,
    SinusoidalPositions,
    make_positions,
    rotary_frequencies,
    rotary_magnitude,
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
    slow, fast = (angles(torch.tensor([[3]]), 8, t)[0] for t in (1e6, 10.0))  # cosines
    assert slow[0, 0, 0, 1] > fast[0, 0, 0, 1] + 0.1


@pytest.mark.parametrize(("fraction", "width"), [(0.25, 4), (0.65, 10), (1.0, 16)])
def test_partial_rotation_turns_the_first_numbers_and_leaves_the_rest(fraction, width):
    config = ModelConfig(head_dim=16, rope_fraction=fraction)
    assert config.rotary_width == width
    x = torch.randn(1, 2, 5, 16, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(5)[None]
    turned = rotate(x, Rotary(config)(positions))
    alone = rotate(x[..., :width], angles(positions, width, 10_000.0))
    assert torch.equal(turned[..., :width], alone)
    assert torch.equal(turned[..., width:], x[..., width:])


# ---- reaching further ----------------------------------------------------------------

WIDTH, THETA, TRAINED = 64, 10_000.0, 2048


def scaled(kind: str, factor: float = 8.0, **more) -> tuple[list[float], float]:
    """(frequencies, magnitude) of a head of 64 trained on 2,048 tokens."""
    scaling = RopeScaling(kind, factor, TRAINED, **more)
    config = ModelConfig(head_dim=WIDTH, rope_theta=THETA, rope_scaling=scaling)
    return rotary_frequencies(config).tolist(), rotary_magnitude(config)


def plain() -> list[float]:
    return [THETA ** (-2 * i / WIDTH) for i in range(WIDTH // 2)]


def test_linear_scaling_divides_positions():
    """Chen et al. 2023, equation 4: f(x, m L / L')."""
    frequencies, magnitude = scaled("linear")
    assert frequencies == pytest.approx([f / 8 for f in plain()])
    assert magnitude == 1


def test_ntk_scaling_keeps_the_fastest_pair_and_slows_the_slowest_whole():
    """b' = b s^(d / (d - 2)), in Peng et al. 2023, definition 1."""
    frequencies, magnitude = scaled("ntk")
    base = THETA * 8 ** (WIDTH / (WIDTH - 2))
    wanted = [base ** (-2 * i / WIDTH) for i in range(WIDTH // 2)]
    assert frequencies == pytest.approx(wanted)
    assert frequencies[0] == 1
    assert frequencies[-1] == pytest.approx(plain()[-1] / 8)
    assert magnitude == 1


@pytest.mark.parametrize(("low", "high"), [(1.0, None), (2.0, 20.0)])
def test_yarn_is_the_papers_ramp(low, high):
    """Peng et al. 2023, section 3.2; the ramp runs over the number of the pair, and
    its ends are rounded outward, as in the authors' code."""
    more = {"low": low} | ({} if high is None else {"high": high})
    frequencies, magnitude = scaled("yarn", **more)

    def pair_that_turns(times: float) -> float:
        # L f / (2 pi) = times, for f = theta^(-2 i / d), solved for i
        return WIDTH * math.log(TRAINED / (times * 2 * math.pi)) / (2 * math.log(THETA))

    first = math.floor(pair_that_turns(high or 32.0))
    last = math.ceil(pair_that_turns(low))
    for i, (found, f) in enumerate(zip(frequencies, plain(), strict=True)):
        slowed = min(max((i - first) / (last - first), 0.0), 1.0)
        assert found == pytest.approx((1 - slowed) * f + slowed * f / 8)
    assert frequencies[0] == 1
    assert frequencies[-1] == pytest.approx(plain()[-1] / 8)
    assert magnitude == pytest.approx(0.1 * math.log(8) + 1)  # equation 22
    assert scaled("yarn", magnitude=1.5)[1] == 1.5


def test_llama3_scaling_is_the_releases_rule():
    """Wavelengths above L / low whole, below L / high not, in between smoothly."""
    frequencies, magnitude = scaled("llama3", low=1.0, high=4.0)
    kinds = set()
    for found, f in zip(frequencies, plain(), strict=True):
        wavelength = 2 * math.pi / f
        if wavelength > TRAINED / 1.0:
            kind, wanted = "whole", f / 8
        elif wavelength < TRAINED / 4.0:
            kind, wanted = "not", f
        else:
            smooth = (TRAINED / wavelength - 1.0) / (4.0 - 1.0)
            kind, wanted = "between", (1 - smooth) * f / 8 + smooth * f
        kinds.add(kind)
        assert found == pytest.approx(wanted)
    assert kinds == {"whole", "not", "between"}
    assert magnitude == 1


def test_the_magnitude_multiplies_what_is_turned():
    scaling = RopeScaling("yarn", 4.0, 64, magnitude=1.25)
    config = ModelConfig(head_dim=8, rope_scaling=scaling)
    x, positions = torch.randn(1, 1, 6, 8), torch.arange(6)[None]
    turned = rotate(x, Rotary(config)(positions))
    assert torch.allclose(turned.norm(dim=-1), 1.25 * x.norm(dim=-1))


@pytest.mark.parametrize("how", ["bf16", "half", "double", "meta", "deepcopy"])
def test_frequencies_are_exact_whatever_happens_to_the_model(how):
    scaling = RopeScaling("llama3", 8.0, 64)
    config = ModelConfig(head_dim=WIDTH, rope_scaling=scaling)
    exact = rotary_frequencies(config)
    if how == "meta":
        with torch.device("meta"):
            rotary = Rotary(config)
        assert rotary.frequencies.is_meta
        rotary = rotary.to_empty(device="cpu")
    elif how == "deepcopy":
        rotary = copy.deepcopy(Rotary(config).bfloat16())
    else:
        dtype = {"bf16": torch.bfloat16, "half": torch.half, "double": torch.double}
        rotary = Rotary(config).to(dtype[how])
    assert rotary.frequencies.dtype == torch.float32
    assert torch.equal(rotary.frequencies, exact)
    assert list(rotary.state_dict()) == []
    far = rotary(torch.tensor([[4095]]))[0]  # in bf16 it would be at 4096
    assert torch.equal(far, Rotary(config)(torch.tensor([[4095]]))[0])


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
