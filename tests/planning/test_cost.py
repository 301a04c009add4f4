"""Operations, hours and money against trainings that others have told of."""

import pytest

from folio.config import UserError
from folio.model.config import llama_like
from folio.planning.cost import Machine, cost, training_flops
from folio.planning.memory import Sharding
from folio.planning.plan import fsdp
from folio.planning.work import Work

A100 = Machine(memory=80e9, flops=312e12, mfu=0.5)
LLAMA = {  # Touvron et al. 2023, tables 2 and 15: tokens, A100 hours
    7: (1e12, 82_432, {"d_model": 4096, "n_heads": 32, "n_layers": 32, "d_ff": 11_008}),
    13: (1e12, 135_168, {"d_model": 5120, "n_heads": 40, "n_layers": 40}),
    65: (1.4e12, 1_022_362, {"d_model": 8192, "n_heads": 64, "n_layers": 80}),
}
LLAMA[13][2]["d_ff"], LLAMA[65][2]["d_ff"] = 13_824, 22_016
TINY = llama_like(vocab_size=512, d_model=64, n_layers=2, n_heads=4, max_seq_len=64)


def test_gpt_3():
    """Brown et al. 2020, table D.1: 174.6 B parameters, 300 B tokens, 3.14e23."""
    assert training_flops(174.6e9, 300e9) == pytest.approx(3.14e23, rel=2e-3)


def test_chinchilla_has_gophers_budget():
    """Hoffmann et al. 2022, table 1 and section 4: 70 B on 1.4 T, about 5.76e23."""
    assert training_flops(70e9, 1.4e12) == pytest.approx(5.76e23, rel=0.03)


@pytest.mark.parametrize("size", LLAMA)
def test_the_hours_of_llama(size):
    """At half of an A100's peak our hours are theirs, within 15 %."""
    tokens, hours, shape = LLAMA[size]
    config = llama_like(vocab_size=32_000, max_seq_len=2048, **shape)
    spent = cost(config, Work(1, 2048, "bf16"), fsdp(2048), A100, tokens=tokens)
    assert spent.device_hours == pytest.approx(hours, rel=0.15)
    assert spent.tokens == pytest.approx(tokens, rel=1e-3)


def test_time_and_money_by_hand():
    machine = Machine(1e9, flops=1e12, mfu=0.5, bandwidth=1e9, price=2.0)
    work = Work(2, 64, accumulate=3)
    spent = cost(TINY, work, Sharding("DDP", copies=4), machine, steps=1000)
    per_step = 2 * 64 * 3 * 4
    assert spent.tokens == 1000 * per_step
    assert spent.compute == pytest.approx(spent.flops / 1000 / 4 / 0.5e12)
    assert spent.step == max(spent.compute, spent.data)
    assert spent.money == pytest.approx(2.0 * 4 * 1000 * spent.step / 3600)


def test_what_is_computed_again_costs_a_third_more():
    work = Work(2, 64)
    once = cost(TINY, work, Sharding(""), A100, steps=10)
    again = cost(
        TINY, Work(2, 64, checkpoint_layers=True), Sharding(""), A100, steps=10
    )
    assert again.compute == pytest.approx(4 / 3 * once.compute)
    assert again.flops == once.flops
    assert once.money is None


def test_activations_are_waited_for_and_gradients_are_not():
    slow = Machine(1e9, flops=1e9, mfu=1.0, bandwidth=1e6)
    work = Work(2, 64)
    cut = cost(TINY, work, Sharding("tensor 2", tensor=2), slow, steps=1)
    copied = cost(TINY, work, Sharding("DDP", copies=2), slow, steps=1)
    assert cut.step == cut.compute + cut.tensor
    assert cut.tensor > 0
    assert copied.step == max(copied.compute, copied.data)
    assert copied.tensor == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"memory": 0}, "--memory = 0"),
        ({"flops": -1}, "--tflops = -1"),
        ({"mfu": 1.5}, "--mfu = 1.5"),
        ({"bandwidth": 0}, "--bandwidth = 0"),
        ({"price": float("nan")}, "--price = nan"),
    ],
)
def test_impossible_machines_are_named(values, words):
    with pytest.raises(UserError, match=words):
        Machine(**{"memory": 1e9, "flops": 1e12} | values)
