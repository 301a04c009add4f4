"""Stop strings: text goes out as soon as it can't be part of one, and not sooner."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Passes text on up to the first of some strings, of which nothing is shown.

    However the text is cut into pieces, what comes out, joined, is the text before
    the earliest stop string.

    >>> stop = StopStrings(["END"])
    >>> [stop.push(piece) for piece in ("the E", "N", "emy E", "ND of it")]
    ['the ', '', 'ENemy ', '']
    >>> stop.found, stop.flush()
    (True, '')
    """

    def __init__(self, strings: Sequence[str] = ()):
        self.strings = tuple(strings)
        self.held = ""  # may be the beginning of a stop string
        self.found = False

    def push(self, text: str) -> str:
        """What can be shown now that `text` has come."""
        if self.found or not self.strings:
            return "" if self.found else text
        text = self.held + text
        places = [place for s in self.strings if (place := text.find(s)) >= 0]
        if places:
            self.found, self.held = True, ""
            return text[: min(places)]
        cut = len(text) - self._beginning(text)
        self.held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """What was held back and turned out not to be a stop string after all."""
        text, self.held = self.held, ""
        return text

    def _beginning(self, text: str) -> int:
        """How many characters at the end of `text` may begin a stop string."""
        longest = min(len(text), max(len(s) for s in self.strings) - 1)
        for length in range(longest, 0, -1):
            end = text[-length:]
            if any(s.startswith(end) for s in self.strings):
                return length
        return 0
