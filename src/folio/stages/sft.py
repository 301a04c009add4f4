"""Supervised fine-tuning: the loss of pretraining, on the assistant's words alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from folio.data.batch import Batch
from folio.data.chats import ChatStream, Fitter
from folio.data.curriculum import Curriculum
from folio.data.embedded import tales_conversations
from folio.data.order import Source
from folio.data.records import Conversation, read_conversations
from folio.data.rows import pack_rows, packed, pad_id
from folio.evals.held_out import held_out
from folio.objectives.next_token import next_token
from folio.stages.asked import last_exchange
from folio.stages.assemble import Parts, Say, make_learner
from folio.stages.exam import answers_measure, exam_of
from folio.stages.rejection import BEST, prepare_sft
from folio.stages.stage import run_stage
from folio.stages.tuned import dealt, read_parts
from folio.stages.tuning import ChatsRecipe, SFTRecipe
from folio.stages.watch import expert_hooks
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run


def sft(
    recipe: SFTRecipe, folder: Path, *, resume: bool = False, say: Say = print
) -> Run:
    """Teach the parent to answer; see `run_stage`."""
    return run_stage(
        recipe,
        folder,
        partial(prepare_sft, recipe),
        partial(assemble_sft, recipe),
        resume=resume,
        say=say,
    )


def assemble_sft(recipe: SFTRecipe, run: Run, tokenizer: Tokenizer, say: Say) -> Parts:
    """Packed conversations; the loss on held-out ones, and answers to prompts."""
    data = recipe.data
    train, val = chats(data, recipe.seed, say)
    if data.rejection:
        train = read_conversations(run.folder / BEST)
    learner = make_learner(recipe, tokenizer.vocab_size)
    stream = chat_stream(train, tokenizer, recipe, say)
    batches = chats_once(
        val, tokenizer, data, recipe.length, recipe.train.eval_batch, say
    )
    asked = [last_exchange(talk) for talk in val] if data.path else None
    exam = exam_of(asked, data.tasks, recipe.answers.prompts)
    answers = answers_measure(exam, recipe.answers, learner.model, tokenizer, say)

    def measure() -> dict[str, float]:
        values = held_out(next_token, learner.model, batches, learner.autocast)
        return values | answers()

    facts = {"name": data.path or "tales", "val_conversations": len(val)}
    if isinstance(train, list):
        facts["train_conversations"] = len(train)
    return Parts(
        recipe,
        run,
        tokenizer,
        learner,
        stream,
        next_token,
        kept=learner.model,
        measure=measure,
        facts={"data": facts},
        first=expert_hooks(recipe, learner.model, run),
    )


def chats(
    data: ChatsRecipe, seed: int, say: Say
) -> tuple[Source[Conversation], list[Conversation]]:
    """Conversations to learn from, and held-out ones."""
    if data.path is not None:
        return read_parts(data, read_conversations, say)
    options = {"turns": data.turns, "noisy": data.careless}
    train = tales_conversations(seed, "train", data.tasks, **options)
    val = tales_conversations(0, "validation", data.tasks, **options)
    held = [val.make(i) for i in range(data.val_examples)]
    if data.examples:
        return [train.make(i) for i in range(data.examples)], held
    return train, held


def chat_stream(
    conversations: Source[Conversation],
    tokenizer: Tokenizer,
    recipe: SFTRecipe,
    say: Say,
) -> ChatStream:
    """The stream that the recipe describes."""
    data = recipe.data
    return ChatStream(
        conversations,
        tokenizer,
        batch=recipe.train.batch,
        length=recipe.length,
        packed=data.packed,
        overlong=data.overlong,
        loss_on_prompt=data.loss_on_prompt,
        curriculum=Curriculum(data.curriculum) if data.curriculum else None,
        **dealt(recipe, say),
    )


def chats_once(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    data: ChatsRecipe,
    length: int,
    batch: int,
    say: Say,
) -> list[Batch]:
    """Each conversation once, packed: to measure on."""
    fitter = Fitter(tokenizer, length, data.overlong, data.loss_on_prompt)
    rows = [row for row in map(fitter, conversations) if row is not None]
    if fitter.truncated or fitter.dropped:
        say(f"held out: {fitter.report()}")
    groups = pack_rows(rows, length)
    pad = pad_id(tokenizer)
    return [packed(groups[i : i + batch], pad) for i in range(0, len(groups), batch)]
