"""A conversation in which every turn may have several answers, and people choose."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from folio.config import UserError
from folio.infer.request import Handle, Request
from folio.infer.sampling import Sampling
from folio.studio.models import Loaded
from folio.studio.preferences import Preferences
from folio.studio.text import checked

MOST_ANSWERS = 4  # to one message
MOST_TURNS = 200
LEAST_ANSWER = 16  # tokens that must be left for it
MOST_NEW_TOKENS = 1024
UP, DOWN = 1, -1


@dataclass
class Answer:
    """What the model said, and what a person thinks of it: UP, DOWN or 0."""

    text: str = ""
    note: str = ""
    mark: int = 0


@dataclass
class Talk:
    """The turns so far, and the answers to the last message that are to choose from."""

    system: str = ""
    turns: list[dict[str, str]] = field(default_factory=list)  # the last is the user's
    answers: list[Answer] = field(default_factory=list)

    @property
    def prompt(self) -> list[dict[str, str]]:
        """All that was said before the answers."""
        opening = [{"role": "system", "content": self.system}] if self.system else []
        return opening + self.turns

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation with the answer that counts."""
        if not self.answers:
            return self.prompt
        return [*self.prompt, {"role": "assistant", "content": self.best.text}]

    @property
    def best(self) -> Answer:
        """The one that was marked up, else the newest that wasn't marked down."""
        fair = [a for a in self.answers if a.mark != DOWN] or self.answers
        return max(reversed(fair), key=lambda answer: answer.mark)

    def say(self, message: str) -> None:
        """Settle the last turn, and add what the user says."""
        message = checked(message, "message", filled=True)
        if len(self.turns) >= MOST_TURNS:
            raise UserError(f"{MOST_TURNS} turns are enough; start a new conversation")
        if self.answers:
            self.turns.append({"role": "assistant", "content": self.best.text})
        self.answers = []
        self.turns.append({"role": "user", "content": message})

    def take_back(self) -> None:
        """Forget a message that could not be answered."""
        if self.turns and not self.answers:
            self.turns.pop()
            if self.turns:
                self.answers = [Answer(self.turns.pop()["content"])]

    def mark(self, number: int, mark: int, preferences: Preferences) -> int:
        """Thumb up or down for an answer; every (up, down) pair it makes is kept.

        Marking the same way again takes the mark away, not the pairs. Returns how many
        pairs were kept by this.
        """
        if not 0 <= number < len(self.answers):
            raise UserError("that answer is gone; mark one that is shown")
        answer = self.answers[number]
        answer.mark = 0 if answer.mark == mark else mark
        if not answer.mark:
            return 0
        others = [a for a in self.answers if a.mark == -mark and a.text != answer.text]
        for other in others:
            pair = (answer, other) if mark == UP else (other, answer)
            preferences.keep(self.prompt, pair[0].text, pair[1].text)
        return len(others)


def begin_answer(
    loaded: Loaded, talk: Talk, sampling: Sampling, max_new_tokens: int
) -> Handle:
    """Ask for one more answer to the last message; it comes by `follow`."""
    if not talk.turns or talk.turns[-1]["role"] != "user":
        raise UserError("write a message first")
    if not loaded.chats:
        raise UserError(
            "this run was never taught to answer; choose one of SFT or later, or let "
            "it write on under Compare"
        )
    if len(talk.answers) >= MOST_ANSWERS:
        raise UserError(f"{MOST_ANSWERS} answers are there: mark them, or go on")
    length = len(Request(talk.prompt).ids(loaded.tokenizer))
    room = loaded.limit - length
    if room < LEAST_ANSWER:
        raise UserError(
            f"the conversation has {length:,} tokens, and this model reads "
            f"{loaded.limit:,}; start a new one"
        )
    request = Request(
        talk.prompt,
        max_new_tokens=min(max(1, int(max_new_tokens)), MOST_NEW_TOKENS, room),
        sampling=sampling,
        seed=random.getrandbits(31),  # each answer is another
    )
    return loaded.worker.submit(request)


def follow(handle: Handle, answer: Answer) -> Iterator[None]:
    """Let `answer` grow as its tokens come; says at its end why it ended."""
    for event in handle:
        answer.text += event.text
        if event.error is not None:
            answer.note = "the model failed on this answer"
            return
        if event.text:
            yield
    done = handle.completions[0]
    endings = {"length": ", cut off", "cancelled": ", stopped", "error": ", failed"}
    tokens = len(done.ids)
    unit = "token" if tokens == 1 else "tokens"
    answer.note = f"{tokens:,} {unit}{endings.get(done.finish, '')}"
