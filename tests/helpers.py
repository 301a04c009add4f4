"""The smallest things that really learn: a text, a model, a stream, a recipe, a run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from folio import cli
from folio.config import build, merge, read_toml
from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.model.config import Experts, ModelConfig
from folio.model.decoder import Decoder
from folio.model.moe import balance_routers, routers_of
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.schedule import warmup_cosine
from folio.runtime import init_distributed
from folio.stages.recipe import PretrainRecipe
from folio.training.experts import balance_experts
from folio.training.learner import Learner
from folio.training.loop import train
from folio.training.nonfinite import NonFiniteError
from folio.training.parallel import sum_over_ranks
from folio.training.snapshot import newest_snapshot, optimizer_tensors

VOCABULARY, CONTEXT = 17, 16
BALANCED = Experts(4, 2, router="sigmoid", balance=0.1, z_loss=0.01, bias_rate=0.01)
TIMING = ("seconds", "tokens_per_second")  # what may differ between equal runs

RECIPE = """\
name = "tiny"
seed = 7

[tokenizer]
kind = "char"

[data]
path = "tale.txt"

[model]
d_model = 16
n_layers = 2
n_heads = 2
max_seq_len = 16
dropout = 0.2

[optim]
warmup = 4

[train]
steps = 12
batch = 2
accumulate = 4
eval_every = 4
save_every = 1
keep = 2
device = "cpu"

[sample]
every = 4
max_new_tokens = 8

[log]
every = 3
"""


def tale(lines: int = 60) -> str:
    """A text that is the same every time, with letters of one to four bytes."""
    return "".join(
        f"On day {i} the miller’s {'red' if i % 3 else 'blue'} hen sat on {i * 7 % 13}"
        f" eggs{' ☃' if i % 11 == 0 else ''}.\n"
        for i in range(lines)
    )


def write_recipe(folder: Path, text: str | None = None) -> Path:
    """`tiny.toml` and its `tale.txt` in `folder`; returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tale.txt").write_text(tale() if text is None else text, encoding="utf-8")
    path = folder / "tiny.toml"
    source = RECIPE.replace("tale.txt", (folder / "tale.txt").as_posix())
    path.write_text(source, encoding="utf-8")
    return path


def tiny_recipe(folder: Path, **changes) -> PretrainRecipe:
    """The recipe of `write_recipe`, with tables changed: `train={"steps": 3}`."""
    return build(PretrainRecipe, merge(read_toml(write_recipe(folder)), changes))


def tiny_model(seed: int = 0, **changes) -> Decoder:
    """A decoder of some thousand weights, initialized from `seed`."""
    torch.manual_seed(seed)
    config = {
        "vocab_size": VOCABULARY,
        "max_seq_len": CONTEXT,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
    }
    return Decoder(ModelConfig(**(config | changes)))


def tiny_learner(seed: int = 0, *, lr: float = 1e-2, model=None, **options) -> Learner:
    """A learner of `tiny_model`, warming up over 4 of 20 steps."""
    model = tiny_model(seed) if model is None else model
    return Learner(model, adamw(model, lr), warmup_cosine(4, 20), **options)


def tiny_stream(batch: int = 2, **options) -> TextStream:
    """Windows over a pattern with a period that no window has."""
    ids = [(i * i + i // 7) % VOCABULARY for i in range(400)]
    tokens = Tokens.from_ids(ids, vocab_size=VOCABULARY)
    return TextStream(tokens, batch=batch, length=CONTEXT, seed=3, **options)


def losses(learner: Learner, stream: TextStream, steps: int, accumulate: int = 1):
    """Metrics of some updates."""
    return [
        learner.update([next(stream) for _ in range(accumulate)], next_token)
        for _ in range(steps)
    ]


# ---- comparing -----------------------------------------------------------------------


def everything(learner: Learner) -> dict[str, torch.Tensor]:
    """Weights and optimizer state by name."""
    weights = learner.model.state_dict()
    return {
        **{f"model.{name}": tensor.clone() for name, tensor in weights.items()},
        **{n: t.clone() for n, t in optimizer_tensors(learner.optimizer).items()},
    }


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Bit for bit, key for key."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        # NaN in the same place is the same
        same = torch.equal(tensor, other[name]) or (
            tensor.is_floating_point()
            and torch.equal(tensor.isnan(), other[name].isnan())
            and torch.equal(tensor.nan_to_num(), other[name].nan_to_num())
        )
        assert same, name


def rows(path: Path) -> list[dict]:
    """A JSON-lines file without the keys that depend on the clock."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key not in TIMING}
        for line in lines
    ]


def what_a_run_left(folder: Path) -> dict[str, object]:
    """All of a run that must not depend on whether it was interrupted."""
    snapshot = newest_snapshot(folder / "snapshots", say=lambda text: None)
    state = json.loads(json.dumps(snapshot.state))
    state["progress"].pop("seconds")
    return {
        "tensors": {
            **{f"model.{n}": t for n, t in snapshot.model.items()},
            **{f"optimizer.{n}": t for n, t in snapshot.optimizer.items()},
            **{f"rng.{n}": t for n, t in snapshot.rng.items()},
        },
        "state": state,
        "metrics": rows(folder / "metrics.jsonl"),
        "samples": rows(folder / "samples.jsonl"),
        "attention": (folder / "figures/attention.json").read_bytes(),
        "model": (folder / "model/model.safetensors").read_bytes(),
        "snapshots": sorted(path.name for path in (folder / "snapshots").iterdir()),
    }


def assert_same_run(one: dict[str, object], other: dict[str, object]) -> None:
    """Two results of `what_a_run_left`, part by part."""
    assert_same(one["tensors"], other["tensors"])
    for part in one.keys() - {"tensors"}:
        assert one[part] == other[part], part


def files_below(folder: Path) -> dict[str, bytes]:
    """Every path below `folder` with its content: what must not change."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        if path.is_file()
        else b""
        for path in sorted(folder.rglob("*"))
    }


# ---- the command line ----------------------------------------------------------------


def run_cli(capsys, *arguments: object) -> tuple[int, str, str]:
    """One command in this process: (exit status, stdout, stderr)."""
    status = 0
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code or 0
    out, err = capsys.readouterr()
    return status, out, err


def start_folio(*arguments: object, **options) -> subprocess.Popen:
    """One command in a process of its own, which can be sent signals."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | options.pop("env", {})
    return subprocess.Popen(
        [sys.executable, "-m", "folio", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # a shell makes what it starts in the background deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def wait_for(condition, seconds: float = 60.0) -> None:
    """Until `condition()` is true; fails rather than hangs."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


# ---- two processes -------------------------------------------------------------------


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def uneven(stream):
    """The stream's batches, with the weights of a third of the targets set to 0."""
    for batch in stream:
        batch["weights"] = (batch.targets % 3 != 0).float()
        batch.denominator = float(batch.weights.sum())
        yield batch


def train_uneven(rank: int, world: int, steps: int, accumulate: int, **changes):
    """What one of `world` ranks learns: (metrics of each step, weights)."""
    learner = tiny_learner(model=tiny_model(**changes))
    learner.model.train()
    stream = uneven(tiny_stream(batch=4 // world, rank=rank, world=world))
    metrics = []
    for _ in range(steps):
        batches = [next(stream) for _ in range(accumulate)]
        metrics.append(learner.update(batches, next_token))
        shares = balance_routers(learner.model, sum_over_ranks)
        metrics[-1] |= {name: share.max().item() for name, share in shares.items()}
    return metrics, everything(learner)


def one_of_two_ranks(rank: int, port: int, folder: str, work: str) -> None:
    """Join a group of two and do the function named `work`; errors become a file."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    init_distributed()
    try:
        globals()[work](rank, Path(folder))
    finally:
        torch.distributed.destroy_process_group()


def learn_on_two_ranks(rank: int, folder: Path) -> None:
    """Train, and write down what came of it."""
    learn_and_tell(rank, folder)


def learn_with_experts(rank: int, folder: Path) -> None:
    """The same with experts, whose routers are balanced in both ways."""
    learn_and_tell(rank, folder, experts=BALANCED)


def learn_and_tell(rank: int, folder: Path, **changes) -> None:
    """`train_uneven` as one of two, its weights and metrics as files."""
    metrics, tensors = train_uneven(rank, 2, steps=6, accumulate=2, **changes)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / f"{rank}.st")
    (folder / f"{rank}.json").write_text(json.dumps(metrics))


def fail_on_one_rank(rank: int, folder: Path) -> None:
    """Rank 1 alone meets a loss that is not a number."""

    def objective(model, batch):
        loss, metrics = next_token(model, batch)
        return loss * (float("nan") if rank and learner.step == 2 else 1.0), metrics

    learner, stream = tiny_learner(), tiny_stream(rank=rank, world=2)
    try:
        for _ in range(4):
            before = everything(learner)
            learner.update([next(stream)], objective)
    except NonFiniteError as error:
        assert_same(everything(learner), before)
        (folder / f"{rank}.txt").write_text(str(error))


EXPERTS = Experts(
    count=4, active=2, width=8, router="sigmoid", balance=0.0, bias_rate=0.01
)


def balance_on_two_ranks(rank: int, folder: Path) -> None:
    """Train a model with experts, and write down the biases of its first router."""
    learner = tiny_learner(model=tiny_model(experts=EXPERTS))
    stream = tiny_stream(batch=2, rank=rank, world=2)
    hooks = [balance_experts(None, every=0, last=4)]
    train(learner, stream, next_token, steps=4, hooks=hooks)
    moe = next(iter(routers_of(learner.model).values()))
    save_file({"bias": moe.router.bias}, folder / f"{rank}.st")


def on_two_ranks(folder: Path, work: str) -> None:
    """Run the function named `work` of this module in two processes that cooperate."""
    torch.multiprocessing.spawn(
        one_of_two_ranks, (free_port(), str(folder), work), nprocs=2
    )
