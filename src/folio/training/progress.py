"""What is seen while training: one live line in a terminal, sparse lines in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from folio.training.log import is_evaluation


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(7), duration(65), duration(3723)
    ('7s', '1m05s', '1h02m')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


# Digits behind the point of what is shown of an evaluation.
MEASURED = {
    "val_loss": 4,
    "val_bits_per_byte": 4,
    "val_perplexity": 2,
    "val_accuracy": 3,
}
NAMES = {
    "val_loss": "held-out loss",
    "val_accuracy": "held-out accuracy",
    "val_bits_per_byte": "bits per byte",
    "val_perplexity": "perplexity",
    "kl_sequence": "KL",
}


def readable(name: str) -> str:
    """
    >>> readable("val_loss"), readable("sampled_gold")
    ('held-out loss', 'sampled gold')
    """
    return NAMES.get(name, name.replace("_", " "))


class Display:
    """A sink that shows loss, speed and the time that is left.

    In a terminal the line is rewritten in place; elsewhere it is printed every
    `quiet` seconds. Evaluations always get a line of their own.
    """

    def __init__(self, steps: int, quiet: float = 20.0):
        self.steps, self.quiet = steps, quiet
        self.live = sys.stderr.isatty()
        self.first: tuple[int, float] | None = None
        self.shown = 0.0

    def write(self, row: Mapping[str, Any]) -> None:
        if is_evaluation(row):
            self._line(self._evaluation(row))
        elif "loss" in row:
            self._training(row)

    def _training(self, row: Mapping[str, Any]) -> None:
        now = time.monotonic()
        self.first = self.first or (row["step"], now)
        if not self.live and now - self.shown < self.quiet:
            return
        self.shown = now
        text = f"step {row['step']:>6,}/{self.steps:,}  loss {row['loss']:.4f}"
        for name in ("accuracy", "reward", "gold", "kl_sequence"):
            if name in row:
                text += f"  {readable(name)} {row[name]:.3f}"
        if "tokens_per_second" in row:
            text += f"  {row['tokens_per_second']:,.0f} tokens/s"
        done = row["step"] - self.first[0]
        if done:
            left = (self.steps - row["step"]) * (now - self.first[1]) / done
            text += f"  {duration(left)} left"
        if self.live:
            bar = _bar(row["step"] / self.steps)
            sys.stderr.write(f"\r\033[K{bar} {text}")
            sys.stderr.flush()
        else:
            print(text, file=sys.stderr, flush=True)

    def _evaluation(self, row: Mapping[str, Any]) -> str:
        """All that was measured, but not each task's or category's part."""
        text = f"step {row['step']:>6,}"
        for name, value in row.items():
            shown = name in MEASURED or name.startswith(("greedy_", "sampled_"))
            if shown and "." not in name:
                text += f"  {readable(name)} {value:.{MEASURED.get(name, 3)}f}"
        return text

    def _line(self, text: str) -> None:
        clear = "\r\033[K" if self.live else ""
        print(f"{clear}{text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.live:
            sys.stderr.write("\r\033[K")


def _bar(share: float, width: int = 20) -> str:
    """A bar of blocks, in eighths.

    >>> _bar(0.5, 4)
    '██··'
    """
    eighths = round(share * width * 8)
    full, part = divmod(eighths, 8)
    tip = " ▏▎▍▌▋▊▉"[part] if part else ""
    return ("█" * full + tip).ljust(width, "·")
