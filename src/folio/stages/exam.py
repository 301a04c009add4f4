"""What tuned models are measured on while they learn: answers to held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence

from folio.data.embedded import tales_accuracy, tales_score
from folio.data.records import Prompt
from folio.data.verifiers import Verifier, exact_answer, number_answer
from folio.evals.answers import ALL, AnswerEvaluator, Results
from folio.evals.respond import respond_with
from folio.infer.sampling import Sampling
from folio.model.decoder import Decoder
from folio.stages.asked import Exam, tales_exam
from folio.stages.assemble import Measure, Say
from folio.stages.tuning import AnswersRecipe
from folio.text.tokenizer import Tokenizer

EXAM_SEED = 0  # every run answers the same prompts, so that rows can be compared
LOGGED = ("exact", "gold", "accuracy", "style", "f1", "numeric", "finished")
VERIFIERS: dict[str, Verifier] = {
    "tales": tales_score,
    "exact": exact_answer,
    "number": number_answer,
}
RIGHT: dict[str, Verifier] = VERIFIERS | {"tales": tales_accuracy}  # says 1 or 0


def exam_of(
    prompts: Sequence[Prompt] | None,
    tasks: Sequence[str],
    count: int,
    verifier: str = "exact",
) -> Exam | None:
    """The first `count` held-out prompts, or the embedded world's; none if it is 0."""
    if not count:
        return None
    if prompts is None:
        return tales_exam(tasks, count, EXAM_SEED)
    right = RIGHT[verifier]
    scores = {} if verifier == "exact" else {"accuracy": right}
    return Exam(prompts[:count], right, right, scores)


def answers_measure(
    exam: Exam | None,
    options: AnswersRecipe,
    model: Decoder,
    tokenizer: Tokenizer,
    say: Say,
) -> Measure:
    """Greedy and sampled answers; the share of right ones for each task, too."""
    if exam is None:
        return dict
    respond = respond_with(model, tokenizer, options.max_new_tokens, say=say)
    evaluator = AnswerEvaluator(
        exam.prompts,
        options.samples,
        Sampling(options.temperature),
        exam.scores,
        exam.right,
    )
    return lambda: flat(evaluator(respond))


def flat(results: Results) -> dict[str, float]:
    """{"sampled_gold": 0.9, "sampled_accuracy.date": 0.8, ...} for the log."""
    row = {}
    for mode, tasks in results.items():
        overall = tasks[ALL]
        row |= {f"{mode}_{n}": overall[n].mean for n in LOGGED if n in overall}
        by_task = "accuracy" if "accuracy" in overall else "exact"
        for task, measures in tasks.items():
            if task != ALL:
                row[f"{mode}_{by_task}.{task}"] = measures[by_task].mean
    return row
