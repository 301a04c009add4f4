"""`folio eval RUN harness`: the tasks of lm-evaluation-harness, asked of a run.

A task that is named downloads its questions; one in a YAML file says where they are.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from folio.config import UserError, nearest
from folio.evals.harness import HarnessRun, as_harness_model
from folio.evals.table import aligned
from folio.stages.kept import write_findings
from folio.stages.use import load_run

Say = Callable[[str], None]
Found = dict[str, dict[str, float]]  # {task: {metric: value, metric_stderr: error}}


def evaluate_harness(
    folder: Path,
    tasks: Sequence[str],
    *,
    shots: int | None = None,
    count: int | None = None,
    max_new_tokens: int = 256,
    seed: int = 0,
    device: str = "auto",
    say: Say = print,
) -> Found:
    """What the harness finds for each of `tasks`, names or paths of YAML files.

    shots: examples before each question, where the task doesn't say; count: questions
    of each task, none for all. Written to harness.json, too.
    """
    if not tasks:
        raise UserError("tasks: name some of the harness', or give a YAML file")
    if count is not None and count < 1:
        raise UserError(f"count = {count}: must be at least 1")
    model, tokenizer = load_run(folder, device)
    run = HarnessRun(model, tokenizer, most_new=max_new_tokens, seed=seed, say=say)
    results = _evaluate(as_harness_model(run), tasks, shots, count, seed)
    found = {task: _numbers(row) for task, row in results["results"].items()}
    say(harness_table(found))
    options = {"tasks": list(tasks), "shots": shots, "count": count}
    options |= {"max_new_tokens": max_new_tokens, "seed": seed}
    kept = {
        "lm_eval": importlib.metadata.version("lm_eval"),
        "tasks": found,
        "versions": results.get("versions", {}),
        "n-shot": results.get("n-shot", {}),
        "n-samples": results.get("n-samples", {}),
    }
    write_findings(folder, "harness.json", options, kept, say)
    return found


def _evaluate(
    model: Any,
    tasks: Sequence[str],
    shots: int | None,
    count: int | None,
    seed: int,
) -> Mapping[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    class Tasks(TaskManager):
        """Whatever a file or a download does wrong becomes one line."""

        def load(self, task_list):
            try:
                return super().load(task_list)
            except Exception as error:
                reason = " ".join(str(error).split())[:300]
                raise UserError(
                    f"tasks = {', '.join(tasks)}: {type(error).__name__}: {reason}"
                ) from None

    manager = Tasks()
    for task in tasks:
        if not Path(task).is_file() and task not in manager.all_tasks:
            raise UserError(
                f"tasks = {task!r}: no task of the harness, and no YAML file"
                f"{nearest(task, manager.all_tasks)}"
            )
    return simple_evaluate(
        model,
        tasks=list(tasks),
        num_fewshot=shots,
        limit=count,
        task_manager=manager,
        bootstrap_iters=1000,
        log_samples=False,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a task; "acc,none" is `acc` without a filter.

    >>> _numbers({"alias": "tea", "acc,none": 0.5, "f1,strict": 1, "x,none": "N/A"})
    {'acc': 0.5, 'f1,strict': 1.0}
    """
    return {
        name.removesuffix(",none"): float(value)
        for name, value in row.items()
        if "," in name and isinstance(value, (int, float))
    }


def harness_table(found: Found) -> str:
    """A line for each metric of each task."""

    def rows() -> Iterator[list[str]]:
        yield ["task", "metric", "value"]
        for task, numbers in found.items():
            for name, value in numbers.items():
                if "_stderr" in name:
                    continue
                metric, comma, filtered = name.partition(",")
                error = numbers.get(f"{metric}_stderr{comma}{filtered}", math.nan)
                shown = "" if math.isnan(error) else f" ± {error:.4f}"
                yield [task, name, f"{value:.4f}{shown}"]

    return aligned(list(rows()))
