"""What is asked of the engine, and what it answers."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from folio.config import UserError
from folio.infer.sampling import Sampling
from folio.infer.steering import Steering
from folio.text.chat import ChatTemplate, Message
from folio.text.tokenizer import END_OF_TEXT, END_OF_TURN, Tokenizer

if TYPE_CHECKING:
    from folio.infer.engine import Engine

PLAIN, UNSTEERED = Sampling(), Steering()
Finish = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Request:
    """A prompt and how to go on from it.

    The prompt is ids, or a text, or the messages of a conversation. Texts are encoded
    as ordinary text: nothing in them becomes a control token.
    """

    prompt: Sequence[int] | str | Sequence[Message]
    max_new_tokens: int | None = None  # none: as many as the model can read
    sampling: Sampling = PLAIN
    seed: int = 0
    n: int = 1  # samples, each with chances of its own
    stop: tuple[str, ...] = ()  # strings that end the text, and are not part of it
    stop_ids: frozenset[int] | None = None  # none: end of text and end of turn
    top: int = 0  # likeliest tokens to report beside each chosen one
    steering: Steering = UNSTEERED  # what is added to its scores before the choice

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 0:
            raise UserError(
                f"max_new_tokens = {self.max_new_tokens}: must be 0 or more"
            )
        if self.n < 1:
            raise UserError(f"n = {self.n}: must be at least 1")
        if self.top < 0:
            raise UserError(f"top = {self.top}: must be 0 or more")
        if isinstance(self.stop, str) or not all(self.stop):
            raise UserError(
                f"stop = {self.stop!r}: give a tuple of strings, none empty"
            )

    def ids(self, tokenizer: Tokenizer | None) -> list[int]:
        """The prompt as ids; a UserError if that takes a tokenizer and there is none.

        A conversation ends with what opens the assistant's turn; an empty text is the
        start of a document.
        """
        first = self.prompt[0] if len(self.prompt) else None
        if isinstance(self.prompt, str) or isinstance(first, Mapping):
            if tokenizer is None:
                raise UserError("this engine has no tokenizer: give the prompt as ids")
            if isinstance(self.prompt, str):
                return tokenizer.prompt_ids(self.prompt)
            template = ChatTemplate.of(tokenizer)
            ids, _ = template.render(self.prompt, tokenizer, True)
            return ids
        return [int(i) for i in self.prompt]

    def ends(self, tokenizer: Tokenizer | None) -> frozenset[int]:
        """The ids that end the text."""
        if self.stop_ids is not None:
            return frozenset(self.stop_ids)
        if tokenizer is None:
            return frozenset()
        names = [tokenizer.extras.roles.get("eos_token", END_OF_TEXT), END_OF_TURN]
        if tokenizer.extras.chat is not None:
            names.append(ChatTemplate.of(tokenizer).end_of_turn)
        known = tokenizer.special_tokens
        return frozenset(known[name] for name in names if name in known)


@dataclass(frozen=True)
class Token:
    """A chosen token, and how likely it was where it was chosen from.

    That is the distribution after temperature, penalty and cuts. At temperature 0 the
    choice has no chances, and the model's own at temperature 1 are given.
    """

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # (id, log-prob), likeliest first


@dataclass(frozen=True)
class Event:
    """What one step brought to one sample."""

    index: int  # of the sample, 0 to n - 1
    text: str = ""  # whole characters that can be shown now
    token: Token | None = None
    finish: Finish | None = None
    error: str | None = None
    refused: bool = False  # the error lies in what was asked, as with a UserError


@dataclass
class Completion:
    """One sample, whole once `finish` is set.

    `ids` has every token that was chosen, the one that ended it included, so that
    stopping can be learned from it; `text` has no control token and no stop string.
    """

    index: int
    prompt_tokens: int
    cached_tokens: int = 0  # of the prompt, found in memory rather than computed
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None
    error: str | None = None

    def add(self, event: Event) -> None:
        """Take in what a step brought."""
        self.text += event.text
        self.finish, self.error = event.finish, event.error
        if event.token is not None:
            self.ids.append(event.token.id)
            self.logprobs.append(event.token.logprob)
            self.top.append(event.token.top)


class Handle:
    """A request under way: its events as they come, its result, and a way to stop it.

    Any thread may use it. Whoever waits for an event drives the engine if nobody else
    does, so neither a server nor a plain loop needs anything more.
    """

    def __init__(
        self,
        engine: Engine,
        request: Request,
        prompt: list[int],
        notify: Callable[[Handle], None] | None = None,
    ):
        """`notify` is called, from any thread, after events have come."""
        self.engine, self.request, self.prompt = engine, request, prompt
        self.notify, self.sequences = notify, []
        self.completions = [Completion(i, len(prompt)) for i in range(request.n)]
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    @property
    def done(self) -> bool:
        """Whether every sample has ended."""
        return all(c.finish is not None for c in self.completions)

    def put(self, event: Event) -> None:
        """The engine's side: called in order, and never after a sample's finish."""
        self._events.put(event)
        self.completions[event.index].add(event)

    def take(self) -> list[Event]:
        """The events since the last call, without waiting."""
        events = []
        with contextlib.suppress(queue.Empty):
            while True:
                events.append(self._events.get_nowait())
        return events

    def __iter__(self) -> Iterator[Event]:
        """Events to the last one. Leaving early, as by `break`, cancels the request."""
        try:
            while True:
                done = self.done  # asked first: then all events are there to be taken
                events = self.take()
                yield from events
                if done:
                    return
                if not events:
                    self.engine.drive()
        finally:
            self.cancel()

    def pieces(self) -> Iterator[str]:
        """The text of the first sample, as it comes; UserError if it fails."""
        for event in self:
            if event.index == 0 and event.text:
                yield event.text
            if event.error is not None:
                raise RuntimeError(event.error)

    def result(self) -> list[Completion]:
        """All samples, when they have ended."""
        while not self.done:
            self.engine.drive()
        return self.completions

    def cancel(self) -> None:
        """End what hasn't ended and free its memory, at once."""
        self.engine.cancel(self)
