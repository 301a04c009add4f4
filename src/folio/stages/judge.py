"""`folio eval RUN judge`: what another model thinks of a run's answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from folio.config import UserError
from folio.data.record_files import Record, read_records
from folio.data.records import Prompt, prompt_of
from folio.evals.chat_api import ChatApi
from folio.evals.judge import (
    PAIR,
    SINGLE,
    Case,
    GradeReport,
    Judged,
    PairReport,
    judge_pairs,
    judge_singles,
)
from folio.evals.respond import respond_with
from folio.infer.sampling import Sampling
from folio.stages.asked import check_asked, known_prompt, tales_exam, the_first, unseen
from folio.stages.kept import options_of, write_findings
from folio.stages.use import load_run

Say = Callable[[str], None]
URL, KEY = "FOLIO_JUDGE_URL", "FOLIO_JUDGE_KEY"


def evaluate_judge(
    folder: Path,
    data: str | Path | None = None,
    *,
    url: str | None = None,
    model: str,
    key: str | None = None,
    against: Path | None = None,
    template: Path | None = None,
    tasks: Sequence[str] = (),
    count: int = 100,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    at_once: int = 8,
    timeout: float = 120.0,
    seed: int = 0,
    device: str = "auto",
    say: Say = print,
) -> PairReport | GradeReport:
    """Grades by the `model` at `url`; with `against`, which of two runs answers better.

    Prompts are those of a file, or of `tasks` of the embedded world. `url` and `key`
    are else FOLIO_JUDGE_URL and FOLIO_JUDGE_KEY of the environment; nothing is asked
    of any other address. All that was said is kept in judge.json, but never the key.
    """
    check_asked(data, tasks, count=count, max_new_tokens=max_new_tokens)
    api = _api(url, model, key, timeout)
    text = _template(template, SINGLE if against is None else PAIR)
    prompts = _prompts(folder, data, tasks, count, seed, say)

    def answers(run: Path) -> list[str]:
        respond = respond_with(*load_run(run, device), max_new_tokens, seed, say=say)
        return [a.text for [a] in respond(prompts, Sampling(temperature), 1)]

    ours = answers(folder)
    theirs = [""] * len(prompts) if against is None else answers(against)
    cases = [
        Case(prompt.messages, answer, other, prompt.response, prompt.where)
        for prompt, answer, other in zip(prompts, ours, theirs, strict=True)
    ]
    judged: list[Judged]
    if against is None:
        judged = judge_singles(api, cases, text, at_once, say)
        report: PairReport | GradeReport = GradeReport.of(judged)
    else:
        judged = judge_pairs(api, cases, text, at_once, say)
        report = PairReport.of(judged)
    say(report.table())
    options = options_of(
        data,
        tasks,
        url=api.url,
        model=model,
        against=against,
        template=text,
        count=count,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    kept = {"report": asdict(report), "judged": [asdict(one) for one in judged]}
    write_findings(folder, "judge.json", options, kept, say)
    return report


def _api(url: str | None, model: str, key: str | None, timeout: float) -> ChatApi:
    url = url or os.environ.get(URL)
    if not url:
        raise UserError(
            "no judge: give the base of an OpenAI-compatible API with --url (or in "
            f"{URL}), such as http://127.0.0.1:8000/v1"
        )
    return ChatApi(url, model, key or os.environ.get(KEY), timeout=timeout)


def _template(path: Path | None, otherwise: str) -> str:
    if path is None:
        return otherwise
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"template = {path}: can't read: {error}") from None


def _prompts(
    folder: Path,
    data: str | Path | None,
    tasks: Sequence[str],
    count: int,
    seed: int,
    say: Say,
) -> Sequence[Prompt]:
    if data is None:
        return tales_exam(tasks, count, seed).prompts
    prompts = [prompt_to_judge(record) for record in read_records(data)]
    return the_first(unseen(folder, data, prompts, say), count, data, say)


def prompt_to_judge(record: Record) -> Prompt:
    """A record as a prompt; unlike elsewhere its right answer needn't be known."""
    fields = record.fields
    if "prompt" not in fields or "answer" in fields:
        return known_prompt(record)
    unknown = prompt_of(Record(record.where, {**fields, "answer": "unknown"}))
    return replace(unknown, answer="", response="")
