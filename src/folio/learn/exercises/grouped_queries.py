"""Exercise: several query heads share one head of keys."""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import normal, same


def every_query_head_has_keys(share):
    got = share(normal(2, 2, 3, 4), 6)
    same(torch.zeros_like(got), torch.zeros(2, 6, 3, 4), "6 heads from 2 groups")


def neighbors_share(share):
    x = torch.tensor([10.0, 20.0]).view(1, 2, 1, 1)
    wanted = torch.tensor([10.0, 10, 10, 20, 20, 20]).view(1, 6, 1, 1)
    same(share(x, 6), wanted, "heads 0, 1, 2 share the first, 3, 4, 5 the second")


def as_many_groups_as_heads_change_nothing(share):
    x = normal(1, 4, 3, 2)
    same(share(x, 4), x, "with G = H each head has its own")


def one_group_serves_all(share):
    x = normal(1, 1, 3, 2)
    same(share(x, 3), x.expand(1, 3, 3, 2), "multi-query: one head of keys for all")


EXERCISE = Exercise(
    title="Grouped queries",
    chapter=21,
    week=4,
    symbol="folio.model.attend:share_keys",
    task="""
    With grouped-query attention there are fewer heads of keys and values (G) than of
    queries (H): the first H/G query heads share the first, and so on. Give each query
    head its copy: (B, G, S, K) -> (B, H, S, K).
    """,
    hints=(
        "How often must each head of keys come? heads // x.shape[1] times.",
        "Two ways to repeat 1, 2: as 1, 2, 1, 2 or as 1, 1, 2, 2. Which is it?",
        "torch has repeat and repeat_interleave.",
    ),
    checks=(
        every_query_head_has_keys,
        neighbors_share,
        as_many_groups_as_heads_change_nothing,
        one_group_serves_all,
    ),
    wrong=(
        Wrong(
            "1, 2, 1, 2",
            "x.repeat_interleave(heads // x.shape[1], 1)",
            "x.repeat(1, heads // x.shape[1], 1, 1)",
            "heads 0, 1, 2 share the first",
        ),
        Wrong("`heads` times", "heads // x.shape[1]", "heads", "wrong shape"),
        Wrong("tokens are repeated", "x.shape[1], 1)", "x.shape[1], 2)", "wrong shape"),
    ),
)
