"""Exercise: one step of byte-pair encoding."""

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import equal


def the_pair_becomes_one_piece(glue):
    got = glue(["l", "o", "w"], ("o", "w"))
    equal(got, ["l", "ow"], "('o', 'w') in 'low' becomes one piece")


def every_occurrence_is_replaced(glue):
    got = glue(list("abcab"), ("a", "b"))
    equal(got, ["ab", "c", "ab"], "'ab' is there twice in 'abcab'")


def overlaps_go_from_left_to_right(glue):
    got = glue(list("aaab"), ("a", "a"))
    equal(got, ["aa", "a", "b"], "in 'aaab', the leftmost 'aa' is taken, and only it")


def order_within_the_pair_counts(glue):
    equal(glue(list("ba"), ("a", "b")), ["b", "a"], "'ba' is not the pair ('a', 'b')")


def pieces_of_several_characters_are_whole(glue):
    got = glue(["ab", "a", "b"], ("a", "b"))
    equal(got, ["ab", "ab"], "a pair is two pieces, not the text they spell")


def what_came_in_is_left_alone(glue):
    pieces = ["a", "b"]
    glue(pieces, ("a", "b"))
    equal(pieces, ["a", "b"], "the list that came in must not change")


EXERCISE = Exercise(
    title="Merge a pair",
    chapter=5,
    week=1,
    symbol="folio.text.word_bpe:glue",
    task="""
    Byte-pair encoding replaces a pair of neighbors by one new piece, again and again.
    Write one such step: the pieces of a word in, the pieces with the pair glued out.
    """,
    hints=(
        "Build a new list. What must you know about its last piece?",
        "If the last piece of the new list and the next one are the pair, glue them.",
        "if glued and (glued[-1], piece) == pair: glued[-1] += piece; what else?",
    ),
    checks=(
        the_pair_becomes_one_piece,
        every_occurrence_is_replaced,
        overlaps_go_from_left_to_right,
        order_within_the_pair_counts,
        pieces_of_several_characters_are_whole,
        what_came_in_is_left_alone,
    ),
    wrong=(
        Wrong(
            "only the first occurrence",
            "(glued[-1], piece) == pair:",
            '(glued[-1], piece) == pair and "".join(pair) not in glued:',
            "there twice",
        ),
        Wrong(
            "either order",
            "(glued[-1], piece) == pair",
            "{glued[-1], piece} == set(pair)",
            "not the pair",
        ),
        Wrong(
            "what they spell, not the pieces",
            "(glued[-1], piece) == pair",
            "(glued[-1][-1], piece) == pair",
            "the leftmost 'aa'",
        ),
        Wrong(
            "the list itself is emptied",
            "    return glued",
            "    pieces[:] = glued\n    return pieces",
            "must not change",
        ),
    ),
)
