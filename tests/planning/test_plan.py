"""The table of shardings: what fits, what doesn't, and whether the remedy helps."""

import pytest

from folio.config import parse_overrides
from folio.model.config import llama_like
from folio.planning.cost import Machine
from folio.planning.memory import Sharding, peak
from folio.planning.plan import (
    USABLE,
    best,
    fsdp,
    indivisible,
    plan,
    shardings,
    what_helps,
)
from folio.planning.work import Work

CONFIG = llama_like(
    vocab_size=32_000,
    d_model=1024,
    n_layers=16,
    n_heads=16,
    n_kv_heads=8,
    d_ff=2816,
    max_seq_len=1024,
)
WORK = Work(16, 1024, "bf16")


def machine(gigabytes, **more):
    return Machine(gigabytes * 1e9, 100e12, **more)


def test_ways_to_share():
    assert [s.name for s in shardings(1)] == ["one device"]
    names = ["DDP", "ZeRO-1", "ZeRO-2", "FSDP"]
    assert [s.name for s in shardings(4)] == [*names, "tensor 4"]
    assert [s.name for s in shardings(64)] == [*names, "tensor 8 x FSDP 8"]
    assert [s.name for s in shardings(64, 2)] == [*names, "tensor 2 x FSDP 32"]
    assert all(s.devices == 64 for s in shardings(64))


def test_what_cant_be_cut_is_named():
    assert indivisible(CONFIG, Sharding("", tensor=8)) is None
    assert "n_kv_heads = 8" in indivisible(CONFIG, Sharding("", tensor=16))
    assert "n_heads = 16" in indivisible(CONFIG, Sharding("", tensor=3))
    rows = plan(CONFIG, WORK, machine(80), 3, steps=10)
    assert rows[-1].peak is None
    assert "can't be divided by 3" in rows[-1].problem


def test_the_quickest_that_fits_is_best():
    rows = plan(CONFIG, WORK, machine(1000, bandwidth=50e9), 8, steps=10)
    assert all(row.problem is None for row in rows)
    speeds = {r.sharding.name: r.cost.tokens / r.cost.hours for r in rows}
    assert max(speeds, key=speeds.get) == "DDP"
    assert speeds["DDP"] > 1.01 * speeds["tensor 8"]
    assert best(rows).sharding.name == "DDP"
    assert best(plan(CONFIG, WORK, machine(1), 8, steps=10)) is None


def test_a_row_fits_if_its_peak_is_within_the_usable_memory():
    need = peak(CONFIG, WORK, Sharding("one device")).total
    for share, fitting in ((1.001, True), (0.999, False)):
        memory = share * need / USABLE / 1e9
        (row,) = plan(CONFIG, WORK, machine(memory), 1, steps=10)
        assert (row.problem is None) == fitting
    assert "most of it activations" in row.problem


@pytest.mark.parametrize("gigabytes", [15, 8, 4, 2])
@pytest.mark.parametrize("cut", [Sharding("one device"), fsdp(8)])
def test_the_remedy_helps(gigabytes, cut):
    here = machine(gigabytes)
    limit = USABLE * here.memory
    assert peak(CONFIG, WORK, cut).total > limit
    flags = what_helps(CONFIG, WORK, cut, here)
    if flags.startswith("to shard more"):
        assert gigabytes <= 4
        least = Work(1, 1024, "bf16", checkpoint_layers=True)
        assert peak(CONFIG, least, cut).total > limit
        return
    found = parse_overrides(flags.split())
    train = found["train"]
    work = Work(
        train.get("batch", WORK.batch),
        1024,
        "bf16",
        train.get("accumulate", 1),
        train.get("checkpoint_layers", False),
    )
    cut = fsdp(found["devices"]) if "devices" in found else cut
    assert peak(CONFIG, work, cut).total <= limit


def test_no_remedy_is_said_to_be_none():
    assert "shorter texts" in what_helps(CONFIG, WORK, fsdp(8), machine(0.001))
