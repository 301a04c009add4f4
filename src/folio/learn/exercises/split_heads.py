"""Exercise: a wide vector as several heads."""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import same


def attention(d_model: int = 6, heads: int = 2):
    from folio.model.attention import Attention
    from folio.model.config import ModelConfig

    return Attention(ModelConfig(d_model=d_model, n_heads=heads, positions="none"))


def heads_come_before_tokens(split):
    got = split(attention(), torch.zeros(1, 4, 6), 2)
    same(got, torch.zeros(1, 2, 4, 3), "(B, T, 6) of 2 heads is (B, 2, T, 3)")


def a_head_is_a_run_of_neighbors(split):
    x = torch.arange(12.0).view(1, 2, 6)
    got = split(attention(), x, 2)
    wanted = torch.tensor([[0.0, 1, 2], [6, 7, 8]])
    same(got[0, 0], wanted, "the first head has the first three numbers of each token")


def heads_side_by_side_are_the_vectors_again(split):
    x = torch.arange(60.0).view(2, 5, 6)
    again = split(attention(), x, 2).transpose(1, 2).flatten(2)
    same(again, x, "transposed and flattened, heads are the vectors again")


def keys_may_have_fewer_heads(split):
    got = split(attention(), torch.zeros(2, 4, 3), 1)
    same(got, torch.zeros(2, 1, 4, 3), "`heads` says how many, not self.n_heads")


EXERCISE = Exercise(
    title="Split into heads",
    chapter=10,
    week=2,
    symbol="folio.model.attention:Attention.split",
    task="""
    Heads work side by side, each on a part of every token's vector, `self.head_width`
    numbers wide. Bring (B, T, heads * K) to (B, heads, T, K).
    """,
    hints=(
        "Two steps: first cut the last dimension in two, then exchange two dimensions.",
        "A plain view(B, heads, T, K) mixes tokens: why?",
        "x.unflatten(-1, (heads, self.head_width)), then transpose.",
    ),
    checks=(
        heads_come_before_tokens,
        a_head_is_a_run_of_neighbors,
        heads_side_by_side_are_the_vectors_again,
        keys_may_have_fewer_heads,
    ),
    wrong=(
        Wrong(
            "a view alone, which mixes tokens",
            "x.unflatten(-1, (heads, self.head_width)).transpose(1, 2)",
            "x.reshape(x.shape[0], heads, x.shape[1], self.head_width)",
            "the first three numbers of each token",
        ),
        Wrong("not transposed", ".transpose(1, 2)", "", "wrong shape"),
        Wrong(
            "every second number",
            "(heads, self.head_width)).transpose(1, 2)",
            "(self.head_width, heads)).permute(0, 3, 1, 2)",
            "the first three numbers",
        ),
        Wrong(
            "always as many as queries have",
            "(heads, self.head_width)",
            "(self.n_heads, self.head_width)",
            "RuntimeError",
        ),
    ),
)
