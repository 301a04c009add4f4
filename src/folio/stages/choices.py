"""`folio eval RUN choices`: multiple choice, of a file or of the embedded world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from folio.data import tales
from folio.evals.choices import Results, choices_table, measure_choices
from folio.evals.questions import Question, read_questions, tales_questions
from folio.stages.asked import check_asked, the_first
from folio.stages.kept import options_of, write_findings
from folio.stages.use import load_run

Say = Callable[[str], None]


def evaluate_choices(
    folder: Path,
    data: str | Path | None = None,
    *,
    tasks: Sequence[str] = (),
    chat: bool = False,
    count: int = 500,
    seed: int = 0,
    device: str = "auto",
    say: Say = print,
) -> Results:
    """How often a run expects the right one of several answers; kept in choices.json.

    `count` questions of a file, or of `tasks` of the embedded world's validation part,
    put as documents do or, with `chat`, as users do.
    Returns accuracies with standard errors for each task.
    """
    check_asked(data, tasks, count=count)
    questions = _questions(data, tasks, count, seed, say)
    model, tokenizer = load_run(folder, device)
    found = measure_choices(model, tokenizer, questions, chat, say)
    say(choices_table(found))
    options = options_of(data, tasks, chat=chat, count=count, seed=seed)
    write_findings(folder, "choices.json", options, {"tasks": found}, say)
    return found


def _questions(
    data: str | Path | None, tasks: Sequence[str], count: int, seed: int, say: Say
) -> list[Question]:
    if data is not None:
        return the_first(read_questions(data), count, data, say)
    return tales_questions(seed, "validation", tasks or tales.CORE, count)
