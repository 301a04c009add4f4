"""`folio plan`: what a recipe would need on machines that aren't here."""

from __future__ import annotations

from folio.config import UserError
from folio.model.config import ModelConfig
from folio.model.count import count_parameters
from folio.planning.cost import Machine
from folio.planning.plan import NODE, USABLE, Row, best, plan
from folio.planning.work import Work
from folio.stages.assemble import fill_vocab
from folio.stages.recipe import PretrainRecipe, StageRecipe
from folio.stages.show import vocabulary
from folio.stages.tuning import SFTRecipe
from folio.viz.numerals import compact, duration, plain

GB = 1e9
COLUMNS = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "peak",
    "fits",
    "sent/step",
    "step",
)


def plan_training(
    recipe: StageRecipe,
    *,
    devices: int,
    memory: float,
    tflops: float,
    mfu: float = 0.4,
    bandwidth: float | None = None,
    price: float | None = None,
    tokens: float | None = None,
) -> list[Row]:
    """Print a table of shardings, and what the best of them takes; return its rows.

    memory in GB of 10^9 bytes, tflops at the peak, bandwidth in GB/s that one device
    sends, price of a device hour; tokens in place of the recipe's steps.
    """
    if devices < 1:
        raise UserError(f"--devices = {devices}: must be at least 1")
    if tokens is not None and not 0 < tokens < float("inf"):
        raise UserError(f"--tokens = {tokens:g}: must be above 0")
    machine = Machine(
        memory * GB,
        tflops * 1e12,
        mfu,
        None if bandwidth is None else bandwidth * GB,
        price,
    )
    vocab_size, known = vocabulary(recipe.tokenizer)
    config = fill_vocab(recipe.model, vocab_size)
    work = work_of(recipe)
    steps = recipe.train.steps if tokens is None else None
    near = recipe.parallel.tensor if recipe.parallel.tensor > 1 else NODE
    rows = plan(config, work, machine, devices, near, steps=steps, tokens=tokens)
    print(heading(recipe, config, work, machine, devices))
    if not known:
        print(f"with a vocabulary of about {vocab_size} (a guess)")
    print(table(rows))
    for row in rows:
        if row.problem is not None:
            help_ = f"; try {row.remedy}" if row.remedy else ""
            print(f"{row.sharding.name}: {row.problem}{help_}")
    print(conclusion(rows))
    for note in notes(recipe, config, machine, rows):
        print(note)
    return rows


def work_of(recipe: StageRecipe) -> Work:
    """One device's part of a step, as the recipe says."""
    train = recipe.train
    return Work(
        train.batch,
        recipe.length,
        train.precision,
        train.accumulate,
        train.checkpoint_layers,
        cuda=train.device != "cpu",
        muon=recipe.optim.kind == "muon",
    )


def heading(
    recipe: StageRecipe,
    config: ModelConfig,
    work: Work,
    machine: Machine,
    devices: int,
) -> str:
    total = count_parameters(config)["total"]
    active = count_parameters(config, active_only=True)["total"]
    some = "" if active == total else f", {compact(active)} of them active"
    how = ", layers checkpointed" if work.checkpoint_layers else ""
    sends = "no limit to what it sends"
    if machine.bandwidth is not None:
        sends = f"sending {plain(machine.bandwidth / GB)} GB/s"
    return (
        f"{recipe.name}: {compact(total)} parameters{some}; {work.precision}{how}\n"
        f"{work.accumulate} x {work.batch} sequences of {work.length:,} tokens a step "
        f"and model copy\n{devices} devices of {plain(machine.memory / GB)} GB, "
        f"{plain(machine.flops / 1e12)} TFLOP/s of which {100 * machine.mfu:.0f} % are "
        f"reached, {sends}\n"
    )


def table(rows: list[Row]) -> str:
    """Per device, in GB; what can't be is left out."""
    lines = [["", *COLUMNS]]
    for row in rows:
        cells = ["-"] * len(COLUMNS)
        if row.peak is not None:
            most = row.peak
            sizes = (most.weights, most.gradients, most.optimizer, most.activations)
            cells = [gigabytes(size) for size in (*sizes, most.total)]
            cells += ["no" if row.problem else "yes"]
            cells += [gigabytes(sum(row.sent.values())), seconds(row.cost.step)]
        lines.append([row.sharding.name, *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rest = "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )
    usable = f"{100 * USABLE:.0f} % of the memory count as usable"
    return f"{rest}\nGB on each device; peak is when all together is the most; {usable}"


def gigabytes(size: float) -> str:
    """
    >>> gigabytes(31.4e9), gigabytes(2.5e6), gigabytes(0)
    ('31.4', '0.0025', '0')
    """
    return plain(size / GB) if size < 1e11 else f"{size / GB:,.0f}"


def seconds(value: float) -> str:
    """
    >>> seconds(0.0123), seconds(75)
    ('12.3 ms', '1 min 15 s')
    """
    return f"{plain(1e3 * value)} ms" if value < 1 else duration(value)


def conclusion(rows: list[Row]) -> str:
    """The quickest that fits: its time, its operations, its price."""
    row = best(rows)
    if row is None:
        return "nothing fits: see what helps above"
    spent = row.cost
    text = (
        f"{row.sharding.name}: {compact(spent.tokens)} tokens in {spent.steps:,} steps,"
        f" {spent.flops:.3g} operations: {duration(3600 * spent.hours)}, "
        f"{compact(spent.device_hours)} device hours"
    )
    if spent.money is not None:
        text += f", {spent.money:,.2f} at {spent.price:,.2f} an hour"
    waits = spent.step - spent.compute
    if waits > 0.05 * spent.compute:
        text += f"; {100 * waits / spent.step:.0f} % of it waiting for what is sent"
    return text


def notes(
    recipe: StageRecipe, config: ModelConfig, machine: Machine, rows: list[Row]
) -> list[str]:
    """What the figures leave out."""
    found = []
    whole = 4 * count_parameters(config)["total"]
    if len(rows) > 1 and whole > 0.5 * machine.memory:
        found.append(
            f"note: with parallel.kind = 'fsdp' the first device holds all weights, "
            f"{gigabytes(whole)} GB, whenever it evaluates or samples"
        )
    if not isinstance(recipe, (PretrainRecipe, SFTRecipe)):
        found.append(
            "note: counted is one model that reads batch x length; judges, references, "
            "critics and sampling come on top"
        )
    if recipe.lora is not None:
        found.append(
            "note: counted as if all weights were trained; with [lora] gradients and "
            "optimizer are those of the updates alone"
        )
    return found
