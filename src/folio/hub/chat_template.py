"""Chat templates of Hugging Face are programs (Jinja); ours are small tables.

Coming in: the program is never run in this process. A worker with hard limits renders
a few conversations of made-up words; what stands between the words is our table. Then
the table must render longer conversations exactly as the program does. If it doesn't,
the model has no chat here, and plain generation only.

Going out: the table is written as a Jinja program that looks up the same table.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from folio.config import UserError
from folio.text.chat import EDGE, PROMPT, ROLES, ChatTemplate, Message
from folio.text.tokenizer import Tokenizer

WORKER = Path(__file__).with_name("jinja_worker.py")
PATIENCE = 20  # seconds; the worker's own limit is on processor time
Conversation = tuple[list[Message], bool]  # messages, add_generation_prompt
Render = Callable[[Sequence[Conversation]], list[str | None]]

# Each shows what stands between some roles; together, all that can follow one another.
PROBES = (
    ("user", PROMPT),
    ("user", "assistant", "user", PROMPT),
    ("system", "user", PROMPT),
    ("user", "assistant", EDGE),
    ("user", EDGE),
    ("user", "assistant", "tool", PROMPT),
    ("user", "assistant", "tool", "assistant", "user", PROMPT),
    ("user", "assistant", "tool", "tool", PROMPT),
)
WHITE = "\t\n\t"  # around a message: is it trimmed? No template puts it there itself
# On these, table and program must agree. Those with tools only if tools are known.
CHECKS = (
    ("user", "assistant", "user", "assistant", "user", PROMPT),
    ("system", "user", "assistant", "user", "assistant", "user", PROMPT),
    ("user", "assistant", "tool", "assistant", "user", "assistant", "user", PROMPT),
)


def render_in_worker(template: str, names: Mapping[str, str]) -> Render:
    """A function that renders with the Jinja text `template`, in another process.

    `names` are bos_token and the like. UserError where the worker fails as a whole.
    """

    def render(conversations: Sequence[Conversation]) -> list[str | None]:
        request = {
            "template": template,
            "names": dict(names),
            "conversations": conversations,
        }
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(WORKER)],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=PATIENCE,
                env={},
                check=True,
            )
            return json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise UserError("the chat template takes too long") from None
        except (subprocess.CalledProcessError, ValueError) as error:
            lines = (getattr(error, "stderr", None) or "").strip().splitlines()
            reason = lines[-1][:200] if lines else "it takes too much time or memory"
            raise UserError(f"the chat template can't be rendered: {reason}") from None

    return render


def read_chat_template(render: Render, controls: Sequence[str]) -> ChatTemplate:
    """The table behind a template, checked; UserError if it is none of that kind."""
    between, trimmed = _learn(render)
    texts = "".join(between.values())
    names = tuple(name for name in controls if name in texts)
    template = ChatTemplate(between=between, controls=names, trimmed=trimmed)
    _check(template, render)
    return template


def _conversation(roles: Sequence[str], spaces: str = "") -> Conversation:
    """Messages of made-up words, which no template has in it."""
    *speakers, last = roles
    messages = [
        {"role": role, "content": f"{spaces}word{i}qzx{spaces}"}
        for i, role in enumerate(speakers)
    ]
    return messages, last == PROMPT


def _learn(render: Render) -> tuple[dict[tuple[str, str], str], tuple[str, ...]]:
    """What stands between the words of each probe; which roles are trimmed."""
    probes = [_conversation(roles) for roles in PROBES]
    spaced = [_conversation(roles, WHITE) for roles in PROBES]
    texts = render([*probes, *spaced])
    between: dict[tuple[str, str], str] = {}
    for roles, (messages, _), text in zip(PROBES, probes, texts, strict=False):
        gaps = _gaps(text, messages)
        if gaps is not None:
            for pair, gap in zip(pairwise((EDGE, *roles)), gaps, strict=True):
                between.setdefault(pair, gap)
    if ("user", PROMPT) not in between:
        raise UserError("the chat template does not render a user's message")
    kept = {
        message["role"]
        for (messages, _), text in zip(spaced, texts[len(probes) :], strict=True)
        for message in messages
        if message["content"] in (text or "")
    }
    known = {role for pair in between for role in pair} & set(ROLES)
    return between, tuple(sorted(known - kept))


def _gaps(text: str | None, messages: Sequence[Message]) -> list[str] | None:
    """What stands before, between and behind the contents; None if one is not there."""
    if text is None:
        return None
    gaps, rest = [], text
    for message in messages:
        before, found, rest = rest.partition(message["content"])
        if not found:
            return None
        gaps.append(before)
    return [*gaps, rest]


def _check(template: ChatTemplate, render: Render) -> None:
    """Table and program on longer conversations, with spaces and lines around words.

    (Not around the words of one that opens with a system message: Llama 2 trims that
    and the first question as one, and a table can't.)
    """
    known = {role for pair in template.between for role in pair}
    conversations = [
        _conversation(roles, spaces)
        for roles in (*CHECKS, *PROBES)
        if known >= set(roles) and roles[-1] == PROMPT
        for spaces in (("",) if "system" in roles else ("", " ", "\n\n"))
    ]
    for (messages, prompt), text in zip(
        conversations, render(conversations), strict=True
    ):
        if text != template.text(messages, prompt):
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(
                "the chat template does more than put text between messages (seen on "
                f"{roles})"
            )


def jinja_of(template: ChatTemplate) -> str:
    """The table as a Jinja program, for `apply_chat_template` of `transformers`.

    Python's and Jinja's string literals are the same as far as `ascii` writes them.
    """
    table = ",\n".join(
        f"  {'>'.join(pair)!a}: {text!a}" for pair, text in template.between.items()
    )
    trimmed = ascii(list(template.trimmed))
    return (
        "{%- set between = {\n" + table + "\n} -%}\n"
        "{%- set state = namespace(role='') -%}\n"
        "{%- macro gap(role) -%}\n"
        "{%- set place = state.role ~ '>' ~ role -%}\n"
        "{%- if place not in between -%}\n"
        "{{- raise_exception('no place for ' ~ place) -}}\n"
        "{%- endif -%}\n"
        "{{- between[place] -}}\n"
        "{%- endmacro -%}\n"
        "{%- for message in messages -%}\n"
        "{{- gap(message['role']) -}}\n"
        "{%- if message['role'] in " + trimmed + " -%}\n"
        "{{- message['content'] | trim -}}\n"
        "{%- else -%}\n"
        "{{- message['content'] -}}\n"
        "{%- endif -%}\n"
        "{%- set state.role = message['role'] -%}\n"
        "{%- endfor -%}\n"
        "{{- gap('prompt' if add_generation_prompt else '') -}}\n"
    )


def chat_of(
    tokenizer: Tokenizer, jinja: str | None
) -> tuple[ChatTemplate | None, str | None]:
    """The chat template of an imported tokenizer, or None and the reason."""
    if not jinja:
        return None, "the folder has no chat template"
    stripped = [
        token
        for token, flags in tokenizer.extras.flags.items()
        if token in tokenizer.special_tokens
        and (flags.get("lstrip") or flags.get("rstrip"))
    ]
    names = dict(tokenizer.extras.roles)
    try:
        template = read_chat_template(
            render_in_worker(jinja, names), list(tokenizer.special_tokens)
        )
    except UserError as error:
        return None, str(error)
    for token in stripped:
        if token in template.controls:
            return None, f"{token!r} takes away white space beside it"
    return template, None
