"""Bytes on the wire: rings, ZeRO's accounts, and Megatron's."""

from dataclasses import replace

import pytest

from folio.model.config import llama_like
from folio.model.count import count_parameters
from folio.planning.communication import all_gather, all_reduce, reduce_scatter, sent
from folio.planning.memory import Sharding
from folio.planning.plan import fsdp
from folio.planning.work import Work

CONFIG = llama_like(vocab_size=512, d_model=64, n_layers=3, n_heads=4, max_seq_len=64)
TOTAL = count_parameters(CONFIG)["total"]
WORK = Work(2, 64, accumulate=2)
N = 8


def ring(numbers, devices):
    """All-reduce as it is done: what the first of `devices` sends, part by part."""
    part = numbers / devices
    return part * (devices - 1) + part * (devices - 1)


def test_an_all_reduce_is_a_reduction_and_a_gather():
    assert all_reduce(1000.0, 4) == ring(1000.0, 4)
    assert all_reduce(7.0, 1) == 0
    assert reduce_scatter(1000.0, 4) + all_gather(1000.0, 4) == ring(1000.0, 4)


def test_zero_sends_what_ddp_sends_and_fsdp_half_as_much_more():
    """Rajbhandari et al. 2020, section 7: 2, 2, 2 and 3 times the parameters."""
    once = replace(WORK, accumulate=1)
    cuts = [
        Sharding("DDP", copies=N),
        Sharding("ZeRO-1", optimizer=N, copies=N),
        Sharding("ZeRO-2", gradients=N, optimizer=N, copies=N),
        fsdp(N),
    ]
    totals = [sum(sent(CONFIG, once, cut).values()) for cut in cuts]
    unit = 4 * TOTAL * (N - 1) / N
    assert [total / unit for total in totals] == pytest.approx([2, 2, 2, 3])


def test_what_micro_batches_add():
    """DDP waits for the last one; FSDP gathers for each, and sums once."""
    unit = 4 * TOTAL * (N - 1) / N
    assert sum(sent(CONFIG, WORK, Sharding("", copies=N)).values()) == 2 * unit
    assert sum(sent(CONFIG, WORK, fsdp(N)).values()) == pytest.approx(5 * unit)
    second = Sharding("ZeRO-2", gradients=N, optimizer=N, copies=N)
    assert sum(sent(CONFIG, WORK, second).values()) == pytest.approx(3 * unit)


def test_tensor_parallelism_sends_four_activations_a_layer():
    """Shoeybi et al. 2019, figure 4; the embedding and the head one each."""
    rows = 4 * 2 * 64 * 64
    cut = Sharding("tensor 4", tensor=4)
    once = replace(WORK, accumulate=1)
    assert sent(CONFIG, once, cut) == {"activations": 14 * all_reduce(rows, 4)}
    again = replace(once, checkpoint_layers=True)
    assert sent(CONFIG, again, cut) == {"activations": 20 * all_reduce(rows, 4)}


def test_alone_nothing_is_sent():
    assert sent(CONFIG, WORK, Sharding("one device")) == {}
