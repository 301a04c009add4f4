"""One prompt through several runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from folio.config import UserError
from folio.infer.request import Handle, Request
from folio.infer.sampling import Sampling
from folio.studio.models import Loaded
from folio.studio.text import ids_of
from folio.viz.dialog import answer_view, answers_view, notice
from folio.viz.markup import Markup

MOST_RUNS = 6
LONGEST = 256  # tokens of an answer


def compare(
    runs: Mapping[str, Path],
    load: Callable[[Path], Loaded],
    prompt: str,
    sampling: Sampling,
    max_new_tokens: int,
    seed: int,
    plain: bool = False,
) -> Iterator[Markup]:
    """The answers as they come, side by side.

    Runs that were taught to answer are asked; others, or all if `plain`, write on from
    the prompt. What a run can't do stands in its place.
    """
    if not runs:
        raise UserError("choose the runs to compare")
    if len(runs) > MOST_RUNS:
        raise UserError(f"{len(runs)} runs: compare at most {MOST_RUNS} at once")
    asked: dict[str, Handle | UserError] = {}
    try:
        for name, folder in runs.items():
            try:
                asked[name] = _ask(
                    load(folder), prompt, sampling, max_new_tokens, seed, plain
                )
            except UserError as error:
                asked[name] = error
        yield from _follow(asked)
    finally:
        for handle in asked.values():
            if isinstance(handle, Handle):
                handle.cancel()


def _ask(
    loaded: Loaded,
    prompt: str,
    sampling: Sampling,
    max_new_tokens: int,
    seed: int,
    plain: bool,
) -> Handle:
    ids = ids_of(loaded, prompt, loaded.chats and not plain)
    room = loaded.limit - len(ids)
    if room < 1:
        raise UserError(f"the prompt fills all {loaded.limit:,} tokens; shorten it")
    most = min(max(1, int(max_new_tokens)), LONGEST, room)
    request = Request(ids, max_new_tokens=most, sampling=sampling, seed=int(seed))
    return loaded.worker.submit(request)


def _follow(asked: Mapping[str, Handle | UserError]) -> Iterator[Markup]:
    handles = [handle for handle in asked.values() if isinstance(handle, Handle)]
    shown = ""
    while True:
        done = all(handle.done for handle in handles)
        view = answers_view([(name, _column(one)) for name, one in asked.items()])
        if view != shown:
            yield view
            shown = view
        if done:
            return
        for handle in handles:
            if not handle.done:
                handle.engine.drive()
                break


def _column(one: Handle | UserError) -> Markup:
    if isinstance(one, UserError):
        return notice(one)
    said = one.completions[0]
    ending = {"length": "cut off", "error": "the model failed"}
    return answer_view(said.text, ending.get(said.finish, ""), said.finish is None)


def usual(names: Sequence[str]) -> list[str]:
    """What to compare first: the stages of one path, in their order.

    >>> usual(["demo/grpo", "demo/sft", "demo/pretrain", "other"])
    ['demo/pretrain', 'demo/sft', 'demo/grpo']
    """
    stages = ("pretrain", "sft", "dpo", "ppo", "grpo")
    of_stage = [
        name for stage in stages for name in names if name.split("/")[-1] == stage
    ]
    return (of_stage or list(names))[:MOST_RUNS]
