"""`{exercise}`, `{solution}`, `{quiz}` and where print collects their answers."""

from __future__ import annotations

import importlib
from collections.abc import Container
from typing import ClassVar

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from folio.book.nodes import answers, solution, why

LEAST_QUESTIONS = 5  # in a chapter's quiz


def known_checks() -> Container[str] | None:
    """What `folio learn` can check; None before there is anything."""
    try:
        registry = importlib.import_module("folio.learn.exercises")
    except ModuleNotFoundError as error:
        if error.name in ("folio.learn", "folio.learn.exercises"):
            return None
        raise
    return registry.names() or None


class Numbered(SphinxDirective):
    """What is counted within a chapter: "Exercise 8.2"."""

    def next_number(self, kind: str) -> str:
        counts = self.env.temp_data.setdefault("folio_counts", {})
        counts[kind] = counts.get(kind, 0) + 1
        chapter = self.config.folio_numbers.get(self.env.docname)
        return f"{chapter}.{counts[kind]}" if chapter else str(counts[kind])


class Exercise(Numbered):
    """Something to do. NAME is its name in the book, `:check:` in `folio learn`."""

    has_content = True
    required_arguments = 1
    option_spec: ClassVar = {
        "title": directives.unchanged_required,
        "check": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        name, check = self.arguments[0], self.options.get("check")
        checks = known_checks()
        if check and checks is not None and check not in checks:
            raise self.error(f"no exercise {check!r}; `folio learn list` names all")
        label = f"Exercise {self.next_number('exercise')}"
        title = self.options.get("title")
        box = nodes.admonition(classes=["exercise"], ids=[f"ex-{name}"])
        head, _ = self.parse_inline(f"{label}: {title}" if title else label)
        box += nodes.title("", "", *head)
        box += self.parse_content_to_nodes()
        if check:
            command = f"folio learn check {check}"
            box += nodes.paragraph(
                "", "", nodes.literal("", command), classes=["check"]
            )
        target = (self.env.docname, f"ex-{name}", label)
        self.env.get_domain("std").labels[f"ex-{name}"] = target
        return [box]


class Solution(SphinxDirective):
    """How the exercise NAME may be solved."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        target = f"ex-{self.arguments[0]}"
        label = self.env.get_domain("std").labels.get(target)
        if label is None or label[0] != self.env.docname:
            raise self.error(f"no exercise {self.arguments[0]!r} in this chapter")
        box = solution(solves=target, title=label[2])
        box += self.parse_content_to_nodes()
        return [box]


class Quiz(Numbered):
    """Questions in YAML: q, options (a list), answer (1 is the first), why."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            questions = [
                self.checked(q) for q in yaml.safe_load("\n".join(self.content))
            ]
        except (yaml.YAMLError, TypeError) as error:
            raise self.error(f"the quiz is no YAML list: {error}") from None
        if len(questions) < LEAST_QUESTIONS:
            raise self.error(f"{len(questions)} questions; ask {LEAST_QUESTIONS}")
        box = nodes.container(classes=["quiz"])
        box += [self.question(question) for question in questions]
        return [box]

    def checked(self, question: object) -> dict:
        if not isinstance(question, dict) or set(question) != {
            "q",
            "options",
            "answer",
            "why",
        }:
            raise self.error(f"a question has q, options, answer and why: {question}")
        count = len(question["options"])
        if question["answer"] not in range(1, count + 1):
            raise self.error(f"answer: a number from 1 to {count}: {question['q']!r}")
        return question

    def question(self, question: dict) -> nodes.Node:
        number = self.next_number("question")
        right = question["answer"]
        box = nodes.container(classes=["question", f"answer-{right}"])
        box += self.paragraph(f"**{number}** {question['q']}")
        options = nodes.enumerated_list(enumtype="upperalpha", classes=["options"])
        for text in question["options"]:
            options += nodes.list_item("", self.paragraph(str(text)))
        box += options
        reason = why(number=number)
        reason += self.paragraph(f"**{chr(64 + right)}.** {question['why']}")
        box += reason
        return box

    def paragraph(self, text: str) -> nodes.Node:
        children, _ = self.parse_inline(text)
        return nodes.paragraph("", "", *children)


class Answers(SphinxDirective):
    """All solutions and answers, in print; on the site they stand where asked."""

    def run(self) -> list[nodes.Node]:
        return [answers()]
