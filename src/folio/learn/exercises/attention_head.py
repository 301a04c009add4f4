"""Exercise: one attention head with no framework."""

import random

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import equal, no_look_ahead, same

SAME = [[1.0, 0.0], [0.0, 1.0]]


def vectors(count: int, width: int, seed: int = 0) -> list[list[float]]:
    chance = random.Random(seed)
    return [[chance.gauss(0, 1) for _ in range(width)] for _ in range(count)]


def one_vector_for_each_token(head):
    got = head(vectors(2, 4), vectors(2, 4, 1), vectors(3, 4, 2))(vectors(5, 4, 3))
    equal(len(got), 5, "five tokens in, so many vectors out")
    equal(len(got[0]), 3, "the value matrix has 3 rows, so vectors are 3 long")


def the_first_token_sees_only_itself(head):
    got = head(SAME, SAME, SAME)([[1.0, 2.0], [3.0, -1.0]])
    same(got[0], [1.0, 2.0], "the first token can only take its own value")


def a_query_must_not_look_at_a_later_key(head):
    mine = head(vectors(2, 4), vectors(2, 4, 1), vectors(3, 4, 2))
    tokens = vectors(6, 4)
    changed = [*tokens[:5], vectors(1, 4, 9)[0]]
    no_look_ahead(mine(tokens), mine(changed), 5)


def scores_are_divided_by_the_root_of_the_width(head):
    query, key = [[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    mine = head(query, key, [[10.0, 0.0, 0.0], [0.0, 10.0, 0.0]])
    got = mine([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    wanted = [1.9557, 8.0443]  # 2 / sqrt(2) against 0: three tokens, keys 2 wide
    same(got[1], wanted, "scores are divided by sqrt(K), the width of a key", 1e-3)


def queries_keys_and_values_are_three_things(head):
    from folio.scratch.attention import apply, attend

    tokens, matrices = vectors(4, 3), [vectors(2, 3, seed) for seed in (1, 2, 3)]
    made = [[apply(matrix, token) for token in tokens] for matrix in matrices]
    broken = "queries, keys and values come from the matrices of their names"
    same(head(*matrices)(tokens), attend(*made), broken)


EXERCISE = Exercise(
    title="One attention head, with no framework",
    chapter=8,
    place=2,
    week=2,
    symbol="folio.scratch.attention:Head",
    given=("Vector", "dot", "softmax", "apply"),
    task="""
    Lists and loops only. A head has three matrices (lists of rows). For each token it
    makes a query, a key and a value; a token gets the mean of the values up to itself,
    weighed by softmax(query . key / sqrt(width of a key)).
    """,
    hints=(
        "apply(self.query, token) makes one query. You need all keys and all values.",
        "For the token at `place`, take keys[: place + 1] only: that is the mask.",
        "weights = softmax([dot(query, key) / len(key) ** 0.5 for key in ...]); "
        "then sum weight times value, number by number.",
    ),
    checks=(
        one_vector_for_each_token,
        the_first_token_sees_only_itself,
        a_query_must_not_look_at_a_later_key,
        scores_are_divided_by_the_root_of_the_width,
        queries_keys_and_values_are_three_things,
    ),
    wrong=(
        Wrong(
            "everything is seen",
            "return attend(",
            "def attend(queries, keys, values):\n"
            "            return [[sum(w * v[i] for w, v in zip(softmax(\n"
            "                [dot(q, k) / len(k) ** 0.5 for k in keys]), values))\n"
            "                for i in range(len(values[0]))] for q in queries]\n"
            "        return attend(",
            "the first token can only take its own value",
        ),
        Wrong(
            "scores as they are",
            "[apply(self.query, token) for token in tokens],",
            "[[x * len(self.key) ** 0.5 for x in apply(self.query, token)]\n"
            "             for token in tokens],",
            "divided by sqrt(K)",
        ),
        Wrong(
            "the root of the number of tokens",
            "[apply(self.query, token) for token in tokens],",
            "[[x * (len(self.key) / len(tokens)) ** 0.5\n"
            "              for x in apply(self.query, token)] for token in tokens],",
            "the width of a key",
        ),
        Wrong(
            "keys are the values",
            "[apply(self.value, token) for token in tokens],",
            "[apply(self.key, token) for token in tokens],",
            "the value matrix has 3 rows",
        ),
        Wrong(
            "queries and keys exchanged",
            "self.query, self.key, self.value = query, key, value",
            "self.key, self.query, self.value = query, key, value",
            "the matrices of their names",
        ),
        Wrong(
            "tokens are their own values",
            "[apply(self.value, token) for token in tokens],",
            "tokens,",
            "the value matrix has 3 rows",
        ),
    ),
)
