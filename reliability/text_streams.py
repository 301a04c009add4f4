"""Row 11: random tokens, streamed. Is the text ever other than it should be?

Tokens are cut across characters, some bytes are no UTF-8, control tokens stand between,
stop strings begin everywhere and end across tokens. A sample of the engine takes them
one by one. Beside it the text is worked out the slow way, anew after each token: all
whole characters, up to the first stop string, less what may still become one. What has
been shown must be exactly that at each moment, and at the end the text of all ids.
"""

from __future__ import annotations

import codecs
import contextlib
import random
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from folio.infer.request import Request, Token
from folio.infer.sequence import Sequence as Sample
from folio.infer.stopping import StopStrings
from folio.text.bpe import BPETokenizer
from folio.text.byte import ByteTokenizer
from folio.text.tokenizer import Tokenizer
from reliability.row import Row, Tally, seeds
from reliability.subject import replaced

ALPHABET = ["a", "b", "END", " ", "\n", "é", "ß", "☃", "語", "😀", "e\u0301", "\ufffd"]
ALPHABET += ["👩\u200d👧"]  # two of four bytes, joined
BROKEN_BYTES = [b"\xff", b"\xc3", b"\xe2\x98", b"\xf0\x9f", b"\xed\xa0\x80", b"\x80"]


def tokenizers() -> list[Tokenizer]:
    """Bytes, and pieces that were learned from text like what will be written."""
    text = " ".join(ALPHABET * 3 + ["abEND", "☃END", "語語", "😀😀", "ENDE"] * 4)
    return [ByteTokenizer(), BPETokenizer.train([text], 320)]


def random_stream(chance: random.Random, tokenizer: Tokenizer) -> list[int]:
    """Ids of awkward text, cut up, with a few that come from nowhere."""
    ids: list[int] = []
    ordinary = tokenizer.vocab_size - len(tokenizer.special_tokens)
    for _ in range(chance.randrange(1, 9)):
        match chance.randrange(8):
            case 0:
                ids.append(chance.randrange(ordinary))
            case 1:
                ids += list(chance.choice(BROKEN_BYTES))  # the first 256 are bytes
            case 2:
                ids += list(chance.choice(ALPHABET).encode())
            case 3 if chance.random() < 0.5:
                ids.append(chance.choice(sorted(tokenizer.special_tokens.values())))
            case _:
                ids += tokenizer.encode("".join(chance.choices(ALPHABET, k=3)))
    return ids


def random_stops(chance: random.Random) -> tuple[str, ...]:
    make = lambda: "".join(chance.choices(ALPHABET, k=chance.randrange(1, 4)))  # noqa: E731
    return tuple(make() for _ in range(chance.randrange(4)))


# ---- the slow way --------------------------------------------------------------------


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Up to the first stop string, and whether there was one."""
    places = [text.index(stop) for stop in stops if stop in text]
    return (text[: min(places)], True) if places else (text, False)


def showable(text: str, stops: Sequence[str]) -> str:
    """Without the longest ending that a stop string begins with."""
    for start in range(len(text)):
        if any(stop.startswith(text[start:]) for stop in stops):
            return text[:start]
    return text


class Slowly:
    """What must have been shown after each token."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], limit: int):
        self.tokenizer, self.stops, self.limit = tokenizer, stops, limit
        self.ends = Request([0]).ends(tokenizer)
        self.ids: list[int] = []

    def push(self, id: int) -> tuple[str, str | None]:
        """All that is to be seen by now, and how it has ended."""
        self.ids.append(id)
        data = self.tokenizer.decode_bytes(self.ids, special=False)
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(data)
        shown, found = cut(text, self.stops)
        if found:
            return shown, "stop"
        if id in self.ends or len(self.ids) == self.limit:
            shown, found = cut(data.decode("utf-8", "replace"), self.stops)
            return shown, "stop" if found or id in self.ends else "length"
        return showable(text, self.stops), None


# ---- trials --------------------------------------------------------------------------


def trial(chance: random.Random, tokenizer: Tokenizer) -> tuple[str | None, str]:
    """What went wrong with one stream, and how it ended."""
    ids, stops = random_stream(chance, tokenizer), random_stops(chance)
    limit = chance.randrange(1, len(ids) + 5)
    request = Request([0], limit, stop=stops)
    handle: Any = SimpleNamespace(request=request, prompt=[0])
    ends = request.ends(tokenizer)
    sample = Sample(handle, 0, [], limit, ends, tokenizer)
    slowly, shown = Slowly(tokenizer, stops, limit), ""
    for number, id in enumerate(ids):
        event = sample.accept(Token(id, -0.5))
        shown += event.text
        wanted, finish = slowly.push(id)
        if (shown, event.finish) != (wanted, finish):
            state = f"{shown!r}, {event.finish} instead of {wanted!r}, {finish}"
            return f"token {number} of {ids}, stops {stops}: {state}", str(finish)
        if finish:
            return None, finish
    shown += sample.end("cancelled").text
    wanted = tokenizer.decode_bytes(ids, special=False).decode("utf-8", "replace")
    wanted, _ = cut(wanted, stops)
    wrong = None if shown == wanted else f"{shown!r} instead of {wanted!r} of {ids}"
    return wrong, "left"


def work(home: Any, seed: int, trials: int) -> Tally:
    """`trials` streams, by turns of each tokenizer."""
    tally, known = Tally(), tokenizers()
    for number in range(trials):
        chance = random.Random(f"{seed}-{number}")
        tokenizer = known[number % len(known)]
        problem, finish = trial(chance, tokenizer)
        kind = f"{type(tokenizer).__name__}: {finish}"
        tally.note(f"seed {seed}, trial {number}", problem, kind)
    return tally


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """Text goes out at once, whether a stop string may have begun or not."""
    with replaced(StopStrings, "_beginning", lambda self, text: 0):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """A hundred thousand streams; quick: 2,000."""
    return seeds(2000, 2000) if quick else seeds(100_000, 10_000)


ROW = Row(
    11,
    "text_streams",
    "pieces of a text, joined, are the text; no half character, no stop string in it",
    parts,
    work,
    "shows the beginning of a stop string",
    broken,
)
