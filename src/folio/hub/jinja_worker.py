"""Renders a stranger's Jinja template in a process of its own, with little to spend.

Run as a script by chat_template.py, which is why it imports nothing of Folio: JSON
comes in, JSON goes out. Jinja's sandbox keeps a template from reaching Python objects,
but not from taking all memory (`'a' * 10**9`) or for ever: limits of the system do.
"""

from __future__ import annotations

import json
import sys

SECONDS, MEMORY = 1, 512 << 20  # of processor time; bytes
LONGEST = 20_000  # characters of one rendered conversation


def limit_resources() -> None:
    """Little time and memory, nothing to write; OSError where that can't be."""
    try:
        import resource
    except ImportError:
        raise OSError("this system has no limits for processes") from None
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))


def render_all(request: dict) -> list[str | None]:
    """Each conversation rendered; None where the template refuses it."""
    from jinja2.exceptions import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message):
        raise TemplateError(message)

    # As `transformers` sets it up, except for what depends on the date.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(
        value, ensure_ascii=False
    )
    environment.globals["raise_exception"] = raise_exception
    limit_resources()
    template = environment.from_string(request["template"])
    rendered: list[str | None] = []
    for messages, add_generation_prompt in request["conversations"]:
        try:
            text = template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **request["names"],
            )
        except Exception:  # whatever a template does wrong, it can't be rendered
            text = None
        fits = text is not None and len(text) <= LONGEST
        rendered.append(text if fits else None)
    return rendered


if __name__ == "__main__":
    json.dump(render_all(json.load(sys.stdin)), sys.stdout)
