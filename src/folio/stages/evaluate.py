"""`folio eval RUN answers`, `preference` and `sanity`: what post-training has changed.

Prompts and pairs come from a file, or are made by the embedded world, whose validation
part no training sees. What is found is printed, and kept as JSON in the run's folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

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
from folio.data.verifiers import Verifier, exact_answer, number_answer, verify
from folio.evals.answers import Answer, AnswerEvaluator, Results
from folio.evals.best_of import choosing
from folio.evals.preference import judge_pairs
from folio.evals.respond import respond_with
from folio.evals.sanity import Known, Sanity, judge_answers, judge_degenerate
from folio.evals.scoring import Score, scores_with
from folio.evals.table import aligned, shown
from folio.files import write_atomically
from folio.infer.sampling import Sampling
from folio.stages.tuned import shares_of
from folio.stages.tuning import RecordsRecipe
from folio.stages.use import load_run, load_scorer
from folio.training.run import Run
from folio.viz.sanity import write_sanity

Say = Callable[[str], None]
T = TypeVar("T")
SHOWN = ("exact", "gold", "accuracy", "style", "f1", "rouge_l", "numeric", "finished")


# ------------------------------------------------------------------ what is asked


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
    prompts = _first(unseen(run, path, prompts, say), count, path, say)
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
        return _first(pairs, count, data, say)
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


def _first(records: list, count: int, path: str | Path, say: Say) -> list:
    if not records:
        raise UserError(f"{path}: holds no records")
    if len(records) > count:
        say(f"{path}: the first {count} of {len(records)} records")
    return records[:count]


def _check(data: object, tasks: Sequence[str], **counts: int) -> None:
    if data is not None and tasks:
        raise UserError(
            f"tasks = {', '.join(tasks)}: they belong to the embedded world, so give "
            "them or a file, not both"
        )
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"{name} = {value}: must be at least 1")


# ------------------------------------------------------------------------- answers


def evaluate_answers(
    folder: Path,
    data: str | Path | None = None,
    *,
    tasks: Sequence[str] = (),
    count: int = 500,
    samples: int = 4,
    temperature: float = 1.0,
    max_new_tokens: int = 48,
    judge: Path | None = None,
    best_of: int = 1,
    seed: int = 0,
    device: str = "auto",
    say: Say = print,
) -> dict[str, Results]:
    """Measure a run's answers, greedy and sampled; written to answers.json, too.

    The prompts are those of a file, or of `tasks` of the embedded world; there, also
    in wordings that training never uses. With `best_of`, each sampled answer is the one
    of so many that the reward model `judge` scores highest. Returns the results of each
    part by name.
    """
    _check(data, tasks, count=count, max_new_tokens=max_new_tokens, best_of=best_of)
    if (judge is None) != (best_of == 1):
        raise UserError(
            f"best_of = {best_of}, judge = {judge}: a reward model chooses the best of "
            "several; give both, or neither"
        )
    model, tokenizer = load_run(folder, device)
    if data is not None:
        parts = {Path(data).name: file_exam(data, count, say, folder)}
    else:
        parts = {
            "seen wordings": tales_exam(tasks, count, seed),
            "unseen wordings": tales_exam(tasks, count, seed, held_out=True),
        }
    respond = respond_with(model, tokenizer, max_new_tokens, seed, say=say)
    if judge is not None:
        respond = choosing(respond, load_score(judge, device, say), best_of)
    found, kept = {}, {}
    for name, exam in parts.items():
        evaluator = AnswerEvaluator(
            exam.prompts,
            samples,
            Sampling(temperature),
            exam.scores,
            exam.right,
            ks=(samples,) if samples > 1 else (),
        )
        found[name] = evaluator(respond)
        say(f"\n{name}: greedy, and {samples} sampled at temperature {temperature:g}")
        say("\n" + answers_table(found[name]))
        kept[name] = {"prompts": evaluator.fingerprint, "results": found[name]}
    options = _options(
        data,
        tasks,
        count=count,
        samples=samples,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        judge=judge,
        best_of=best_of,
        seed=seed,
    )
    write_findings(folder, "answers.json", options, {"parts": kept}, say)
    return found


def answers_table(results: Results) -> str:
    """A block for each task, greedy beside sampled, with 95 % intervals."""
    greedy, sampled = results["greedy"], results["sampled"]
    blocks = []
    for task, measures in sampled.items():
        rows = [[f"{task} ({measures['exact'].count})", "greedy", "sampled"]]
        chances = [name for name in measures if name.startswith("pass@")]
        for name in (*SHOWN, *chances):
            if name in measures:
                rows.append(
                    [name, shown(greedy[task].get(name)), shown(measures[name])]
                )
        blocks.append(aligned(rows))
    return "\n\n".join(blocks)


# --------------------------------------------------------------------- reward models


def evaluate_preference(
    folder: Path,
    data: str | Path | None = None,
    *,
    tasks: Sequence[str] = (),
    training: str | Path | None = None,
    count: int = 500,
    seed: int = 0,
    device: str = "auto",
    say: Say = print,
) -> Sanity:
    """Does a reward model prefer what is preferred? Written to preference.json, too.

    Pairs come from a file or the embedded world. A baseline that sees only lengths is
    fitted to the pairs of the file `training`, to those that the run has learned from,
    or to the embedded world's.
    """
    _check(data, tasks, count=count)
    score = load_score(folder, device, say)
    pairs = held_out_pairs(data, tasks, count, seed, say, folder)
    known = training_pairs(data, training, tasks, seed, say, folder)
    sanity = Sanity(judge_pairs(score, pairs, known, seed))
    say(sanity.table())
    options = _options(data, tasks, training=training, count=count, seed=seed)
    write_findings(folder, "preference.json", options, sanity.to_dict(), say)
    return sanity


def evaluate_sanity(
    folder: Path,
    policy: Path | None = None,
    data: str | Path | None = None,
    *,
    tasks: Sequence[str] = (),
    training: str | Path | None = None,
    count: int = 500,
    asked: int = 100,
    samples: int = 16,
    temperature: float = 1.0,
    max_new_tokens: int = 48,
    seed: int = 0,
    device: str = "auto",
    say: Say = print,
) -> Sanity:
    """Is a reward model fit to be optimized? Kept as sanity.json and .html, too.

    Besides preferences (see `evaluate_preference`), degenerate answers to `asked`
    prompts. In the embedded world, also answers whose truth is known: `samples` of the
    run `policy` to each prompt, or else right and wrong ones in each style. Of pairs
    from a file the chosen answers count as the right ones, and nobody knows the truth.
    """
    _check(data, tasks, count=count, asked=asked, samples=samples)
    if data is not None and policy is not None:
        raise UserError(
            f"the truth of what {policy} answers is known in the embedded world only; "
            f"leave out the policy or {data}"
        )
    score = load_score(folder, device, say)
    pairs = held_out_pairs(data, tasks, count, seed, say, folder)
    known = training_pairs(data, training, tasks, seed, say, folder)
    if data is not None:
        answers, prompts = (
            None,
            [Prompt(pair.prompt, pair.chosen, pair.chosen) for pair in pairs[:asked]],
        )
    else:
        exam = tales_exam(tasks, asked, seed)
        prompts = exam.prompts
        if policy is None:
            drawn = [styled_answers(prompt) for prompt in prompts]
        else:
            writer, its_tokenizer = load_run(policy, device)
            respond = respond_with(writer, its_tokenizer, max_new_tokens, seed, say=say)
            drawn = respond(prompts, Sampling(temperature), samples)
        answers = judge_answers(score, prompts, known_answers(exam, drawn))
    sanity = Sanity(
        judge_pairs(score, pairs, known, seed),
        judge_degenerate(score, prompts),
        answers,
    )
    say(sanity.table())
    options = _options(
        data,
        tasks,
        policy=policy,
        training=training,
        count=count,
        asked=asked,
        samples=samples,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    write_findings(folder, "sanity.json", options, sanity.to_dict(), say)
    say(f"drawn in {write_sanity(folder)}")
    return sanity


def load_score(folder: Path, device: str, say: Say) -> Score:
    """How the reward model of a run scores answers."""
    model, tokenizer = load_scorer(folder, device)
    return scores_with(model, tokenizer, say=say)


def styled_answers(prompt: Prompt) -> list[Answer]:
    """An embedded prompt's right answer and a wrong one, each in all styles."""
    item = prompt.item
    texts = [
        style.format(a) for a in (item.answer, item.wrong) for style in tales.STYLES
    ]
    return [Answer(text, finished=True) for text in texts]


def known_answers(exam: Exam, drawn: Sequence[Sequence[Answer]]) -> list[list[Known]]:
    """Answers with what they are worth: for each prompt of the exam several."""
    return [
        [
            Known(
                *answer,
                truth=verify(exam.truth, prompt, *answer),
                right=verify(exam.right, prompt, *answer) == 1,
            )
            for answer in answers
        ]
        for prompt, answers in zip(exam.prompts, drawn, strict=True)
    ]


# ---------------------------------------------------------------------------- keeping


def write_findings(
    folder: Path,
    name: str,
    options: Mapping[str, Any],
    found: Mapping[str, Any],
    say: Say,
) -> Path:
    """What was asked and what came out, as JSON in the run's folder."""
    content = plain({"options": options, **found})
    path = Path(folder) / name
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")
    say(f"\nwritten to {path}")
    return path


def plain(value: Any) -> Any:
    """For JSON: dataclasses become tables, paths text, what isn't finite null.

    >>> plain({"mean": 1.5, "high": math.inf, "file": Path("a.jsonl")})
    {'mean': 1.5, 'high': None, 'file': 'a.jsonl'}
    """
    if is_dataclass(value):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: plain(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(own) for own in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _options(
    data: str | Path | None, tasks: Sequence[str], **others: Any
) -> dict[str, Any]:
    """What was asked for: of which data, and how."""
    return {"data": data, "tasks": list(tasks), **others}
