"""What is said of an answer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verdict:
    """What came of the checks: those that hold, and the first that doesn't."""

    held: list[str] = field(default_factory=list)
    failed: str = ""  # the property that doesn't hold, if it came to one
    message: str = ""
    line: int | None = None  # of the learner's file

    @property
    def passed(self) -> bool:
        return not self.message


class Fault(Exception):
    """Why a learner's file can't be judged, and the line that is to blame."""

    def __init__(self, message: str, line: int | None = None):
        super().__init__(message)
        self.message, self.line = message, line
