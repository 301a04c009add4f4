"""The planned peak against the real one, and against what others have published."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import memory as bench
from folio.model.config import gpt2_like, llama_like
from folio.model.count import count_parameters
from folio.objectives.next_token import next_token
from folio.planning.memory import Parameters, Sharding, parameters_of, peak, states
from folio.planning.plan import fsdp
from folio.planning.work import Work
from folio.stages.assemble import make_learner
from folio.stages.recipe import OptimRecipe, PretrainRecipe, TrainRecipe

SHAPE = {"vocab_size": 512, "d_model": 64, "n_layers": 3, "n_heads": 4}
SHAPE["max_seq_len"] = 64
WAYS = {
    "plain": {},
    "accumulated": {"accumulate": 2},
    "checkpointed": {"checkpoint_layers": True},
    "bf16": {"precision": "bf16"},
    "twin": {"precision": "bf16-weights", "accumulate": 2},
}


def real_peak(config, work, muon=False):
    """Bytes of tensors at the highest point of a second step."""
    train = TrainRecipe(
        batch=work.batch,
        length=work.length,
        precision=work.precision,
        checkpoint_layers=work.checkpoint_layers,
        device="cpu",
    )
    optim = OptimRecipe(kind="muon" if muon else "adamw")
    recipe = PretrainRecipe(model=config, train=train, optim=optim)
    learner = make_learner(recipe, config.vocab_size)

    def update():
        batches = [
            bench.random_batch(config, work.batch, work.length)
            for _ in range(work.accumulate)
        ]
        learner.update(batches, next_token)

    update()
    held = [*learner.model.parameters()]
    held += learner.twin.rounded if learner.twin else []
    held += [x for state in learner.optimizer.state.values() for x in state.values()]
    total = highest = sum(x.nbytes for x in held if torch.is_tensor(x))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        update()
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            highest = max(highest, total)
    return highest


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("way", WAYS)
def test_the_peak_of_tensors_in_a_step(way):
    config = llama_like(**SHAPE)
    work = Work(4, 64, cuda=False, **WAYS[way])
    plan = peak(config, work)
    assert plan.total == pytest.approx(real_peak(config, work), rel=0.05)


def test_the_peak_where_weights_are_most_of_it():
    config = gpt2_like(**SHAPE | {"d_model": 256})
    work = Work(1, 16, cuda=False)
    plan = peak(config, work)
    assert plan.moment == "embedding"
    assert plan.total == pytest.approx(real_peak(config, work), rel=0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_that_a_process_really_takes():
    """One case of `bench/memory.py`, which has them all."""
    case = bench.Case("one", {"n_layers": 6}, batch=4, length=128)
    row = bench.compare(case)
    assert abs(row["error"]) < bench.GOAL, row
    json.dumps(row)


def test_muon_keeps_one_average_and_needs_room_for_a_step():
    config = llama_like(**SHAPE)
    work = Work(1, 16, cuda=False, muon=True)
    plan = peak(config, work)
    assert plan.moment == "optimizer"
    assert plan.total == pytest.approx(real_peak(config, work, muon=True), rel=0.06)
    both = [peak(config, Work(1, 64, muon=muon)).optimizer for muon in (False, True)]
    matrices = sum(parameters_of(config).layers)
    assert both[0] - both[1] == 4 * matrices


# ---- published figures ---------------------------------------------------------------


def test_zero_on_64_devices():
    """Rajbhandari et al. 2020, figure 1: 7.5 B parameters, 64 devices."""
    own, work, n = Parameters(0, (7_500_000_000,), 1.0), Work(1, 1, "zero"), 64
    cuts = [
        Sharding("none"),
        Sharding("ZeRO-1", optimizer=n),
        Sharding("ZeRO-2", gradients=n, optimizer=n),
        fsdp(n),
    ]
    found = [sum(states(own, work, cut).values()) / 1e9 for cut in cuts]
    assert found == pytest.approx([120, 31.4, 16.6, 1.9], abs=0.05)


LLAMA_2 = {"vocab_size": 32_000, "d_model": 4096, "n_layers": 32, "n_heads": 32}
LLAMA_3 = {"vocab_size": 128_256, "n_kv_heads": 8}
PUBLISHED = {  # parameters of the released weights
    # Radford et al. 2019, as released (124M, 355M, 774M, 1558M)
    124_439_808: gpt2_like(
        vocab_size=50_257, max_seq_len=1024, d_model=768, n_layers=12, n_heads=12
    ),
    354_823_168: gpt2_like(
        vocab_size=50_257, max_seq_len=1024, d_model=1024, n_layers=24, n_heads=16
    ),
    774_030_080: gpt2_like(
        vocab_size=50_257, max_seq_len=1024, d_model=1280, n_layers=36, n_heads=20
    ),
    1_557_611_200: gpt2_like(
        vocab_size=50_257, max_seq_len=1024, d_model=1600, n_layers=48, n_heads=25
    ),
    # Touvron et al. 2023 (Llama 2), 7B
    6_738_415_616: llama_like(**LLAMA_2, d_ff=11_008),
    # Llama team 2024 (Llama 3), table 3: 8B and 70B
    8_030_261_248: llama_like(
        **LLAMA_3, d_model=4096, n_layers=32, n_heads=32, d_ff=14_336
    ),
    70_553_706_496: llama_like(
        **LLAMA_3, d_model=8192, n_layers=80, n_heads=64, d_ff=28_672
    ),
}


@pytest.mark.parametrize("count", PUBLISHED)
def test_parameters_of_released_models(count):
    config = PUBLISHED[count]
    assert count_parameters(config)["total"] == count
    assert parameters_of(config).total == count


def test_a_cut_model_has_its_norms_whole():
    config = llama_like(**SHAPE)
    whole, half = parameters_of(config), parameters_of(config, 2)
    norms = count_parameters(config)["norms"]
    assert half.total == (whole.total - norms) / 2 + norms


def test_layers_that_differ_are_counted_one_by_one():
    changes = {"mlp_pattern": "de", "experts": {"count": 4, "active": 2}}
    case = bench.Case("", SHAPE | changes)
    own = parameters_of(case.config)
    assert own.total == count_parameters(case.config)["total"]
    assert own.layers[1] > own.layers[0] == own.layers[2]


# ---- what sharding changes -----------------------------------------------------------


def test_each_cut_holds_less():
    config, work = PUBLISHED[6_738_415_616], Work(1, 2048, "bf16")
    n = 64
    cuts = [
        Sharding("DDP", copies=n),
        Sharding("ZeRO-1", optimizer=n, copies=n),
        Sharding("ZeRO-2", gradients=n, optimizer=n, copies=n),
        fsdp(n),
        fsdp(n // 8, 8),
    ]
    totals = [peak(config, work, cut).total for cut in cuts]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > 2 * totals[1]


def test_our_fsdp_keeps_whole_gradients_between_micro_batches():
    config, cut = PUBLISHED[6_738_415_616], fsdp(64)
    once = peak(config, Work(1, 256), cut)
    twice = peak(config, Work(1, 256, accumulate=2), cut)
    added = twice.gradients - once.gradients
    assert added > 0.9 * 4 * 6_738_415_616


def test_checkpointing_keeps_what_enters_a_layer():
    config = llama_like(**SHAPE | {"n_layers": 12})
    work = Work(8, 64)
    less = peak(config, replace(work, checkpoint_layers=True))
    most = peak(config, work)
    assert less.total < 0.5 * most.total
    assert less.activations > 12 * 4 * 64 * 8 * 64


def test_unknown_precision_is_named():
    with pytest.raises(ValueError, match="precision = 'fp8': choose one of fp32"):
        Work(1, 1, "fp8")
