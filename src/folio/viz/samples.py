"""What the model wrote, prompt by prompt, as training went on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from folio.viz.markup import Markup, tag
from folio.viz.numerals import digits

SHOWN = 5  # moments in the strip; the others are a click away
LONGEST = 700  # characters of one sample in the strip


def continuation(prompt: str, text: str) -> str:
    """What the model added, whether or not `text` repeats the prompt.

    >>> continuation("Once", "Once upon"), continuation("Once", " upon")
    (' upon', ' upon')
    """
    return text.removeprefix(prompt)


def group(samples: Sequence[Mapping[str, Any]]) -> dict[tuple, list[Mapping[str, Any]]]:
    """Samples by prompt and temperature, each list in order of steps."""
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for sample in sorted(samples, key=lambda sample: sample["step"]):
        key = (str(sample.get("prompt") or ""), sample.get("temperature"))
        groups.setdefault(key, []).append(sample)
    return groups


def moments(steps: Sequence[int], count: int = SHOWN) -> list[int]:
    """The first step, the last, and between them each about as many times further.

    Models change most in the beginning, so even distances would show it least.

    >>> moments([0, 10, 20, 50, 100, 200, 400, 600, 800, 1000])
    [0, 10, 50, 200, 1000]
    """
    steps = sorted(set(steps))
    if len(steps) <= count:
        return steps
    start = max(steps[1] - steps[0], 1)
    ratio = ((steps[-1] - steps[0]) / start) ** (1 / (count - 2))
    wanted = [steps[0], *(steps[0] + start * ratio**i for i in range(count - 1))]
    chosen: list[int] = []
    for place in wanted:
        free = [step for step in steps if step not in chosen]
        chosen.append(min(free, key=lambda step: abs(step - place)))
    return sorted(chosen)


def sample_strip(
    samples: Sequence[Mapping[str, Any]], losses: Mapping[int, float]
) -> Markup:
    """One prompt through training: a row per moment, early gibberish to late prose.

    `losses` maps steps to the validation loss measured there, where one was.
    """
    chosen = set(moments([sample["step"] for sample in samples]))
    first = {sample["step"]: sample for sample in reversed(samples)}
    rows = [_row(first[step], losses, LONGEST) for step in sorted(chosen)]
    strip = tag("ol", *rows, class_="samples")
    if len(samples) == len(rows):
        return strip
    every = tag("ol", *(_row(s, losses, None) for s in samples), class_="samples")
    word = tag("summary", f"All {len(samples)} samples of this prompt")
    return tag("div", strip, tag("details", word, every, class_="more"))


def _row(
    sample: Mapping[str, Any], losses: Mapping[int, float], longest: int | None
) -> Markup:
    loss = losses.get(sample["step"])
    when = tag(
        "div",
        tag("b", f"{sample['step']:,}"),
        tag("span", f"val. loss {digits(loss)}") if loss is not None else None,
        class_="when",
    )
    return tag("li", when, sample_text(sample, longest))


def sample_text(sample: Mapping[str, Any], longest: int | None = LONGEST) -> Markup:
    """The prompt in its own style, then what the model wrote."""
    prompt = str(sample.get("prompt") or "")
    written = continuation(prompt, sample["text"])
    if longest is not None and len(written) > longest:
        written = written[:longest].rstrip() + " …"
    return tag(
        "p",
        tag("span", prompt, class_="prompt") if prompt else None,
        written,
        class_="sample",
    )


def prompt_title(prompt: str, temperature: float | None) -> Markup:
    """How a group of samples is announced."""
    heat = "" if temperature is None else f"temperature {temperature:g}"
    words = "“" + " ".join(prompt.split()) + "”" if prompt.strip() else "from nothing"
    return tag("span", words, " ", tag("small", heat) if heat else None, class_="ask")
