"""Chat: talk with a run, and keep what you liked better."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from folio.config import UserError
from folio.studio.inside import sampling_of
from folio.studio.preferences import export_conversation
from folio.studio.tabs.common import QUIET, Page, lead, patched, view
from folio.studio.talk import (
    DOWN,
    MOST_ANSWERS,
    MOST_NEW_TOKENS,
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


def build(page: Page) -> None:
    """The tab."""
    with gr.Tab("Chat") as tab:
        lead(
            "Ask, ask for another answer, and say which is better: each such pair is "
            "kept, in the form that `folio dpo` learns from."
        )
        talk = gr.State(Talk())
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                said, cards = view(), _Cards()
                message = gr.Textbox(
                    label="Your message",
                    lines=1,
                    max_lines=6,
                    placeholder="Ask something",
                )
                with gr.Row():
                    send = gr.Button("Send", variant="primary", min_width=90)
                    again = gr.Button("Another answer", min_width=90)
                    stop = gr.Button("Stop", min_width=90)
                    anew = gr.Button("Start over", min_width=90)
                told = view()
            with gr.Column(scale=2, min_width=240):
                system = gr.Textbox(label="System prompt", lines=2, max_lines=6)
                heat = gr.Slider(0, 2, 0.7, step=0.05, label="Temperature")
                top_p = gr.Slider(0.05, 1, 1, step=0.01, label="Top-p")
                most = gr.Slider(
                    8, MOST_NEW_TOKENS, 128, step=8, label="Tokens at most"
                )
                export = gr.Button("Keep the conversation")
                kept = view()

    callbacks = _Callbacks(page)
    outputs = [talk, said, *cards.all, told, kept]
    given = [page.run, talk, system, heat, top_p, most]
    asking = {"concurrency_limit": None, **QUIET}
    gr.on(
        [send.click, message.submit],
        callbacks.send,
        [message, *given],
        [message, *outputs],
        **asking,
    )
    again.click(callbacks.again, given, outputs, **asking)
    stop.click(callbacks.stop, None, None, queue=False, **QUIET)
    anew.click(callbacks.start_over, None, outputs, **QUIET)
    export.click(callbacks.export, talk, outputs, **QUIET)
    page.run.change(callbacks.start_over, None, outputs, **QUIET)
    for number, (up, down) in enumerate(cards.buttons):
        up.click(callbacks.mark(number, UP), talk, outputs, **QUIET)
        down.click(callbacks.mark(number, DOWN), talk, outputs, **QUIET)
    tab.select(
        lambda talk: [tab.label, *callbacks.show(talk)],
        talk,
        [page.here, *outputs],
        **QUIET,
    )


class _Cards:
    """The answers to the last message: a text and two thumbs each, hidden at first."""

    def __init__(self) -> None:
        self.columns, self.texts, self.buttons = [], [], []
        with gr.Row():
            for number in range(1, MOST_ANSWERS + 1):
                with gr.Column(visible=False, min_width=200) as column:
                    self.texts.append(view())
                    with gr.Row():
                        up = gr.Button(
                            "▲ better", size="sm", min_width=60, elem_id=f"up-{number}"
                        )
                        down = gr.Button(
                            "▼ worse", size="sm", min_width=60, elem_id=f"down-{number}"
                        )
                self.columns.append(column)
                self.buttons.append((up, down))
        flat = [button for pair in self.buttons for button in pair]
        self.all = [*self.columns, *self.texts, *flat]


class _Callbacks:
    """What the buttons do, for all sessions: a session's talk comes and goes."""

    def __init__(self, page: Page):
        self.studio = page.studio

    def show(
        self, talk: Talk, note: Markup | None = None, going: bool = False
    ) -> Update:
        """Every component as the talk has it; `going`: the last answer grows."""
        places, there = range(MOST_ANSWERS), len(talk.answers)
        columns = [gr.update(visible=i < there) for i in places]
        texts = [self._answer(talk, i, going) for i in places]
        thumbs = [
            gr.update(variant="primary" if pressed else "secondary")
            for i in places
            for pressed in self._pressed(talk, i)
        ]
        said = patched(conversation_view(talk.prompt)) if talk.turns else ""
        told = patched(note) if note is not None else ""
        return [talk, said, *columns, *texts, *thumbs, told, patched(self._kept())]

    def _answer(self, talk: Talk, number: int, going: bool) -> str:
        if number >= len(talk.answers):
            return ""
        answer, last = talk.answers[number], number == len(talk.answers) - 1
        head = tag("h4", f"answer {number + 1}")
        body = answer_view(answer.text, answer.note, going and last)
        return patched(tag("div", head, body, class_="answer-column"))

    def _pressed(self, talk: Talk, number: int) -> tuple[bool, bool]:
        mark = talk.answers[number].mark if number < len(talk.answers) else 0
        return mark == UP, mark == DOWN

    def _kept(self) -> Markup:
        """How many pairs there are, and how to learn from them."""
        try:
            count = self.studio.preferences.count()
        except UserError as error:
            return notice(error)
        path = self.studio.preferences.path
        if not count:
            return notice(f"No pairs are kept yet. They will go to {path}.", "plain")
        words = "1 pair is kept" if count == 1 else f"{count:,} pairs are kept"
        command = f"folio dpo RECIPE --data.path {path}"
        return join(
            [
                tag("p", f"{words} in {path}. Learn from them:", class_="quiet"),
                tag("pre", command),
            ]
        )

    # asking

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
            yield [message, *self.show(talk, notice(error))]
            return
        try:
            for update in self._stream(run, talk, (heat, top_p, most), request):
                yield ["", *update]
        except UserError as error:
            talk.take_back()
            yield [message, *self.show(talk, notice(error))]

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
            yield self.show(talk, notice(error))

    def _stream(
        self, run: str, talk: Talk, given: tuple[float, ...], request: gr.Request
    ) -> Iterator[Update]:
        (heat, top_p, most), session = given, request.session_hash
        sampling = sampling_of(heat, 0, top_p, 0, 1)
        handle = begin_answer(self.studio.load(run), talk, sampling, most)
        self.studio.quiet(session)
        self.studio.speaking[session] = handle
        answer = Answer()
        talk.answers.append(answer)
        try:
            yield self.show(talk, going=True)
            for _ in follow(handle, answer):
                yield self.show(talk, going=True)
        finally:
            handle.cancel()
            if self.studio.speaking.get(session) is handle:
                del self.studio.speaking[session]
        yield self.show(talk)

    def stop(self, request: gr.Request) -> None:
        """What has been said stays said."""
        self.studio.quiet(request.session_hash)

    def start_over(self) -> Update:
        return self.show(Talk())

    # judging

    def mark(self, number: int, mark: int) -> Callable[[Talk], Update]:
        """The callback of one thumb."""

        def callback(talk: Talk) -> Update:
            try:
                new = talk.mark(number, mark, self.studio.preferences)
            except UserError as error:
                return self.show(talk, notice(error))
            marks = {answer.mark for answer in talk.answers} - {0}
            if new:
                words = "Kept as a pair." if new == 1 else f"Kept as {new} pairs."
                return self.show(talk, notice(words, "good"))
            if len(marks) == 1:
                words = "A pair takes one better and one worse answer; mark another."
                return self.show(talk, notice(words, "plain"))
            return self.show(talk)

        return callback

    def export(self, talk: Talk) -> Update:
        """The conversation, for `folio sft`."""
        path = self.studio.conversations
        try:
            if not talk.turns:
                raise UserError("nothing has been said yet")
            count = export_conversation(path, talk.messages)
        except UserError as error:
            return self.show(talk, notice(error))
        words = f"{path} has {count:,} of them: folio sft RECIPE --data.path {path}"
        return self.show(talk, notice(words, "good"))
