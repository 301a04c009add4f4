"""The embedded world as conversations, pairs and prompts, as many as are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from folio.config import UserError, nearest
from folio.data import tales
from folio.data.order import Endless
from folio.data.records import Conversation, Pair, Prompt
from folio.data.tales.mistakes import mistake
from folio.data.tales.splits import Split, generator
from folio.data.verifiers import Verifier, tales_score

PAIR_CATEGORIES = ("style", "content", "both")


def tales_conversations(
    seed: int = 0,
    split: Split = "train",
    tasks: Sequence[str] = tales.CORE,
    *,
    turns: int = 6,
    noisy: bool = False,
) -> Endless[Conversation]:
    """Questions and demonstrated answers, several to a conversation."""

    def make(index: int) -> Conversation:
        rng = generator("demonstrations", seed, split, index)
        messages = []
        for item in tales.packed(seed, split, index, tasks, turns=turns):
            answer = tales.demonstration(item, rng, noisy=noisy)
            messages.append({"role": "user", "content": item.prompt})
            messages.append({"role": "assistant", "content": answer})
        return Conversation(tuple(messages))

    name = f"tales conversations {seed} {split} {' '.join(tasks)} {turns} {noisy}"
    return Endless(make, name)


def tales_pairs(
    seed: int = 0,
    split: Split = "train",
    tasks: Sequence[str] = tales.CORE,
    *,
    flip: float = 0.0,
    mistakes: float = 0.5,
    categories: Sequence[str] = PAIR_CATEGORIES,
) -> Endless[Pair]:
    """Preferences by the known truth; their category says in what they differ.

    A share of `flip` has the wrong label. Wrong answers are the careless annotator's,
    a share of `mistakes` near misses instead: a reward model that knows one wrong
    convention only is helpless against what a policy really gets wrong. `categories`:
    in what pairs may differ; from "style" alone nothing is learned about content.
    """
    for name in categories:
        if name not in PAIR_CATEGORIES:
            raise UserError(f"categories = {name!r}{nearest(name, PAIR_CATEGORIES)}")
    if not categories:
        raise UserError(f"categories = []: name some of {', '.join(PAIR_CATEGORIES)}")
    if not 0 <= mistakes <= 1:
        raise UserError(f"mistakes = {mistakes}: a share, from 0 to 1")

    def make(index: int) -> Pair:
        item = tales.instruction(seed, split, index, tasks)
        chance = generator("mistakes", seed, split, index)
        if chance.random() < mistakes:
            item = replace(item, wrong=mistake(item, chance))
        rng = generator("preferences", seed, split, index)
        category = rng.choice(tuple(categories))
        pair = tales.preference_pair(item, rng, category=category, flip=flip)
        asked = {"role": "user", "content": item.prompt}
        return Pair((asked,), pair.chosen, pair.rejected, category=pair.category)

    about = f"{' '.join(tasks)} {flip} {mistakes} {' '.join(categories)}"
    return Endless(make, f"tales pairs {seed} {split} {about}")


def tales_prompts(
    seed: int = 0,
    split: Split = "train",
    tasks: Sequence[str] = tales.CORE,
    *,
    held_out: bool = False,
) -> Endless[Prompt]:
    """Prompts with known answers. `held_out` words them as training never does.

    No seed puts facts or operands of one split into another: they are split by hash.
    """

    def make(index: int) -> Prompt:
        item = tales.instruction(seed, split, index, tasks, held_out=held_out)
        asked = {"role": "user", "content": item.prompt}
        best = tales.STYLES[tales.PREFERRED_STYLE].format(item.answer)
        return Prompt((asked,), item.answer, best, item.task, item)

    return Endless(make, f"tales prompts {seed} {split} {' '.join(tasks)} {held_out}")


def tales_accuracy(prompt: Prompt, response: str, finished: bool) -> float:
    """1 for the right answer in any of the known styles."""
    return float(finished and tales.parse_response(response)[0] == prompt.answer)


def tales_style(prompt: Prompt, response: str, finished: bool) -> float:
    """1 for the preferred style, whatever the answer."""
    style = tales.parse_response(response)[1]
    return float(finished and style == tales.PREFERRED_STYLE)


TALES_SCORES: dict[str, Verifier] = {
    "gold": tales_score,
    "accuracy": tales_accuracy,
    "style": tales_style,
}


def tales_category(prompt: Prompt, chosen: str, rejected: str) -> str:
    """In what two finished answers differ: "style", "content", "both", or "" for none.

    Style is the preferred one or not; content is right or wrong.
    """
    style, content = (
        measure(prompt, chosen, True) != measure(prompt, rejected, True)
        for measure in (tales_style, tales_accuracy)
    )
    if style and content:
        return "both"
    return "style" if style else "content" if content else ""
