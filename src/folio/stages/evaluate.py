"""`folio eval RUN answers`, `preference` and `sanity`: what post-training has changed.

Prompts and pairs come from a file, or are made by the embedded world, whose validation
part no training sees. What is found is printed, and kept as JSON in the run's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from folio.config import UserError
from folio.data import tales
from folio.data.records import Prompt
from folio.data.verifiers import verify
from folio.evals.answers import Answer, AnswerEvaluator, Results
from folio.evals.best_of import choosing
from folio.evals.preference import judge_pairs
from folio.evals.respond import respond_with
from folio.evals.sanity import Known, Sanity, judge_answers, judge_degenerate
from folio.evals.scoring import Score, scores_with
from folio.evals.table import aligned, shown
from folio.infer.sampling import Sampling
from folio.stages.asked import (
    Exam,
    check_asked,
    file_exam,
    held_out_pairs,
    tales_exam,
    training_pairs,
)
from folio.stages.kept import options_of, write_findings
from folio.stages.use import load_run, load_scorer
from folio.viz.sanity import write_sanity

Say = Callable[[str], None]
SHOWN = ("exact", "gold", "accuracy", "style", "f1", "rouge_l", "numeric", "finished")


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
    check_asked(
        data, tasks, count=count, max_new_tokens=max_new_tokens, best_of=best_of
    )
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
    options = options_of(
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
    check_asked(data, tasks, count=count)
    score = load_score(folder, device, say)
    pairs = held_out_pairs(data, tasks, count, seed, say, folder)
    known = training_pairs(data, training, tasks, seed, say, folder)
    sanity = Sanity(judge_pairs(score, pairs, known, seed))
    say(sanity.table())
    options = options_of(data, tasks, training=training, count=count, seed=seed)
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
    check_asked(data, tasks, count=count, asked=asked, samples=samples)
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
    options = options_of(
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
