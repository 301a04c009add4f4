"""The report of one run: one page, from what the run left on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from folio.files import write_atomically
from folio.viz.attention import attention_view, read_attention
from folio.viz.experts import MEANING, load_view, read_load
from folio.viz.folder import Run, read_run
from folio.viz.layers import is_layered, layer_chart
from folio.viz.markup import Markup, join, tag
from folio.viz.names import readable, title_of
from folio.viz.numerals import compact, digits, duration, plain
from folio.viz.page import (
    Section,
    View,
    anchor,
    cards,
    chart,
    code,
    definitions,
    headline,
    page,
    table,
)
from folio.viz.panels import Family, coincide, constants, family_chart, is_steady
from folio.viz.samples import group, prompt_title, sample_strip
from folio.viz.svg import Series, smoothed
from folio.viz.tokens import read_tokens, token_lengths, token_strip, token_summary
from folio.viz.tuned import (
    AFTER,
    BEFORE,
    LOSSES,
    TITLES,
    claimed_keys,
    stage_of,
    tuned_numbers,
    tuned_sections,
    tuned_summary,
)


def write_report(run: str | Path) -> Path:
    """Draw `run`/report.html from the files of the run folder and return its path.

    Parts whose files are missing are left out; UserError names a damaged file.
    """
    folder = read_run(run)
    return write_atomically(folder.path / "report.html", render_report(folder))


def render_report(run: Run) -> str:
    """The page as a string; the same run gives the same string."""
    sections = [
        *tuned_sections(run, BEFORE),
        _curves(run),
        *tuned_sections(run, AFTER),
        _samples(run),
        _tokens(run),
        _attention(run),
        _experts(run),
        _tables(run),
        _recipe(run),
        _machine(run),
    ]
    return page(
        title=run.name,
        eyebrow=_eyebrow(run),
        summary=summary(run),
        opening=headline(headline_numbers(run)),
        sections=[section for section in sections if section],
    )


def _eyebrow(run: Run) -> str:
    status = run.get("status")
    state = "" if status in (None, "finished") else f" · {status}"
    started = str(run.get("started") or "")[:10]
    kind = TITLES.get(stage_of(run), "Training run")
    return kind + (f" · {started}" if started else "") + state


def summary(run: Run) -> str:
    """The run in a sentence, as far as its files tell."""
    stage, seconds = stage_of(run), run.results().get("seconds")
    text = tuned_summary(run, stage) if stage else _pretrained(run)
    text += f", in {duration(seconds)}" if seconds else ""
    machine = run.get("machine")
    return text + (f", on {machine}." if machine else ".")


def _pretrained(run: Run) -> str:
    results = run.results()
    size, data = results.get("parameters"), run.get("data", "name")
    text = f"{compact(size)} parameters" if size else "A model"
    text += f" trained on {data}" if data else " trained"
    text += f" for {results['step']:,} steps"
    tokens = results.get("tokens")
    return text + (f", {compact(tokens)} tokens" if tokens else "")


def headline_numbers(run: Run) -> list[tuple[str, str, str]]:
    """Name, value and remark of the five or six numbers on top."""
    if stage := stage_of(run):
        return tuned_numbers(run, stage)
    results = run.results()
    numbers = []
    if (loss := results.get("val_loss")) is not None:
        best = results.get("best_step")
        remark = "nats per token" + (f", step {best:,}" if best is not None else "")
        numbers.append(("validation loss", digits(loss), remark))
    elif (loss := results.get("loss")) is not None:
        numbers.append(("training loss", digits(loss), "nats per token, last step"))
    if (bits := results.get("val_bits_per_byte")) is not None:
        numbers.append(("bits per byte", digits(bits), "on the held-out part"))
    elif (perplexity := results.get("val_perplexity")) is not None:
        numbers.append(("perplexity", digits(perplexity), "on the held-out part"))
    if size := results.get("parameters"):
        inside = run.get("parameters", "embedding")
        remark = f"{compact(inside)} of them embeddings" if inside else ""
        numbers.append(("parameters", compact(size), remark))
    if tokens := results.get("tokens"):
        once = run.get("data", "train_tokens")
        remark = f"{plain(tokens / once, 2)} times through the text" if once else ""
        numbers.append(("tokens", compact(tokens), remark))
    if seconds := results.get("seconds"):
        rate = f"{compact(tokens / seconds)} tokens per second" if tokens else ""
        numbers.append(("time", duration(seconds), rate))
    return numbers


def _curves(run: Run) -> Section:
    claimed = claimed_keys(run)
    extra = [key for key in run.extra_keys() if key not in claimed]
    extra = [key for key in extra if not _repeats_loss(run, key)]
    single = [key for key in extra if "." not in key]
    steady = [
        key for key in single if len(y := run.column(key)[1]) > 1 and is_steady(y)
    ]
    charts = [_small_chart(run, *spec) for spec in SMALL if spec[0] not in claimed]
    for key in single:
        if key not in steady:
            title = title_of(readable(key))
            charts.append(_small_chart(run, key, title, "", "other"))
    small = tag("div", *(c for c in charts if c), class_="charts")
    families = dict.fromkeys(key.split(".")[0] for key in extra if "." in key)
    parts = [_by_part(run, family) for family in families]
    body = join([_loss_chart(run), small, *parts, constants(run, steady)])
    return Section("curves", "Learning", body, _meaning_of_loss(run))


def _meaning_of_loss(run: Run) -> str:
    if stage := stage_of(run):
        return LOSSES[stage]
    guess = run.get("tokenizer", "vocab_size")
    lead = "Loss is the surprise at the next token, in nats; lower is better."
    if isinstance(guess, int) and guess > 1:
        even = math.log(guess)
        lead += f" Guessing evenly among all {guess:,} tokens would score {even:.2f}."
    return lead


def _repeats_loss(run: Run, key: str) -> bool:
    """Whether it is the loss by another name, as the only part of a sum is."""
    whole = "val_loss" if key.startswith("val_") else "loss"
    part, loss = (Series(name, *run.column(name)) for name in (key, whole))
    return coincide(part, loss)


def _by_part(run: Run, family: str) -> Markup | None:
    """Layers over each other, or the parts of anything else."""
    if is_layered(run, family):
        return layer_chart(run, family)
    title = title_of(readable(family)) + ", part by part"
    return family_chart(run, Family(title, {"": family}))


def _loss_chart(run: Run) -> Markup | None:
    """Training and validation loss together, over the step or its logarithm."""
    training = _series(run, "loss", "train")
    held_out = _series(run, "val_loss", "validation")
    lines = smoothed(training) if training else []
    notes = []
    if len(lines) > 1:
        notes.append(
            "Thin: the training loss of every logged step. Thick: the same, smoothed "
            "(lines fitted to 2 % of the points on either side); below likewise."
        )
    if held_out:
        lines.append(held_out)
        notes.append("Validation: measured on text that is never trained on.")
    if not lines:
        return None
    late = [_from_step(line, 1) for line in lines]
    views = [
        View(lines, x_range=_all_steps(run), choices=(0,)),
        View(late, choices=(1,), x_label="step, logarithmic", x_log=True),
    ]
    switch = ("linear", "logarithmic")
    caption = " ".join(notes)
    return chart("loss", "Loss", views, caption=caption, switches=[switch], link="step")


# key in the log, title, remark, color's meaning
SMALL = [
    ("val_perplexity", "Perplexity", "held-out part: e to the loss", "validation"),
    ("val_bits_per_byte", "Bits per byte", "held-out part", "validation"),
    ("lr", "Learning rate", "", "rate"),
    ("grad_norm", "Gradient norm", "before clipping", "gradient"),
    ("tokens_per_second", "Tokens per second", "", "speed"),
    ("pairs_per_second", "Pairs per second", "", "speed"),
]


def _series(run: Run, key: str, color: str, name: str | None = None) -> Series | None:
    steps, values = run.column(key)
    if not values:
        return None
    dots = color == "validation" and len(values) <= 60
    return Series(name or color, steps, values, color=color, dots=dots)


def _all_steps(run: Run) -> tuple[float, float] | None:
    """One horizontal axis for all charts, from zero to the last step."""
    last = run.rows[-1]["step"]
    return (0.0, float(last)) if last > 0 else None


def _from_step(line: Series, first: float) -> Series:
    """Without what a logarithmic axis has no place for."""
    pairs = [(x, y) for x, y in zip(line.x, line.y, strict=True) if x >= first]
    xs, ys = zip(*pairs, strict=True) if pairs else ((), ())
    return Series(line.name, xs, ys, line.color, line.raw, line.dots)


def _small_chart(run: Run, key: str, title: str, remark: str, color: str):
    line = _series(run, key, color, name=title.lower())
    if line is None:
        return None
    positive = [value for value in line.y if math.isfinite(value) and value > 0]
    wide = len(positive) == len(line.y) and max(positive) > 50 * min(positive)
    log = wide and key in ("grad_norm", "val_perplexity")
    remarks = [remark, "logarithmic" if log else ""]
    steady = key == "lr" or line.dots
    view = View(
        [line] if steady else smoothed(line), y_log=log, x_range=_all_steps(run)
    )
    caption = ", ".join(text for text in remarks if text)
    return chart(anchor(key), title, [view], caption=caption, small=True, link="step")


def _samples(run: Run) -> Section | None:
    if not run.samples:
        return None
    steps, losses = run.column("val_loss")
    known = dict(zip(steps, losses, strict=True))
    blocks = []
    for index, ((prompt, heat), samples) in enumerate(group(run.samples).items()):
        strip, title = sample_strip(samples, known), prompt_title(prompt, heat)
        blocks.append(
            tag("details", tag("summary", title), strip, open=index < 2, class_="asked")
        )
    lead = "The same prompts, answered again as training went on."
    return Section("samples", "Samples", join(blocks), lead)


def _tokens(run: Run) -> Section | None:
    record = read_tokens(run.path / "figures" / "tokens.json")
    if not record or not record["tokens"]:
        return None
    size = run.get("tokenizer", "vocab_size")
    lead = "A sentence of the held-out part as the model reads it: " + token_summary(
        record
    )
    lead += f" The vocabulary has {size:,} tokens." if isinstance(size, int) else ""
    note = (
        "Below each token its id, and a dot per byte. "
        "Colors only tell neighbors apart; · is a space, ⏎ a line end."
    )
    bars = tag("h3", "Tokens by length"), token_lengths(record["tokens"])
    body = [
        tag("div", token_strip(record["tokens"]), tag("p", note, class_="quiet")),
        tag("div", *bars, class_="bars"),
    ]
    return Section("tokens", "Tokens", tag("div", *body, class_="token-part"), lead)


def _attention(run: Run) -> Section | None:
    record = read_attention(run.path / "figures" / "attention.json")
    if record is None or not record.tokens:
        return None
    lead = (
        "Each row is a token, each column a token it may look at; the stronger the "
        "color, the more of what it sees comes from there."
    )
    return Section("attention", "Attention", attention_view(record), lead)


def _experts(run: Run) -> Section | None:
    load = read_load(run.path / "figures" / "experts.json")
    if load is None:
        return None
    return Section("experts", "Experts", load_view({"load": load}), MEANING)


def _tables(run: Run) -> Section | None:
    if not run.tables:
        return None
    parts = []
    for record in run.tables:
        title = record.get("title")
        parts.append(tag("h3", str(title)) if title else None)
        parts.append(table(record["columns"], record["rows"]))
    return Section("results", "Results", join(parts))


def _recipe(run: Run) -> Section | None:
    if not run.recipe:
        return None
    lead = "Everything that was decided before the first step."
    return Section("recipe", "Recipe", cards(recipe_tables(run.recipe)), lead)


def recipe_tables(recipe: Mapping[str, Any], name: str = "") -> dict[str, dict]:
    """One table of plain values per table of the recipe, under its dotted name.

    >>> recipe_tables({"seed": 1, "data": {"name": "tales", "split": {"val": 0.1}}})
    {'run': {'seed': 1}, 'data': {'name': 'tales'}, 'data.split': {'val': 0.1}}
    """
    plain_values = {k: v for k, v in recipe.items() if not isinstance(v, dict)}
    tables = {name or "run": plain_values} if plain_values else {}
    for key, value in recipe.items():
        if isinstance(value, dict):
            tables |= recipe_tables(value, f"{name}.{key}" if name else key)
    return tables


def _machine(run: Run) -> Section | None:
    """Where and with what it ran, what was replaced, and how to run it again."""
    if not run.info:
        return None
    groups: dict[str, dict[str, Any]] = {"numbers": {}, "machine and versions": {}}
    counted = ("flops_per_token", "seed", "step", "status")
    hidden = ("notes", "command", "results")
    for key, value in run.info.items():
        if key in hidden or value is None:
            continue
        if isinstance(value, dict):
            groups[key] = {k.replace("_", " "): v for k, v in value.items()}
        else:
            where = "numbers" if key in counted else "machine and versions"
            groups[where][key.replace("_", " ")] = value
    parts: list[Markup | None] = [_notes(run), cards(groups)]
    if command := run.get("command"):
        parts.append(tag("h3", "Again, from the start"))
        parts.append(code(str(command)))
        parts.append(_conditions(run))
    lead = "What it ran on, what it was made of, and the command that made it."
    return Section("machine", "Machine", join(parts), lead)


def _notes(run: Run) -> Markup | None:
    notes = run.get("notes")
    if not isinstance(notes, list) or not notes:
        return None
    title = tag("h3", "Replaced or worth knowing")
    return tag("div", title, tag("ul", *(tag("li", n) for n in notes)), class_="notes")


def _conditions(run: Run) -> Markup:
    commit, seed = run.get("commit"), run.get("seed")
    facts = {
        "commit": commit,
        "seed": seed,
        "data fingerprint": run.get("data", "fingerprint"),
        "tokenizer fingerprint": run.get("tokenizer", "fingerprint"),
        "parent run": run.get("parent"),
    }
    return definitions({name: v for name, v in facts.items() if v is not None})
