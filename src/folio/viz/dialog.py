"""Conversations, and one prompt's answers side by side; all of it as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from folio.viz.markup import Markup, tag

NAMES = {"system": "system", "user": "you", "assistant": "model", "tool": "tool"}


def conversation_view(messages: Iterable[Mapping[str, str]]) -> Markup:
    """Turns one below the other, each with who speaks."""
    turns = [
        tag(
            "div",
            tag("span", NAMES.get(message["role"], message["role"]), class_="who"),
            tag("p", message["content"] or "…", class_="said"),
            class_=f"turn turn-{message['role']}",
        )
        for message in messages
    ]
    return tag("div", *turns, class_="dialog", role="log", aria_live="polite")


def answer_view(text: str, note: str = "", going_on: bool = False) -> Markup:
    """One answer; with a mark at its end while it is being written."""
    caret = tag("i", class_="caret", aria_hidden="true") if going_on else None
    said = tag("p", text or ("" if going_on else "(nothing)"), caret, class_="said")
    below = tag("p", note, class_="quiet") if note else None
    return tag("div", said, below, class_="answer")


def answers_view(answers: Sequence[tuple[str, Markup]]) -> Markup:
    """(who, answer) side by side, as many in a row as fit."""
    columns = [
        tag("div", tag("h4", who), answer, class_="answer-column")
        for who, answer in answers
    ]
    return tag("div", *columns, class_="answers")


def notice(text: object, kind: str = "warning") -> Markup:
    """A sentence that somebody should read, such as why something can't be done."""
    return tag("p", str(text), class_=f"notice notice-{kind}", role="status")
