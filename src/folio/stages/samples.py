"""`folio samples RUN RUN ...`: the same prompts through several runs, side by side.

Numbers say how much better a stage has made a model; this shows what that looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from folio.config import UserError, read_toml
from folio.data.embedded import tales_prompts
from folio.data.rows import encode
from folio.evals.answers import Answer
from folio.evals.respond import UNANSWERABLE, answer_all
from folio.files import write_atomically
from folio.infer.engine import Engine
from folio.infer.sampling import GREEDY, Sampling
from folio.stages.use import load_run
from folio.text.chat import ChatTemplate
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run

Say = Callable[[str], None]


@dataclass(frozen=True)
class Written:
    """What one run made of one prompt; `chat` if it was asked in a conversation."""

    run: str
    prompt: str
    chat: bool
    greedy: Answer
    sampled: Answer


def show_samples(
    folders: Sequence[Path],
    prompts: Sequence[str] = (),
    *,
    out: Path | None = None,
    plain: bool = False,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
    device: str = "auto",
    say: Say = print,
) -> list[list[Written]]:
    """Print what each run answers to each prompt, greedy and sampled once.

    Without prompts, those that the runs' own recipes sample from, or else some of the
    embedded world. A run that was never taught to answer writes on from the prompt as
    from any text; with `plain`, all do. With `out`, a page of Markdown is written, too.
    Returns a list for each prompt, with an entry for each run.
    """
    if not folders:
        raise UserError("name at least one run")
    sampling = Sampling(temperature)
    prompts = list(prompts) or own_prompts(folders) or embedded_prompts(seed)
    columns = []
    for name, folder in zip(names_of(folders), folders, strict=True):
        model, tokenizer = load_run(folder, device)
        chat = not plain and may_chat(folder, tokenizer)
        asked = [as_ids(prompt, tokenizer, chat) for prompt in prompts]
        engine = Engine(model, tokenizer)
        ways = [
            answer_all(engine, asked, max_new_tokens, way, seed=seed)
            for way in (GREEDY, sampling)
        ]
        columns.append(
            [
                Written(name, prompt, chat, greedy, sampled)
                for prompt, [greedy], [sampled] in zip(prompts, *ways, strict=True)
            ]
        )
    found = [list(row) for row in zip(*columns, strict=True)]
    for row in found:
        say(as_text(row, temperature))
    if out is not None:
        write_atomically(out, as_markdown(found, temperature))
        say(f"written to {out}")
    return found


# -------------------------------------------------------------------------- prompts


def own_prompts(folders: Sequence[Path]) -> list[str]:
    """What the recipes of these runs sample from while they train, each once."""
    found: dict[str, None] = {}
    for folder in folders:
        recipe = Run(folder).recipe
        if recipe.is_file():
            prompts = read_toml(recipe).get("sample", {}).get("prompts", [])
            found |= dict.fromkeys(prompt for prompt in prompts if prompt)
    return list(found)


def embedded_prompts(seed: int, count: int = 6) -> list[str]:
    """A few held-out questions of the embedded world, each of another task."""
    source = tales_prompts(seed, "validation")
    by_task: dict[str, str] = {}
    for index in range(100):
        prompt = source.make(index)
        by_task.setdefault(prompt.task, prompt.text)
    return list(by_task.values())[:count]


def may_chat(folder: Path, tokenizer: Tokenizer) -> bool:
    """Is it known how this model is talked to, and has it ever been?"""
    if Run(folder).read_info().get("stage") == "pretrain":
        return False
    try:
        ChatTemplate.of(tokenizer)
    except UserError:
        return False
    return True


def as_ids(prompt: str, tokenizer: Tokenizer, chat: bool) -> list[int]:
    """The prompt as a user's message before the reply, or as the start of a text."""
    if not chat:
        return tokenizer.prompt_ids(prompt)
    return encode([{"role": "user", "content": prompt}], tokenizer, "", True)[0]


def names_of(folders: Sequence[Path]) -> list[str]:
    """Their last parts, or all of their paths where those are not told apart.

    >>> names_of([Path("runs/a"), Path("runs/b")]), names_of([Path("x/a"), Path("y/a")])
    (['a', 'b'], ['x/a', 'y/a'])
    """
    short = [folder.name for folder in folders]
    if len(set(short)) == len(short):
        return short
    return [folder.as_posix() for folder in folders]


# -------------------------------------------------------------------------- showing


def as_text(row: Sequence[Written], temperature: float) -> str:
    """One prompt and all answers to it, for the terminal.

    >>> hen, none = Answer("A hen", False), UNANSWERABLE
    >>> print(as_text([Written("base", "Who?", True, hen, none)], 0.5))
    > Who?
    <BLANKLINE>
    base  greedy  A hen …
          T=0.5   (longer than this model can read)
    <BLANKLINE>
    """
    width = max(len(written.run) for written in row)
    warm = f"T={temperature:g}"
    lines = [*(f"> {line}" for line in row[0].prompt.splitlines()), ""]
    for written in row:
        for name, way, answer in (
            (written.run, "greedy", written.greedy),
            ("", warm, written.sampled),
        ):
            first, *others = _lines(answer)
            margin = f"{name:{width}}  {way:{max(6, len(warm))}}  "
            lines.append((margin + first).rstrip())
            lines += [(" " * len(margin) + line).rstrip() for line in others]
    return "\n".join([*lines, ""])


def as_markdown(found: Sequence[Sequence[Written]], temperature: float) -> str:
    """A page: a heading for each prompt, and what was written as indented blocks.

    Nothing that a model writes can end such a block.
    """
    parts = ["# Samples", ""]
    for row in found:
        parts += ["## Prompt", "", _block(row[0].prompt.splitlines()), ""]
        for written in row:
            way = "" if written.chat else ", writing on from the text"
            for name, answer in (
                ("greedy", written.greedy),
                (f"temperature {temperature:g}", written.sampled),
            ):
                parts += [f"**{written.run}**, {name}{way}", "", _block(_lines(answer))]
                parts.append("")
    return "\n".join(parts)


def _lines(answer: Answer) -> list[str]:
    """What was said, and whether it came to its end."""
    if answer is UNANSWERABLE:
        return ["(longer than this model can read)"]
    text = answer.text if answer.finished else answer.text + " …"
    return text.splitlines() or ["(nothing)"]


def _block(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines or [""])
