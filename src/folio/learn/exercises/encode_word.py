"""Exercise: encode a word with the merges that were learned."""

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import equal


def a_pair_becomes_its_id(merge_word):
    equal(merge_word([1, 2], {(1, 2): 0}, {(1, 2): 9}), [9], "(1, 2) becomes 9")


def unknown_pairs_stay(merge_word):
    equal(
        merge_word([1, 2, 3], {(7, 8): 0}, {(7, 8): 9}), [1, 2, 3], "nothing to merge"
    )


def the_earliest_learned_comes_first(merge_word):
    ranks, merged = {(2, 3): 0, (1, 2): 1}, {(2, 3): 4, (1, 2): 5}
    got = merge_word([1, 2, 3], ranks, merged)
    equal(got, [1, 4], "(2, 3) was learned before (1, 2), so it is merged first")


def equals_go_from_left_to_right(merge_word):
    got = merge_word([1, 1, 1], {(1, 1): 0}, {(1, 1): 2})
    equal(got, [2, 1], "of two equal pairs, the leftmost comes first")


def merges_are_merged_again(merge_word):
    ranks, merged = {(1, 2): 0, (9, 3): 1}, {(1, 2): 9, (9, 3): 10}
    equal(
        merge_word([1, 2, 3], ranks, merged), [10], "what a merge made may merge again"
    )


def the_tokenizer_gives_the_same_ids(merge_word):
    from folio.text.bpe import BPETokenizer

    tokenizer = BPETokenizer([(b"h", b"e"), (b"t", b"he"), (b"a", b"t")])
    pieces = [tokenizer.token_bytes(i) for i in tokenizer.encode("the hat")]
    wanted = [b"the", b" ", b"h", b"at"]
    equal(pieces, wanted, "a byte-level tokenizer with yours in it, of 'the hat'")


def a_word_of_one_letter_stays(merge_word):
    equal(merge_word([5], {(1, 2): 0}, {(1, 2): 9}), [5], "one id has no pair")


EXERCISE = Exercise(
    title="Encode a word with byte-pair encoding",
    chapter=5,
    place=3,
    week=1,
    symbol="folio.text.word_bpe:merge_word",
    task="""
    A word comes as the ids of its bytes. Apply the merges as they were learned: always
    the pair with the lowest rank, the leftmost of equals, until none is known.
    """,
    hints=(
        "What is learned first is merged first, wherever it stands in the word.",
        "Find the pair with the lowest rank, replace it at one place, look again.",
        "min((ranks.get(pair, never), i) for i, pair in enumerate(pairwise(ids)))",
    ),
    checks=(
        a_pair_becomes_its_id,
        unknown_pairs_stay,
        the_earliest_learned_comes_first,
        equals_go_from_left_to_right,
        merges_are_merged_again,
        a_word_of_one_letter_stays,
        the_tokenizer_gives_the_same_ids,
    ),
    wrong=(
        Wrong(
            "the leftmost known pair, whatever its rank",
            "(ranks.get(pair, never), place) for",
            "(0 if pair in ranks else never, place) for",
            "learned before",
        ),
        Wrong(
            "one round only",
            "merged[ids[place], ids[place + 1]]]",
            "merged[ids[place], ids[place + 1]]]\n        break",
            "may merge again",
        ),
        Wrong(
            "ranks from the last",
            "(ranks.get(pair, never), place) for",
            "(never - 1 - ranks[pair] if pair in ranks else never, place) for",
            "learned before",
        ),
    ),
)
