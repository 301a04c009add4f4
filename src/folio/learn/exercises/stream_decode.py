"""Exercise: show text while ids arrive, and never half a character."""

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import equal, expect

TEXT = "né, 日本 ☃!"


def stream(decoder, ids: bytes) -> tuple[list[str], str]:
    """What `push` gave for each id, and what `flush` gave."""
    from folio.text.byte import ByteTokenizer

    mine = decoder(ByteTokenizer())
    return [mine.push(i) for i in ids], mine.flush()


def plain_letters_come_at_once(decoder):
    equal(stream(decoder, b"abc")[0], ["a", "b", "c"], "each letter is whole by itself")


def half_a_character_is_held_back(decoder):
    pieces, _ = stream(decoder, "né".encode())
    equal(pieces, ["n", "", "é"], "'é' is two bytes: the first must show nothing")


def all_pieces_joined_are_the_text(decoder):
    pieces, rest = stream(decoder, TEXT.encode())
    equal("".join(pieces) + rest, TEXT, "the pieces joined must be the text")


def what_stays_unfinished_becomes_a_replacement(decoder):
    _, rest = stream(decoder, "é".encode()[:1])
    equal(rest, "\ufffd", "flush must show the unfinished character as U+FFFD")


def bytes_that_are_no_text_do_not_stop_it(decoder):
    pieces, rest = stream(decoder, b"a\xffb")
    expect(
        "b" in pieces, f"after a byte that is no text, 'b' must still show: {pieces}"
    )
    equal("".join(pieces) + rest, "a\ufffdb", "a byte that is no UTF-8 becomes U+FFFD")


EXERCISE = Exercise(
    title="Text as it comes: a streaming decoder",
    chapter=4,
    place=2,
    week=1,
    symbol="folio.text.tokenizer:StreamDecoder",
    task="""
    A token may be part of a character: "é" is two bytes. Show what is whole, hold back
    the rest. `tokenizer.token_bytes(id)` tells what an id stands for. You may leave
    `special` and `continued` aside.
    """,
    hints=(
        "Decode bytes, not tokens: where does the state live between two pushes?",
        "Python can do it: look up `codecs.getincrementaldecoder`.",
        'decoder = codecs.getincrementaldecoder("utf-8")("replace"), kept in self; '
        "`decode(b'', final=True)` at the end.",
    ),
    checks=(
        plain_letters_come_at_once,
        half_a_character_is_held_back,
        bytes_that_are_no_text_do_not_stop_it,
        all_pieces_joined_are_the_text,
        what_stays_unfinished_becomes_a_replacement,
    ),
    wrong=(
        Wrong(
            "each token decoded by itself",
            "return self._decoder.decode(piece)",
            'return piece.decode("utf-8", "replace")',
            "the first must show nothing",
        ),
        Wrong(
            "what is broken is dropped",
            '("replace")',
            '("ignore")',
            "a byte that is no UTF-8",
        ),
        Wrong(
            "all is held back until all of it is text",
            "return self._decoder.decode(piece)",
            'self._held = getattr(self, "_held", b"") + piece\n'
            "        try:\n"
            '            text, self._held = self._held.decode(), b""\n'
            "        except UnicodeDecodeError:\n"
            '            return ""\n'
            "        return text",
            "'b' must still show",
        ),
        Wrong(
            "nothing is left at the end",
            'return self._decoder.decode(b"", final=True)',
            'return ""',
            "flush must show",
        ),
    ),
)
