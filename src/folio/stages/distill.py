"""Distillation: a small model learns all that a larger one would have said."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.chats import ChatStream
from folio.data.layout import respond
from folio.evals.held_out import held_out
from folio.model.decoder import Decoder
from folio.stages.asked import last_exchange
from folio.stages.assemble import Parts, Say, make_learner
from folio.stages.exam import answers_measure, exam_of
from folio.stages.sft import chat_stream, chats, chats_once
from folio.stages.stage import run_stage
from folio.stages.tuned import check_same_tokenizer, frozen, prepare_tuned
from folio.stages.tuning import DistillRecipe
from folio.stages.watch import expert_hooks
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run


def distill(
    recipe: DistillRecipe, folder: Path, *, resume: bool = False, say: Say = print
) -> Run:
    """Teach the parent what the teacher would say; see `run_stage`."""
    return run_stage(
        recipe,
        folder,
        partial(prepare_tuned, recipe),
        partial(assemble_distill, recipe),
        resume=resume,
        say=say,
    )


def assemble_distill(
    recipe: DistillRecipe, run: Run, tokenizer: Tokenizer, say: Say
) -> Parts:
    """Conversations with the teacher's distribution at every learned token."""
    check_same_tokenizer(recipe.teacher, tokenizer, "teacher")
    train, val = chats(recipe.data, recipe.seed, say)
    learner = make_learner(recipe, tokenizer.vocab_size)
    teacher = Taught(
        frozen(recipe.teacher, recipe.train.device),
        recipe.top,
        recipe.distill.temperature,
        learner.autocast,
    )
    stream = TaughtStream(chat_stream(train, tokenizer, recipe, say), teacher)
    batch = recipe.train.eval_batch
    batches = chats_once(val, tokenizer, recipe.data, recipe.length, batch, say)
    asked = [last_exchange(talk) for talk in val] if recipe.data.path else None
    exam = exam_of(asked, recipe.data.tasks, recipe.answers.prompts)
    answers = answers_measure(exam, recipe.answers, learner.model, tokenizer, say)

    def measure() -> dict[str, float]:
        taught = map(teacher, batches)
        values = held_out(recipe.distill, learner.model, taught, learner.autocast)
        return values | answers()

    return Parts(
        recipe,
        run,
        tokenizer,
        learner,
        stream,
        recipe.distill,
        kept=learner.model,
        measure=measure,
        facts={"data": {"name": recipe.data.path or "tales", "val": len(val)}},
        first=expert_hooks(recipe, learner.model, run),
    )


class Taught:
    """A batch with what the teacher would say: its logits, or its likeliest tokens."""

    def __init__(
        self,
        teacher: Decoder,
        top: int,
        temperature: float,
        autocast: Callable[[], AbstractContextManager],
    ):
        if not 0 <= top <= teacher.config.vocab_size:
            raise UserError(
                f"top = {top}: must be from 0 to the vocabulary's "
                f"{teacher.config.vocab_size}"
            )
        self.teacher, self.top, self.temperature = teacher, top, temperature
        self.autocast = autocast

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """The same batch, with teacher_logits (B, T, V), or teacher_ids and
        teacher_logprobs (B, T, top)."""
        device = self.teacher.embedding.weight.device
        with self.autocast():
            logits = respond(self.teacher, batch.to(device)).logits.float()
        if not self.top:
            return Batch(batch.denominator, **batch, teacher_logits=logits)
        logprobs = (logits / self.temperature).log_softmax(-1)
        likeliest = logprobs.topk(self.top, -1)
        return Batch(
            batch.denominator,
            **batch,
            teacher_ids=likeliest.indices,
            teacher_logprobs=likeliest.values,
        )


class TaughtStream:
    """Conversations, read by the teacher as they are dealt."""

    def __init__(self, stream: ChatStream, teacher: Taught):
        self.stream, self.teacher = stream, teacher

    def __iter__(self) -> TaughtStream:
        return self

    def __next__(self) -> Batch:
        return self.teacher(next(self.stream))

    def state_dict(self) -> dict[str, Any]:
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stream.load_state_dict(state)
