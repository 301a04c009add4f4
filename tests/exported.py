"""Runs of a demo, and what Folio writes with them: what exports are held to."""

import os
from pathlib import Path

from folio.infer.generate import generate
from folio.infer.sampling import Sampling
from folio.stages import demo
from folio.stages.demo import SMOKE, TUNED
from folio.stages.use import load_run
from folio.text import ChatTemplate

TOKENS = 64
BEGINNINGS = ("One morning,", "It was Friday, and", "Everyone knew Mara")
QUESTIONS = ("Sort these words: pear, apple, fig.", "How many letters has “tiger”?")


def demo_runs(folder: Path) -> dict[str, Path]:
    """The policies of the demo in $FOLIO_DEMO, or else of a short one, made here."""
    home = os.environ.get("FOLIO_DEMO")
    if home:
        found = {name: Path(home) / name for name in ("pretrain", *TUNED)}
    else:
        found = demo.train_all(folder, 1, SMOKE)
    return {name: run for name, run in found.items() if name != "reward"}


def asked(name: str, tokenizer) -> list[tuple[str, list[int]]]:
    """Prompts for a run: (as text, control tokens by their names; as ids)."""
    if name == "pretrain":
        return [(text, tokenizer.prompt_ids(text)) for text in BEGINNINGS]
    template = ChatTemplate.of(tokenizer)
    talks = [[{"role": "user", "content": question}] for question in QUESTIONS]
    return [
        (template.text(talk, True), template.render(talk, tokenizer, True)[0])
        for talk in talks
    ]


def written(folder: Path, name: str) -> list[tuple[str, list[int], list[int]]]:
    """(prompt, its ids, the ids that Folio writes on with, greedily) of a run."""
    model, tokenizer = load_run(folder, "cpu")
    return [
        (text, ids, list(generate(model, ids, TOKENS, sampling=Sampling(0))))
        for text, ids in asked(name, tokenizer)
    ]
