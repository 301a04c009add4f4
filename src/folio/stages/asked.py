"""What an evaluation asks: prompts and pairs of a file, or of the embedded world.

What a run has learned from is left out: nothing is judged by what it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from folio.config import UserError, read_toml
from folio.data import tales
from folio.data.embedded import (
    TALES_SCORES,
    tales_accuracy,
    tales_pairs,
    tales_prompts,
    tales_score,
)
from folio.data.parts import divide
from folio.data.record_files import Record, read_records
from folio.data.records import (
    FINAL_ANSWER,
    Conversation,
    Pair,
    Prompt,
    conversation_of,
    prompt_of,
    read_pairs,
)
from folio.data.verifiers import Verifier, exact_answer, number_answer
from folio.stages.tuned import shares_of
from folio.stages.tuning import RecordsRecipe
from folio.training.run import Run

Say = Callable[[str], None]
Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Exam:
    """Prompts with known answers, and who judges others.

    `right` says 1 of a right answer, `truth` what an answer is worth; `scores` are
    further measures to be reported.
    """

    prompts: Sequence[Prompt]
    right: Verifier = exact_answer
    truth: Verifier = exact_answer
    scores: Mapping[str, Verifier] = field(default_factory=dict)


def tales_exam(
    tasks: Sequence[str], count: int, seed: int, *, held_out: bool = False
) -> Exam:
    """Prompts of the embedded world's validation part, in unseen wordings or not."""
    source = tales_prompts(seed, "validation", tasks or tales.CORE, held_out=held_out)
    prompts = [source.make(i) for i in range(count)]
    return Exam(prompts, tales_accuracy, tales_score, TALES_SCORES)


def file_exam(
    path: str | Path, count: int, say: Say = print, run: Path | None = None
) -> Exam:
    """The first `count` prompts of a file; the last answers of conversations are gold.

    Of a file that `run` has learned from, those of its test part.
    Solutions that end with `#### 42` are right if the number is; others to the letter.
    """
    prompts = [known_prompt(record) for record in read_records(path)]
    prompts = the_first(unseen(run, path, prompts, say), count, path, say)
    if all(FINAL_ANSWER in prompt.response for prompt in prompts):
        return Exam(prompts, number_answer, number_answer, {"accuracy": number_answer})
    return Exam(prompts)


def known_prompt(record: Record) -> Prompt:
    """A record as a prompt with a known answer, whether it was meant as one or not."""
    fields = record.fields
    solved = "question" in fields and FINAL_ANSWER in str(fields.get("answer"))
    if "prompt" in fields or solved:
        return prompt_of(record)
    return last_exchange(conversation_of(record))


def last_exchange(conversation: Conversation) -> Prompt:
    """The assistant's last message as the gold response to all that was said before.

    >>> said = [("user", "A?"), ("assistant", "B"), ("user", "Thanks.")]
    >>> messages = tuple({"role": role, "content": text} for role, text in said)
    >>> prompt = last_exchange(Conversation(messages))
    >>> prompt.text, prompt.response
    ('A?', 'B')
    """
    messages = conversation.messages
    last = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
    before, gold = messages[:last], messages[last]["content"]
    if not before or before[-1]["role"] not in ("user", "tool"):
        raise UserError(
            f"{conversation.where}: the assistant's last message answers nobody; it "
            "must follow a message of the user"
        )
    return Prompt(before, gold, gold, where=conversation.where)


def own_parts(
    run: Path | None, path: str | Path, records: list[T]
) -> dict[str, list[T]] | None:
    """The parts of a file that a run has learned from; None if it was another file."""
    if run is None or not Run(run).recipe.is_file():
        return None
    data = read_toml(Run(run).recipe).get("data", {})
    own = data.get("path")
    if own is None or "split" not in data:  # a text has no records
        return None
    if Path(own).resolve() != Path(path).resolve():
        return None
    return divide(records, shares_of(RecordsRecipe(split=tuple(data["split"]))))


def unseen(run: Path | None, path: str | Path, records: list[T], say: Say) -> list[T]:
    """What of a file a run has not learned from: all of it, unless it was its own."""
    parts = own_parts(run, path, records)
    if parts is None:
        return records
    name = "test" if "test" in parts else "validation"
    say(
        f"{path}: {run} has learned from it, so only its {name} part counts: "
        f"{len(parts[name])} of {len(records)} records"
    )
    return parts[name]


def held_out_pairs(
    data: str | Path | None,
    tasks: Sequence[str],
    count: int,
    seed: int,
    say: Say,
    run: Path | None = None,
) -> list[Pair]:
    """The first `count` pairs of a file, or of the embedded world's validation part."""
    if data is not None:
        pairs = unseen(run, data, read_pairs(data, say), say)
        return the_first(pairs, count, data, say)
    source = tales_pairs(seed, "validation", tasks or tales.CORE)
    return [source.make(i) for i in range(count)]


def training_pairs(
    data: str | Path | None,
    training: str | Path | None,
    tasks: Sequence[str],
    seed: int,
    say: Say,
    run: Path | None = None,
) -> list[Pair]:
    """What a baseline may learn from: a file, or the embedded world's training part."""
    if training is not None:
        return read_pairs(training, say)
    if data is not None:
        parts = own_parts(run, data, read_pairs(data, say))
        return [] if parts is None else parts["train"]
    source = tales_pairs(seed, "train", tasks or tales.CORE)
    return [source.make(i) for i in range(1000)]


def the_first(records: list, count: int, path: str | Path, say: Say) -> list:
    if not records:
        raise UserError(f"{path}: holds no records")
    if len(records) > count:
        say(f"{path}: the first {count} of {len(records)} records")
    return records[:count]


def check_asked(data: object, tasks: Sequence[str], **counts: int) -> None:
    if data is not None and tasks:
        raise UserError(
            f"tasks = {', '.join(tasks)}: they belong to the embedded world, so give "
            "them or a file, not both"
        )
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"{name} = {value}: must be at least 1")
