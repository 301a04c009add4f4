"""`folio profile`: where the time and the memory of a training step go."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from folio.config import UserError
from folio.files import write_atomically
from folio.model.count import flops_per_token
from folio.model.decoder import Decoder
from folio.planning.memory import peak
from folio.runtime import PRECISIONS, machine, seed_everything
from folio.stages.assemble import Parts, Say
from folio.stages.plan import work_of
from folio.stages.pretrain import assemble_pretraining, prepare_pretraining
from folio.stages.recipe import PretrainRecipe
from folio.text.tokenizer import Tokenizer
from folio.training.learner import TWIN
from folio.training.run import Run

PROFILED = 5  # steps that are watched; more only make the trace larger
WARM = 3  # steps before anything counts
MARK = "folio: "  # before the name of a range of ours
PARTS = ("data", "embedding", "norm", "attention", "mlp", "head and loss", "optimizer")
PASSES = ("forward", "again", "backward")


def profile_training(
    recipe: PretrainRecipe, steps: int, folder: Path, say: Say = print
) -> dict[str, Any]:
    """Train `steps` steps, watch some more, print tables; return what they say.

    Speed is measured without the profiler, which slows small operations down; shares
    are measured with it. trace.json (for chrome://tracing or ui.perfetto.dev) and
    profile.json go into `folder`.
    """
    if steps < 1:
        raise UserError(f"--steps = {steps}: must be at least 1")
    if recipe.parent is not None:
        raise UserError(
            f"parent = {recipe.parent!r}: a profile needs no weights that have "
            "learned; leave it out"
        )
    recipe = replace(recipe, train=replace(recipe.train, steps=WARM + steps + PROFILED))
    with tempfile.TemporaryDirectory() as home:
        parts = make_parts(recipe, Run(Path(home)))
        found = measure(parts, steps, folder, say)
    write_atomically(folder / "profile.json", json.dumps(found, indent=1) + "\n")
    say(report(found))
    say(f"trace {folder / 'trace.json'}, figures {folder / 'profile.json'}")
    return found


def make_parts(recipe: PretrainRecipe, run: Run) -> Parts:
    """Tokenizer, tokens, model and stream, as a run of the recipe would have them."""
    for place in (run.model, run.figures):
        place.mkdir()
    prepare_pretraining(recipe, run, False, lambda text: None)
    seed_everything(recipe.seed)
    return assemble_pretraining(recipe, run, Tokenizer.load(run.model))


def measure(parts: Parts, steps: int, folder: Path, say: Say) -> dict[str, Any]:
    """Everything that a profile says, as plain numbers; times in seconds per step."""
    learner, recipe = parts.learner, parts.recipe
    update = updater(parts)
    for _ in range(WARM):
        update()
    say(f"timing {steps} steps on {learner.device}, {recipe.train.precision}")
    start = now(learner.device)
    for _ in range(steps):
        update()
    seconds = (now(learner.device) - start) / steps
    speed, size = matmul_peak(learner.device, recipe.train.precision)
    tokens = recipe.train.batch * recipe.train.accumulate * recipe.length
    flops = tokens * flops_per_token(learner.model.config, recipe.length)
    return {
        "recipe": recipe.name,
        **machine(),
        "threads": torch.get_num_threads(),
        "precision": recipe.train.precision,
        "steps": steps,
        "seconds_per_step": seconds,
        "tokens_per_second": tokens / seconds,
        "flops_per_step": flops,
        "matmul_flops_per_second": speed,
        "matmul_size": size,
        "mfu": flops / seconds / speed,
        **watch(parts, update, folder),
        "planned_peak_bytes": planned(parts),
    }


def updater(parts: Parts) -> Callable[[], None]:
    """One step: batches from the stream, then an update."""
    batches: Iterator = iter(parts.stream)

    def update() -> None:
        with record_function(f"{MARK}data"):
            micro_batches = list(islice(batches, parts.recipe.train.accumulate))
        parts.learner.update(micro_batches, parts.objective)

    return update


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def planned(parts: Parts) -> float:
    """What `folio plan` thinks that one device holds at most."""
    work = replace(work_of(parts.recipe), cuda=parts.learner.device.type == "cuda")
    return peak(parts.learner.model.config, work).total


# ---- what the machine can do ---------------------------------------------------------


def matmul_peak(device: torch.device, precision: str) -> tuple[float, int]:
    """(operations per second, size) of the square product that is the quickest."""
    sizes = (512, 1024, 2048) if device.type == "cpu" else (2048, 4096, 8192)
    speeds = {size: matmul_speed(size, device, precision) for size in sizes}
    best = max(speeds, key=speeds.get)
    return speeds[best], best


def matmul_speed(
    size: int, device: torch.device, precision: str, seconds: float = 0.2
) -> float:
    """Operations per second of one size: the quickest of several products."""
    kind = torch.bfloat16 if precision == TWIN else PRECISIONS[precision]
    a = torch.rand(size, size, device=device, dtype=kind)
    end, best = now(device) + seconds, float("inf")
    torch.mm(a, a)
    while best == float("inf") or now(device) < end:
        start = now(device)
        torch.mm(a, a)
        best = min(best, now(device) - start)
    return 2 * size**3 / best


# ---- watching ------------------------------------------------------------------------


def watch(parts: Parts, update: Callable[[], None], folder: Path) -> dict[str, Any]:
    """Some steps under torch's profiler, their time and memory divided among parts."""
    device = parts.learner.device
    folder.mkdir(parents=True, exist_ok=True)
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.reset_peak_memory_stats()
    held = held_bytes(parts)
    with (
        marked(parts.learner.model),
        profile(activities=activities, profile_memory=True) as watched,
    ):
        start = now(device)
        for _ in range(PROFILED):
            update()
        seconds = (now(device) - start) / PROFILED
    watched.export_chrome_trace(str(folder / "trace.json"))
    events = list(watched.events())
    highest = held + highest_growth(watched)
    if device.type == "cuda":
        highest = torch.cuda.max_memory_allocated()
    return {
        "watched_steps": PROFILED,
        "watched_seconds_per_step": seconds,
        "parts": divide(events, device.type == "cuda"),
        "operations": top_operations(events, device.type == "cuda"),
        "peak_bytes": highest,
    }


def held_bytes(parts: Parts) -> int:
    """Weights and optimizer, which are there between two steps."""
    states = parts.learner.optimizer.state.values()
    tensors = [*parts.learner.model.parameters()]
    tensors += [t for state in states for t in state.values() if torch.is_tensor(t)]
    return sum(t.numel() * t.element_size() for t in tensors)


def highest_growth(watched: profile) -> int:
    """Bytes that were allocated since the start, at most."""
    total = highest = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            highest = max(highest, total)
    return highest


def part_names(model: nn.Module) -> dict[str, str]:
    """The part that each module of interest belongs to, by its name in the model."""
    found = {}
    for name, _ in model.named_modules():
        last = name.rsplit(".", 1)[-1]
        inner = any(name.startswith(f"{outer}.") for outer in found)
        if inner:
            continue  # a head's norm is a part of attention
        if last in ("attention", "mlp"):
            found[name] = last
        elif last == "moe":
            found[name] = "mlp"
        elif last == "norm" or last.endswith("_norm"):
            found[name] = "norm"
        elif last in ("embedding", "positions", "rotary"):
            found[name] = "embedding"
    return found


@contextmanager
def marked(model: Decoder) -> Iterator[None]:
    """While it lasts, each part of the model is a named range to the profiler."""
    open_ranges: list[record_function] = []
    handles = []

    def enter(part: str):
        def hook(module: nn.Module, inputs: Any) -> None:
            open_ranges.append(record_function(MARK + part))
            open_ranges[-1].__enter__()

        return hook

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        open_ranges.pop().__exit__(None, None, None)

    names = part_names(model)
    for name, module in model.named_modules():
        if name in names:
            handles.append(module.register_forward_pre_hook(enter(names[name])))
            # also after an exception: a layer that is computed again stops in the
            # middle of its last part, as soon as all is there that backward needs
            handles.append(module.register_forward_hook(leave, always_call=True))
    answer = model.answer

    def answering(*args: Any, **kwargs: Any):
        with record_function(f"{MARK}head and loss"):
            return answer(*args, **kwargs)

    model.answer = answering
    try:
        yield
    finally:
        del model.answer  # the class has its own
        for handle in handles:
            handle.remove()


# ---- dividing ------------------------------------------------------------------------


def divide(events: list, cuda: bool) -> dict[str, dict[str, float]]:
    """Seconds of each part in each pass, and bytes it keeps, per step.

    An operation belongs to the innermost range around it. One that runs backward has
    the number of the operation whose gradient it is, and belongs where that one does; a
    range that opens while running backward is a forward that is computed again.
    """
    cache: dict[int, tuple[str, str]] = {}
    owners = {}
    for event in events:
        part, way = place_of(event, {}, cache)
        if event.sequence_nr >= 0 and way != "backward":
            owners[event.sequence_nr] = part
    cache.clear()
    seconds: Counter = Counter()
    kept: Counter = Counter()
    for event in events:
        part, way = place_of(event, owners, cache)
        time_ = event.self_device_time_total if cuda else event.self_cpu_time_total
        seconds[part, way] += time_ / 1e6 / PROFILED
        used = event.self_device_memory_usage if cuda else event.self_cpu_memory_usage
        if way == "forward":
            kept[part] += used / PROFILED
    return {
        part: {way: seconds[part, way] for way in PASSES} | {"kept_bytes": kept[part]}
        for part in (*PARTS, "other")
    }


def is_backward(event: Any) -> bool:
    return event.name.startswith("autograd::engine::evaluate_function")


def place_of(
    event: Any, owners: dict[int, str], cache: dict[int, tuple[str, str]]
) -> tuple[str, str]:
    """(part, pass) of one event; remembered in `cache`, by the event's id."""
    if event.id in cache:
        return cache[event.id]
    above = ("other", "forward")
    if event.cpu_parent is not None:
        above = place_of(event.cpu_parent, owners, cache)
    place = above
    if event.name.startswith(MARK):
        back = above[1] != "forward"
        place = event.name.removeprefix(MARK), "again" if back else "forward"
    elif event.name.startswith("Optimizer."):
        place = "optimizer", "forward"
    elif is_backward(event):
        place = owners.get(event.sequence_nr, "other"), "backward"
    cache[event.id] = place
    return place


def top_operations(events: list, cuda: bool, count: int = 10) -> list[dict[str, Any]]:
    """The operations that take the longest themselves, without those they call."""
    seconds: Counter = Counter()
    calls: Counter = Counter()
    for event in events:
        time_ = event.self_device_time_total if cuda else event.self_cpu_time_total
        seconds[event.name] += time_ / 1e6 / PROFILED
        calls[event.name] += 1
    return [
        {"name": name, "seconds": value, "calls": calls[name] / PROFILED}
        for name, value in seconds.most_common(count)
    ]


# ---- showing -------------------------------------------------------------------------


def report(found: dict[str, Any]) -> str:
    """The tables for a terminal."""
    total = sum(sum(row[way] for way in PASSES) for row in found["parts"].values())
    lines = [f"{'ms per step':16}{'forward':>9}{'again':>9}{'backward':>10}"]
    lines[0] += f"{'share':>8}{'keeps MB':>10}"
    for part, row in found["parts"].items():
        times = [1e3 * row[way] for way in PASSES]
        lines.append(
            f"{part:16}{times[0]:9.2f}{times[1]:9.2f}{times[2]:10.2f}"
            f"{100 * sum(times) / 1e3 / total:7.1f}%{row['kept_bytes'] / 1e6:10.1f}"
        )
    lines.append(f"\n{'operation':56}{'ms':>9}{'calls':>8}{'share':>8}")
    for row in found["operations"]:
        name = row["name"][-54:]
        share = 100 * row["seconds"] / total
        lines.append(
            f"{name:56}{1e3 * row['seconds']:9.2f}{row['calls']:8.0f}{share:7.1f}%"
        )
    step, watched = found["seconds_per_step"], found["watched_seconds_per_step"]
    lines.append(
        f"\na step takes {1e3 * step:.1f} ms, {1e3 * watched:.1f} while it is watched: "
        f"{found['tokens_per_second']:,.0f} tokens/s"
    )
    size, speed = found["matmul_size"], found["matmul_flops_per_second"]
    lines.append(
        f"{found['flops_per_step'] / step / 1e9:,.1f} GFLOP/s are "
        f"{100 * found['mfu']:.1f} % of the {speed / 1e9:,.0f} of a "
        f"{found['precision']} product of {size} x {size} here, on "
        f"{found['threads']} thread(s)"
    )
    lines.append(
        f"memory: {found['peak_bytes'] / 1e6:,.1f} MB at most; planned "
        f"{found['planned_peak_bytes'] / 1e6:,.1f}"
    )
    return "\n".join(lines)
