"""What the buttons of the chat do; a session's talk comes and goes with each call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from folio.config import UserError
from folio.studio.inside import sampling_of
from folio.studio.preferences import export_conversation
from folio.studio.state import Studio
from folio.studio.tabs.common import patched
from folio.studio.talk import (
    DOWN,
    MOST_ANSWERS,
    UP,
    Answer,
    Talk,
    begin_answer,
    follow,
)
from folio.studio.text import checked
from folio.viz.dialog import answer_view, conversation_view, notice
from folio.viz.markup import Markup, join, tag

Update = list[Any]
EVERY = 0.06  # seconds between two pictures of an answer that grows
PLACES = range(MOST_ANSWERS)
NOTHING = gr.skip()


class ChatView:
    """The talk as updates of the tab's components, in the order of `chat.build`."""

    def __init__(self, studio: Studio):
        self.studio = studio

    def show(
        self, talk: Talk, note: Markup | None = None, going: bool = False
    ) -> Update:
        """Every component; `going`: the last answer grows, and nobody may interfere."""
        there = len(talk.answers)
        columns = [gr.update(visible=i < there) for i in PLACES]
        texts = [self.answer(talk, i, going) for i in PLACES]
        thumbs = [
            gr.update(
                variant="primary" if pressed else "secondary", interactive=not going
            )
            for i in PLACES
            for pressed in _pressed(talk, i)
        ]
        said = patched(conversation_view(talk.prompt)) if talk.turns else ""
        told = patched(note) if note is not None else ""
        asking = [gr.update(interactive=not going)] * 3  # send, again, start over
        stop = gr.update(interactive=going)
        kept = patched(self.kept())
        return [talk, said, *columns, *texts, *thumbs, told, kept, *asking, stop]

    def grow(self, talk: Talk) -> Update:
        """The same with nothing new but the last answer."""
        last = len(talk.answers) - 1
        texts = [self.answer(talk, i, True) if i == last else NOTHING for i in PLACES]
        columns, thumbs = [NOTHING] * len(PLACES), [NOTHING] * 2 * len(PLACES)
        return [talk, NOTHING, *columns, *texts, *thumbs, *[NOTHING] * 6]

    def answer(self, talk: Talk, number: int, going: bool) -> str:
        """One card's text; the last one's while it grows."""
        if number >= len(talk.answers):
            return ""
        answer, last = talk.answers[number], number == len(talk.answers) - 1
        name = f"answer {number + 1}" if len(talk.answers) > 1 else "model"
        head = tag("h4", name)
        body = answer_view(answer.text, answer.note, going and last)
        return patched(tag("div", head, body, class_="answer-column"))

    def kept(self) -> Markup:
        """How many pairs there are, and how to learn from them."""
        path = self.studio.preferences.path
        try:
            count = self.studio.preferences.count()
        except UserError as error:
            return notice(error)
        if not count:
            return notice(f"No pairs are kept yet. They will go to {path}.", "plain")
        words = "1 pair is kept" if count == 1 else f"{count:,} pairs are kept"
        said = f"{words}. When there are some dozens, a run can learn from them:"
        flags = f"  --parent RUN \\\n  --data.path {path}"
        command = f"folio dpo recipes/tiny/dpo.toml \\\n{flags}"
        lines = tag("pre", command, class_="command")
        return join([tag("p", said, class_="quiet"), lines])


def _pressed(talk: Talk, number: int) -> tuple[bool, bool]:
    mark = talk.answers[number].mark if number < len(talk.answers) else 0
    return mark == UP, mark == DOWN


class Callbacks:
    """Asking, stopping, judging, exporting."""

    def __init__(self, studio: Studio):
        self.studio, self.view = studio, ChatView(studio)

    def send(
        self,
        message: str,
        run: str,
        talk: Talk,
        system: str,
        heat: float,
        top_p: float,
        most: int,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Say something, and stream the answer."""
        try:
            if not talk.turns:
                talk.system = checked(system, "system prompt").strip()
            talk.say(message)
        except UserError as error:
            yield [message, *self.view.show(talk, notice(error))]
            return
        try:
            for update in self._stream(run, talk, (heat, top_p, most), request):
                yield ["", *update]
        except UserError as error:
            talk.take_back()
            yield [message, *self.view.show(talk, notice(error))]

    def again(
        self,
        run: str,
        talk: Talk,
        system: str,
        heat: float,
        top_p: float,
        most: int,
        request: gr.Request,
    ) -> Iterator[Update]:
        """One more answer to the same message."""
        try:
            yield from self._stream(run, talk, (heat, top_p, most), request)
        except UserError as error:
            yield self.view.show(talk, notice(error))

    def _stream(
        self, run: str, talk: Talk, given: tuple[float, ...], request: gr.Request
    ) -> Iterator[Update]:
        (heat, top_p, most), session = given, request.session_hash
        sampling = sampling_of(heat, 0, top_p, 0, 1)
        handle = begin_answer(self.studio.load(run), talk, sampling, most)
        self.studio.quiet(session)
        self.studio.speaking[session] = handle
        answer, drawn = Answer(), 0.0
        talk.answers.append(answer)
        try:
            yield self.view.show(talk, going=True)
            for _ in follow(handle, answer):
                if (now := time.monotonic()) - drawn >= EVERY:
                    yield self.view.grow(talk)
                    drawn = now
        finally:
            handle.cancel()
            if self.studio.speaking.get(session) is handle:
                del self.studio.speaking[session]
        yield self.view.show(talk)

    def stop(self, request: gr.Request) -> None:
        """What has been said stays said."""
        self.studio.quiet(request.session_hash)

    def start_over(self, request: gr.Request) -> Update:
        """A new talk, of nothing yet."""
        self.studio.quiet(request.session_hash)
        return self.view.show(Talk())

    def other_run(self, talk: Talk, request: gr.Request) -> Update:
        """What was said with one run isn't gone on with by another."""
        return self.start_over(request) if talk.turns else gr.skip()

    def mark(self, number: int, mark: int) -> Callable[[Talk], Update]:
        """The callback of one thumb."""

        def callback(talk: Talk) -> Update:
            try:
                new = talk.mark(number, mark, self.studio.preferences)
            except UserError as error:
                return self.view.show(talk, notice(error))
            if new:
                words = "Kept as a pair." if new == 1 else f"Kept as {new} pairs."
                return self.view.show(talk, notice(words, "good"))
            if len({answer.mark for answer in talk.answers} - {0}) == 1:
                words = "A pair takes a better and a worse answer; mark another one."
                return self.view.show(talk, notice(words, "plain"))
            return self.view.show(talk)

        return callback

    def export(self, talk: Talk) -> Update:
        """The conversation, for `folio sft`."""
        path = self.studio.conversations
        try:
            if not talk.answers:
                raise UserError("nothing has been answered yet")
            count = export_conversation(path, talk.messages)
        except UserError as error:
            return self.view.show(talk, notice(error))
        words = f"{path} holds {count:,}, in the form that SFT learns from."
        return self.view.show(talk, notice(words, "good"))
