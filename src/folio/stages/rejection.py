"""Rejection sampling: the parent answers many times, and learns from its best answers.

The simplest way to improve on a reward (best of n, distilled; Touvron et al. 2023,
section 3.2.3): no gradient through a reward, no ratio, no KL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from folio.config import UserError
from folio.data.embedded import tales_prompts
from folio.data.parts import divide
from folio.data.records import Prompt, read_conversations
from folio.data.verifiers import tales_score, verify
from folio.evals.answers import Answer
from folio.evals.respond import respond_with
from folio.evals.scoring import scores_with
from folio.files import write_atomically
from folio.infer.sampling import Sampling
from folio.stages.asked import last_exchange
from folio.stages.assemble import Say
from folio.stages.tuned import check_same_tokenizer, prepare_tuned, shares_of
from folio.stages.tuning import ChatsRecipe, SFTRecipe
from folio.stages.use import load_run, load_scorer
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run

BEST = "conversations.jsonl"  # the answers that were kept, in the run's folder
Worth = Callable[[Prompt, Sequence[str]], list[float]]


def prepare_sft(recipe: SFTRecipe, run: Run, resume: bool, say: Say) -> None:
    """The tokenizer, and the parent's best answers if they are what is learned.

    They are written down: what a run learned from can be read, and used again.
    """
    prepare_tuned(recipe, run, resume, say)
    path = run.folder / BEST
    if not recipe.data.rejection or (resume and path.is_file()):
        return
    model, tokenizer = load_run(Path(recipe.parent), recipe.train.device)
    prompts, data = prompts_of(recipe.data, recipe.seed), recipe.data
    worth = worth_of(data, tokenizer, recipe.train.device, say)
    respond = respond_with(
        model, tokenizer, data.max_new_tokens, seed=recipe.seed, say=say
    )
    answers = respond(prompts, Sampling(data.temperature), data.samples)
    kept = best_answers(prompts, answers, worth)
    say(f"{len(kept)} of {len(prompts)} prompts have an answer worth learning")
    if not kept:
        raise UserError(
            f"data.max_new_tokens = {data.max_new_tokens}: no answer to any prompt "
            "came to an end; allow more, or begin with one that has learned to stop"
        )
    lines = [json.dumps({"messages": talk}, ensure_ascii=False) for talk in kept]
    write_atomically(path, "\n".join(lines) + "\n")


def prompts_of(data: ChatsRecipe, seed: int) -> list[Prompt]:
    """The training prompts to be answered; never held-out ones."""
    if data.path is None:
        source = tales_prompts(seed, "train", data.tasks)
        return [source.make(i) for i in range(data.rejection)]
    talks = divide(read_conversations(data.path), shares_of(data))["train"]
    return [last_exchange(talk) for talk in talks[: data.rejection]]


def worth_of(data: ChatsRecipe, tokenizer: Tokenizer, device: str, say: Say) -> Worth:
    """What answers are worth: by a reward model, or by the embedded world's truth."""
    if data.judge is not None:
        check_same_tokenizer(data.judge, tokenizer, "data.judge")
        score = scores_with(*load_scorer(Path(data.judge), device), say=say)
        return lambda prompt, texts: score([(prompt.messages, t) for t in texts])
    if data.path is not None:
        raise UserError(
            f"data.rejection = {data.rejection}: nobody knows what answers to "
            f"{data.path} are worth; name a reward model as data.judge"
        )
    return lambda prompt, texts: [verify(tales_score, prompt, t, True) for t in texts]


def best_answers(
    prompts: Sequence[Prompt], answers: Sequence[Sequence[Answer]], worth: Worth
) -> list[list[dict[str, str]]]:
    """Conversations that end with the best finished answer, the first of equals.

    >>> prompt = Prompt(({"role": "user", "content": "?"},), "", "")
    >>> said = [Answer("a", True), Answer("bbb", False), Answer("cc", True)]
    >>> best_answers([prompt], [said], lambda prompt, texts: list(map(len, texts)))
    [[{'role': 'user', 'content': '?'}, {'role': 'assistant', 'content': 'cc'}]]
    """
    kept = []
    for prompt, said in zip(prompts, answers, strict=True):
        texts = [answer.text for answer in said if answer.finished]
        if not texts:
            continue
        values = worth(prompt, texts)
        best = texts[max(range(len(texts)), key=values.__getitem__)]
        kept.append([*prompt.messages, {"role": "assistant", "content": best}])
    return kept
