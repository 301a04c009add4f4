"""Several processes that learn together: how tests start them, and what they do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from folio.model.lora import add_lora
from folio.model.moe import balance_routers
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.muon import muon
from folio.optim.schedule import warmup_cosine
from folio.runtime import data_rank, data_world, init_distributed, share_ranks
from folio.training.learner import Learner
from folio.training.parallel import sum_over_ranks
from folio.training.sharded import Sharded
from helpers import free_port, tiny_model, tiny_stream, uneven

ROWS = 4  # in each micro-batch, over all ranks


def make_learner(kind: str, **changes) -> Learner:
    """A learner of the tiny model, whole (ddp, or alone) or in parts (fsdp)."""
    checkpointed = changes.pop("checkpoint_layers", False)
    compiled = changes.pop("compiled", False)
    options, optimizer = changes.pop("learner", {}), changes.pop("optimizer", adamw)
    dtype = torch.bfloat16 if options.get("precision") == "bf16-weights" else None
    lora = changes.pop("lora", None)
    model = tiny_model(**changes)
    if lora is not None:
        add_lora(model, lora)
    model.checkpoint_layers = checkpointed
    ranks = None
    if kind == "fsdp":
        ranks = Sharded(model, torch.device("cpu"), dtype=dtype, compiled=compiled)
    schedule = warmup_cosine(4, 20)
    parts = {"parts": ranks} if optimizer is muon else {}
    optimizer = optimizer(ranks or model, 1e-2, **parts)
    return Learner(model, optimizer, schedule, ranks=ranks, **options)


def learn(
    learner: Learner, steps: int = 5, accumulate: int = 2, rows: int = ROWS
) -> list[dict]:
    """The metrics of some updates on batches of uneven weight; rows: of all ranks."""
    stream = uneven(
        tiny_stream(batch=rows // data_world(), rank=data_rank(), world=data_world())
    )
    curve = []
    for _ in range(steps):
        batches = [next(stream) for _ in range(accumulate)]
        curve.append(learner.update(batches, next_token))
        shares = balance_routers(learner.ranks.module, sum_over_ranks)
        curve[-1] |= {name: share.max().item() for name, share in shares.items()}
    return curve


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    """The whole model's weights and buffers; to be asked for by all ranks at once."""
    learner.ranks.gather()
    if learner.ranks.split and not learner.ranks.whole_here:
        return {}
    return {n: t.clone() for n, t in learner.model.state_dict().items()}


def learn_and_tell(folder: Path, kind: str, changes: dict) -> None:
    """What one of several ranks learns, as files."""
    learner = make_learner(kind, **changes)
    curve, rank = learn(learner), torch.distributed.get_rank()
    save_file(weights(learner), folder / f"{rank}.st")
    (folder / f"{rank}.json").write_text(json.dumps(curve))


def _one(rank: int, world: int, tensor: int, port: int, work, arguments) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    init_distributed("cpu")
    share_ranks(tensor)
    try:
        work(*arguments)
    finally:
        torch.distributed.destroy_process_group()


def on_ranks(world: int, work, *arguments, tensor: int = 1) -> None:
    """Call `work` in `world` processes that cooperate; a failure of one fails."""
    torch.multiprocessing.spawn(
        _one, (world, tensor, free_port(), work, arguments), nprocs=world
    )


def told(folder: Path, rank: int) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """What `learn_and_tell` wrote down."""
    curve = json.loads((folder / f"{rank}.json").read_text())
    return curve, load_file(folder / f"{rank}.st")
