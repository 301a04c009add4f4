"""Exercise: which keys may a query see?"""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import expect, same


def seen(visible, queries: list[int], keys: list[int], *rule) -> torch.Tensor:
    """A row per query: 1 where it sees a key. The mask must be of booleans."""
    got = visible(torch.tensor([queries]), torch.tensor([keys]), *rule)
    expect(isinstance(got, torch.Tensor), "the mask is a tensor (B, T, S)")
    expect(got.dtype == torch.bool, f"the mask must be of booleans, not {got.dtype}")
    return got.int()


def rows(*flags: list[int]) -> torch.Tensor:
    return torch.tensor([flags], dtype=torch.int32)


def a_query_sees_itself_and_what_is_before(visible):
    got = seen(visible, [0, 1, 2], [0, 1, 2])
    broken = "a query must not look at a later key, but at itself and all before"
    same(got, rows([1, 0, 0], [1, 1, 0], [1, 1, 1]), broken)


def positions_decide_not_slots(visible):
    got = seen(visible, [5], [7, 5, 2])
    same(got, rows([0, 1, 1]), "the query at 5 sees 5 and 2, wherever they lie, not 7")


def empty_slots_are_never_seen(visible):
    same(seen(visible, [3], [-1, 3]), rows([0, 1]), "-1 is an empty slot, or padding")


def a_window_is_that_many_tokens(visible):
    got = seen(visible, [4], [0, 1, 2, 3, 4], 2)
    same(got, rows([0, 0, 0, 1, 1]), "a window of 2 is the token itself and one before")


def sinks_are_seen_besides(visible):
    got = seen(visible, [4], [0, 1, 2, 3, 4], 2, 1)
    same(got, rows([1, 0, 0, 1, 1]), "with one sink, position 0 is seen from anywhere")
    same(
        seen(visible, [0], [0, 1], 1, 2),
        rows([1, 0]),
        "no sink is seen before its time",
    )


def documents_are_apart(visible):
    documents = torch.tensor([[0, 1]]), torch.tensor([[0, 1]])
    got = seen(visible, [1, 2], [1, 2], None, 0, documents)
    same(got, rows([1, 0], [0, 1]), "a packed row: none sees another document")


EXERCISE = Exercise(
    title="The mask rule: windows and sinks",
    chapter=22,
    week=4,
    symbol="folio.model.mask:visible",
    task="""
    One rule for training and for every cache: from positions (B, T) of queries and
    (B, S) of keys, say who sees whom: bool (B, T, S). With a window, only that many
    tokens, and the first `sinks` besides; -1 is never seen; `documents` are numbers of
    queries' and keys' documents, which must be equal. (`both_ways` may be left aside.)
    """,
    hints=(
        "query_positions[:, :, None] and key_positions[:, None, :] broadcast.",
        "Three rules joined by &: a key is real, not later, and near or a sink.",
        "near = key > query - window; a sink is key < sinks; combine these by |.",
    ),
    checks=(
        a_query_sees_itself_and_what_is_before,
        positions_decide_not_slots,
        empty_slots_are_never_seen,
        a_window_is_that_many_tokens,
        sinks_are_seen_besides,
        documents_are_apart,
    ),
    wrong=(
        Wrong(
            "slots instead of positions",
            "    seen = sees(query, key, window, sinks, both_ways)",
            "    seen = sees((query > -9).cumsum(1) - 1, (key > -9).cumsum(2) - 1, "
            "window, sinks, both_ways)",
            "wherever they lie",
        ),
        Wrong(
            "itself is not seen",
            "sees(query, key, window",
            "sees(query - 1, key, window",
            "but at itself",
        ),
        Wrong(
            "padding is seen",
            "sees(query, key, window",
            "sees(query, key.clamp(min=0), window",
            "-1 is an empty slot",
        ),
        Wrong(
            "a window of one more",
            "sees(query, key, window,",
            "sees(query, key, None if window is None else window + 1,",
            "a window of 2",
        ),
        Wrong(
            "documents meet",
            "if documents is not None:",
            "if False:",
            "another document",
        ),
    ),
)
