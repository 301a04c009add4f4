"""Exercise: which pairs byte-pair encoding learns."""

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import equal

WORDS = {tuple("low"): 5, tuple("lower"): 2, tuple("newer"): 4}


def the_most_frequent_pair_comes_first(learn_merges):
    got = learn_merges({tuple("ab"): 1, tuple("cd"): 3}, 1)
    equal(got, [("c", "d")], "'cd' occurs three times, 'ab' once")


def words_count_as_often_as_they_occur(learn_merges):
    words = {tuple("ab"): 5, tuple("xcd"): 2, tuple("ycd"): 2}
    got = learn_merges(words, 1)
    equal(got, [("a", "b")], "one word that occurs 5 times outweighs two of 2")


def equals_are_settled_by_the_alphabet(learn_merges):
    got = learn_merges({tuple("ab"): 2, tuple("cd"): 2}, 1)
    equal(got, [("c", "d")], "among equals, the lexicographically greatest wins")


def later_merges_build_on_earlier_ones(learn_merges):
    got = learn_merges(WORDS, 3)
    wanted = [("o", "w"), ("l", "ow"), ("e", "r")]
    equal(got, wanted, "after ('o', 'w') is glued, pairs are counted anew")


def it_ends_when_no_pair_is_left(learn_merges):
    got = learn_merges({tuple("ab"): 1}, 10)
    equal(got, [("a", "b")], "'ab' has one pair, however many merges are wanted")


EXERCISE = Exercise(
    title="Learn the merges",
    chapter=5,
    place=2,
    week=1,
    symbol="folio.text.word_bpe:learn_merges",
    given=("Piece", "glue"),
    task="""
    Count the pairs of neighbors in all words, glue the most frequent one everywhere,
    and count again. Words come with how often they occur. Return the pairs in order.
    """,
    hints=(
        "collections.Counter and itertools.pairwise do the counting.",
        "A pair counts as often as its word occurs; `glue` makes the words of the next "
        "round.",
        "best = max(pairs, key=lambda pair: (pairs[pair], pair))",
    ),
    checks=(
        the_most_frequent_pair_comes_first,
        words_count_as_often_as_they_occur,
        equals_are_settled_by_the_alphabet,
        later_merges_build_on_earlier_ones,
        it_ends_when_no_pair_is_left,
    ),
    wrong=(
        Wrong("a word counts once", "+= count", "+= 1", "5 times"),
        Wrong(
            "the first among equals",
            "key=lambda pair: (pairs[pair], pair)",
            "key=lambda pair: pairs[pair]",
            "lexicographically greatest",
        ),
        Wrong(
            "pairs of the first count",
            "(glue(pieces, best), count) for",
            "([p for p in pieces if p not in best], count) for",
            "counted anew",
        ),
        Wrong(
            "no end",
            "if not pairs:\n            break",
            'if not pairs:\n            pairs["", ""] = 1',
            "'ab' has one pair",
        ),
    ),
)
