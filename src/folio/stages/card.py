"""The model card of an exported run: what the model is, made of what, and how good.

All of it is read from the run's folder and those of its parents; what isn't known there
is said to be unknown. Paths of the machine that trained it are left out.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from folio import __version__
from folio.evals.answers import ALL
from folio.hub.tokenizer import template_of
from folio.model.config import ModelConfig
from folio.model.count import count_parameters
from folio.text.tokenizer import Tokenizer
from folio.training.progress import duration
from folio.training.run import Run
from folio.viz.names import readable, title_of

LEARNED_FROM = {
    "pretrain": "text",
    "sft": "conversations",
    "reward": "preferences",
    "dpo": "preferences",
    "ppo": "rewards of its own answers",
    "grpo": "rewards of its own answers",
    "distill": "another model's distributions",
}
MEASURED = ("val_", "greedy_", "sampled_")  # how the names of held-out numbers begin
_ABSOLUTE = re.compile(r'"(?:/|[A-Za-z]:\\\\)[^"\n]*"')


def model_card(
    run: Run, values: Mapping[str, Any], config: ModelConfig, tokenizer: Tokenizer
) -> str:
    """README.md of an exported run; `values` is the config.json that it lies beside."""
    line = list(lineage(run))
    name = run.folder.resolve().name
    parts = [
        front_matter(line),
        f"# {name}",
        summary(line[-1], values, config, tokenizer),
        usage(name, tokenizer),
        making(line),
        results(line[-1]),
        limits(line, config),
        LICENSES,
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def lineage(run: Run) -> Iterator[Run]:
    """The run's ancestors that are still there, pretraining first; then the run."""
    recorded = run.read_info().get("parent")
    if recorded:
        was = Path(recorded["path"])
        places = (was, run.folder.resolve().parent / was.name)
        found = next((place for place in places if Run(place).info.is_file()), None)
        if found is not None:
            yield from lineage(Run(found))
    yield run


# ---- parts ---------------------------------------------------------------------------


def front_matter(line: Sequence[Run]) -> str:
    """The YAML that the Hub reads."""
    tags = ["folio", *dict.fromkeys(stage_of(run) for run in line)]
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [{", ".join(tags)}]
---"""


def summary(
    run: Run, values: Mapping[str, Any], config: ModelConfig, tokenizer: Tokenizer
) -> str:
    """What it is, in a paragraph."""
    info = run.read_info()
    total = count_parameters(config)["total"]
    made = f"made by `folio {stage_of(run)}`"
    if source := info.get("source"):
        made = f"imported from {source['folder']} ({source['dtype']})"
    text = (
        f"A language model of {total:,} parameters ({values['model_type']}: "
        f"{config.n_layers} layers, {config.d_model} wide, up to "
        f"{config.max_seq_len:,} tokens), {made} and exported by Folio {__version__}. "
        f"Its tokenizer ({tokenizer.name}) has {tokenizer.vocab_size:,} tokens."
    )
    if info.get("status") not in ("finished", "imported"):
        text += " **Its training was not finished when it was exported.**"
    return text


def usage(name: str, tokenizer: Tokenizer) -> str:
    """Code that answers."""
    prompt = 'ids = tokenizer("Once", return_tensors="pt")'
    if template_of(tokenizer) is not None:
        prompt = """messages = [{"role": "user", "content": "Who are you?"}]
ids = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)"""
    return f"""## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({json.dumps(name)})
tokenizer = AutoTokenizer.from_pretrained({json.dumps(name)})
{prompt}
answer = model.generate(**ids, max_new_tokens=64)[0, ids["input_ids"].shape[1]:]
print(tokenizer.decode(answer, skip_special_tokens=True))
```"""


def making(line: Sequence[Run]) -> str:
    """Every stage from pretraining on: data, size, commands, recipes."""
    rows = [["run", "stage", "learns from", "data", "steps", "read", "time"]]
    for run in line:
        info = run.read_info()
        done = info.get("results") or {}
        rows.append(
            [
                run.folder.resolve().name,
                stage_of(run),
                LEARNED_FROM.get(stage_of(run), ""),
                data_of(info),
                f"{info['step']:,}" if "step" in info else "",
                amount_of(done),
                duration(done["seconds"]) if "seconds" in done else "",
            ]
        )
    commands = [command_of(run.read_info()) for run in line]
    commands = list(dict.fromkeys(command for command in commands if command))
    text = "## How it was made\n\n" + markdown_table(rows)
    if line[0].read_info().get("parent"):
        text += "\n\n(The runs before the first of these were not at hand.)"
    if commands:
        text += "\n\n```\n" + "\n".join(commands) + "\n```"
    return text + "".join(map(recipe_of, line))


def results(run: Run) -> str:
    """What the run measured on held-out data, and `folio eval` afterwards."""
    found = run.read_info().get("results") or {}
    rows = [["measure", "value"]]
    rows += [
        [title_of(readable(key)), f"{value:.4g}"]
        for key, value in found.items()
        if key.startswith(MEASURED) and "." not in key and value is not None
    ]
    text = ""
    if len(rows) > 1:
        text = f"At step {found.get('best_step') or run.read_info()['step']:,}:\n\n"
        text += markdown_table(rows)
    text = "\n\n".join(filter(None, [text, *answers_of(run.folder / "answers.json")]))
    return "## Held-out results\n\n" + (text or "None were recorded.")


def answers_of(path: Path) -> Iterator[str]:
    """One table for each part of what `folio eval RUN answers` has kept."""
    if not path.is_file():
        return
    for part, kept in json.loads(path.read_text(encoding="utf-8"))["parts"].items():
        greedy, sampled = (
            kept["results"][mode].get(ALL, {}) for mode in ("greedy", "sampled")
        )
        rows = [["measure", "greedy", "sampled"]]
        rows += [
            [title_of(readable(name)), interval(greedy.get(name)), interval(measure)]
            for name, measure in sampled.items()
        ]
        if len(rows) > 1:
            count = next(iter(sampled.values()))["count"]
            yield f"{count} prompts, {part} (95 % intervals):\n\n{markdown_table(rows)}"


def limits(line: Sequence[Run], config: ModelConfig) -> str:
    """What it can't do, as far as that follows from how it was made."""
    first = line[0].read_info()
    read = "It has read the data above and nothing else."
    if first.get("source") or first.get("parent"):
        read = "What else it has read, before the runs above, is not known here."
    return f"""## Limits

{read} It says wrong things as fluently as right ones, and looks back
{config.max_seq_len:,} tokens at most. Numbers above are of one run with one seed
({seed_of(line[-1])}), on data of the kind that it was trained on. Nobody has examined
it for bias or for harm: do so before you let people rely on it."""


LICENSES = """## Licenses

Folio's code is under the Apache License 2.0. That says nothing about this model: what
may be done with its weights depends on the licenses of the data that it was trained on,
and of the model that it began as, if any. Whoever publishes it should name them here,
and set `license` above."""


# ---- facts ---------------------------------------------------------------------------


def stage_of(run: Run) -> str:
    """What made the run: a stage, or `import`."""
    info = run.read_info()
    return info.get("stage") or (info.get("command") or "unknown").split()[0]


def seed_of(run: Run) -> str:
    return str(run.read_info().get("seed", "unknown"))


def data_of(info: Mapping[str, Any]) -> str:
    """Which data, and how much of it there is."""
    data = info.get("data") or {}
    name = Path(str(data.get("name", ""))).name
    sizes = [
        f"{data[key]:,} {key.removeprefix('train_').replace('_', ' ')}"
        for key in ("train_tokens", "train_conversations", "train_pairs")
        if data.get(key)
    ]
    return ", ".join(filter(None, [name, *sizes]))


def amount_of(done: Mapping[str, Any]) -> str:
    """What was read in training, repetitions counted."""
    return next(
        (f"{done[u]:,.0f} {u}" for u in ("tokens", "pairs", "sequences") if u in done),
        "",
    )


def command_of(info: Mapping[str, Any]) -> str:
    """The command that made a run, places on that machine by their names.

    >>> command_of({"command": "folio sft a.toml --run /home/me/b --data.path=/c/d"})
    'folio sft a.toml --run b --data.path=d'
    """
    command = info.get("command") or ""
    try:
        words = shlex.split(command)
    except ValueError:  # not as a shell would take it
        return ""
    return shlex.join(map(_named, words)) if words[:1] == ["folio"] else ""


def _named(word: str) -> str:
    flag, equals, value = word.rpartition("=")
    return flag + equals + (Path(value).name if Path(value).is_absolute() else value)


def recipe_of(run: Run) -> str:
    """The whole recipe, folded away."""
    if not run.recipe.is_file():
        return ""
    text = run.recipe.read_text(encoding="utf-8").strip()
    text = _ABSOLUTE.sub(lambda found: f'"{Path(found[0][1:-1]).name}"', text)
    return f"""

<details><summary>Recipe of {run.folder.resolve().name}</summary>

```toml
{text}
```

</details>"""


def interval(measure: Mapping[str, Any] | None) -> str:
    """
    >>> interval({"mean": 0.5, "low": 0.4321, "high": None})
    '0.5 (0.432 to ?)'
    """
    if measure is None or measure.get("mean") is None:
        return ""
    ends = measure["low"], measure["high"]
    low, high = ("?" if end is None else f"{end:.3g}" for end in ends)
    return f"{measure['mean']:.3g} ({low} to {high})"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head.

    >>> print(markdown_table([["a", "b"], ["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
