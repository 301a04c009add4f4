"""Exercise: text to whole numbers and back, a character at a time."""

from folio.learn.exercise import Broken, Exercise, Wrong
from folio.learn.expect import equal

TEXT = "the quick brown fox — jumps"


def each_distinct_character_gets_one_id(tokenizer):
    equal(tokenizer("aabab").vocab_size, 2, "'aabab' has two distinct characters")


def ids_follow_the_alphabet(tokenizer):
    ids = tokenizer("hello").encode("hole")
    equal(ids, [1, 3, 2, 0], "of 'hello', sorted, the ids of 'hole'")


def decode_undoes_encode(tokenizer):
    mine = tokenizer(TEXT)
    equal(mine.decode(mine.encode(TEXT)), TEXT, "decode(encode(text)) must be the text")


def an_unknown_character_is_an_error(tokenizer):
    try:
        ids = tokenizer("abc").encode("abz")
    except (KeyError, ValueError):
        return
    raise Broken(f"'z' was never seen, so it has no id: got {ids}, not a KeyError")


EXERCISE = Exercise(
    title="A character tokenizer",
    chapter=4,
    week=1,
    symbol="folio.learn.reference.char_tokenizer:CharTokenizer",
    task="""
    A model reads numbers. Give each distinct character of a text an id, in the order
    of the alphabet, and turn text into ids and ids into text.
    """,
    hints=(
        "What are the distinct characters of a text, and how would you sort them?",
        "Keep two tables: from a place to a character, and the other way.",
        "sorted(set(text)) is the one; {c: i for i, c in enumerate(...)} the other.",
    ),
    checks=(
        each_distinct_character_gets_one_id,
        ids_follow_the_alphabet,
        decode_undoes_encode,
        an_unknown_character_is_an_error,
    ),
    wrong=(
        Wrong("an id for every character", "sorted(set(text))", "sorted(text)", "two"),
        Wrong(
            "ids in the order of the text",
            "sorted(set(text))",
            "list(dict.fromkeys(text))",
            "the ids of 'hole'",
        ),
        Wrong("spaces between characters", '"".join', '" ".join', "must be the text"),
        Wrong(
            "the unknown becomes id 0",
            "self.ids[character] for",
            "self.ids.get(character, 0) for",
            "'z' was never seen",
        ),
    ),
)
