"""Memory: what the planner predicts against what a training step really takes.

    python bench/memory.py [--quick]

Each shape is trained for two steps in a process of its own, and the growth of its
resident memory is measured, from before the model is built to its highest point. One
thing of the model grows at a time: width, depth, context, vocabulary, micro-batch; and
checkpointing, bf16, accumulation and other parts are switched on and off. The value is
the largest relative error of `folio.planning.memory.peak`.

The C library is told to give freed tensors back at once (MALLOC_MMAP_THRESHOLD_): what
is measured is what tensors need, without what an allocator hoards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from folio.config import build
from folio.data.batch import Batch
from folio.model.config import ModelConfig
from folio.objectives.next_token import next_token
from folio.planning.memory import peak
from folio.planning.work import Work
from folio.stages.assemble import make_learner
from folio.stages.recipe import PretrainRecipe, TrainRecipe
from record import parse_arguments, record

GOAL = 0.10
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # from 64 KB on, straight to the system
LLAMA = {"vocab_size": 1024, "d_model": 256, "n_layers": 4, "n_heads": 4}
GPT2 = {"positions": "learned", "norm": "layernorm", "mlp": "gelu_tanh", "bias": True}


@dataclass(frozen=True)
class Case:
    """A shape, and how it is trained."""

    name: str
    model: dict[str, Any] = field(default_factory=dict)  # laid over LLAMA
    batch: int = 4
    length: int = 256
    precision: str = "fp32"
    accumulate: int = 1
    checkpoint_layers: bool = False

    @property
    def config(self) -> ModelConfig:
        return build(ModelConfig, {"max_seq_len": self.length} | LLAMA | self.model)

    @property
    def work(self) -> Work:
        return Work(
            self.batch,
            self.length,
            self.precision,
            self.accumulate,
            self.checkpoint_layers,
            cuda=False,
        )


CASES = [
    Case("base"),
    Case("wider", {"d_model": 768, "n_heads": 12}, batch=1),
    Case("deeper", {"n_layers": 12}),
    Case("deeper, checkpointed", {"n_layers": 12}, checkpoint_layers=True),
    Case("longer", batch=1, length=2048),
    Case("larger vocabulary", {"vocab_size": 32768}, batch=1),
    Case("logits cut", {"vocab_size": 32768}, length=192),
    Case("larger micro-batch", batch=16),
    Case("larger micro-batch, checkpointed", batch=16, checkpoint_layers=True),
    Case("accumulated", {"d_model": 512, "n_heads": 8}, accumulate=2),
    Case("bf16", precision="bf16"),
    Case("bf16 twin", precision="bf16-weights"),
    Case("bf16, checkpointed", {"n_layers": 8}, 8, precision="bf16", accumulate=2,
         checkpoint_layers=True),
    Case("GPT-2's parts", GPT2 | {"tie_embeddings": True}),
    Case("grouped, windowed, untied",
         {"n_kv_heads": 2, "window": 64, "tie_embeddings": False}),
    Case("experts", {"experts": {"count": 4, "active": 2}, "mlp_pattern": "de"}),
    Case("dropout", {"dropout": 0.1}, batch=2),
]  # fmt: skip
QUICK = ("base", "deeper, checkpointed", "logits cut", "bf16")


def main() -> None:
    more = ("--case", {"help": "one case as JSON: used by the benchmark itself"})
    arguments = parse_arguments(__doc__, more)
    if arguments.case:
        print(json.dumps(grown(Case(**json.loads(arguments.case)))))
        return
    rows = []
    for case in CASES:
        if arguments.quick and case.name not in QUICK:
            continue
        rows.append(compare(case))
        print(line_of(rows[-1]), flush=True)
    record(
        "memory",
        max(abs(row["error"]) for row in rows),
        GOAL,
        rows,
        higher_is_better=False,
    )


def compare(case: Case) -> dict[str, Any]:
    """Measured and predicted bytes of one case."""
    measured, plan = measure(case), peak(case.config, case.work)
    return asdict(case) | {
        "measured_bytes": measured,
        "predicted_bytes": round(plan.total),
        "error": plan.total / measured - 1,
        "moment": plan.moment,
        "moments_bytes": {name: round(size) for name, size in plan.moments.items()},
    }


def line_of(row: dict[str, Any]) -> str:
    measured, predicted = row["measured_bytes"] / 2**20, row["predicted_bytes"] / 2**20
    return (
        f"{row['name']:34} measured {measured:7.1f} MiB  predicted {predicted:7.1f}"
        f"  {100 * row['error']:+5.1f} %  at {row['moment']}"
    )


def measure(case: Case) -> int:
    """Bytes by which a process of its own grows when it trains this case."""
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(asdict(case))],
        env=os.environ | RETURNED | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{case.name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def grown(case: Case) -> int:
    """Bytes by which this process grows; once kernels are loaded and warm."""
    config = case.config
    small = {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 16, "vocab_size": 64}
    train(Case("", case.model | small | {"n_kv_heads": None}).config, case, 1, 16)
    start = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest point begins anew
    train(config, case, case.batch, case.length)
    return resident("VmHWM") - start


def resident(key: str) -> int:
    """VmRSS: resident bytes; VmHWM: at most so far (proc(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"no {key} here: this benchmark needs Linux")


def train(config: ModelConfig, case: Case, batch: int, length: int) -> None:
    """Two steps: only the second has the optimizer's state from its beginning on."""
    options = TrainRecipe(
        batch=batch,
        length=length,
        precision=case.precision,
        checkpoint_layers=case.checkpoint_layers,
        device="cpu",
    )
    recipe = PretrainRecipe(model=config, train=options)
    learner = make_learner(recipe, config.vocab_size)
    for _ in range(2):
        batches = [random_batch(config, batch, length) for _ in range(case.accumulate)]
        learner.update(batches, next_token)


def random_batch(config: ModelConfig, batch: int, length: int) -> Batch:
    tokens = torch.randint(config.vocab_size, (batch, length + 1))
    return Batch(
        float(batch * length),
        inputs=tokens[:, :-1].contiguous(),
        targets=tokens[:, 1:].contiguous(),
        weights=torch.ones(batch, length),
    )


if __name__ == "__main__":
    main()
