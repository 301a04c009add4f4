"""Exercise: define a small GPT."""

import math

import torch
import torch.nn.functional as F

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import alike, expect, no_look_ahead

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


def made(gpt, layers: int = 2):
    torch.manual_seed(0)
    return gpt(10, 6, 16, layers, 2)


def scores_for_every_token_at_every_place(gpt):
    alike(made(gpt)(TOKENS), torch.zeros(2, 6, 10))
    alike(made(gpt)(TOKENS[:, :3]), torch.zeros(2, 3, 10))


def it_must_not_look_ahead(gpt):
    model, changed = made(gpt), TOKENS.clone()
    changed[:, 5] = 0
    no_look_ahead(model(TOKENS), model(changed), 5, "scores")


def it_knows_where_tokens_stand(gpt):
    model = made(gpt, layers=1)
    one, other = (model(torch.tensor([row]))[0, 2] for row in ([1, 2, 3], [2, 1, 3]))
    expect(
        (one - other).abs().max() > 1e-4,
        "after '1 2 3' and after '2 1 3' it says the same: add the positions",
    )


def the_head_is_the_embedding(gpt):
    sizes = [tuple(p.shape) for p in made(gpt).parameters()]
    count = sizes.count((10, 16))
    expect(count == 1, f"{count} matrices of V x D: embedding and head must share one")
    expect((10,) not in sizes, "the head has a bias of V numbers: leave it out")


def layers_are_as_many_as_asked(gpt):
    one, three = (sum(p.numel() for p in made(gpt, n).parameters()) for n in (1, 3))
    expect(three > one, "n_layers = 3 must have more weights than n_layers = 1")


def it_begins_undecided(gpt):
    scores, following = made(gpt)(TOKENS)[:, :-1], TOKENS[:, 1:]
    loss = F.cross_entropy(scores.flatten(0, 1), following.flatten()).item()
    expect(
        abs(loss - math.log(10)) < 0.7,
        f"an untrained model knows nothing: its loss is log 10 = 2.3, yours {loss:.2f}",
    )
    for weight in made(gpt).parameters():
        if tuple(weight.shape) in ((10, 16), (6, 16)):  # tokens, positions
            table, deviation = " x ".join(map(str, weight.shape)), weight.std().item()
            expect(
                0.01 < deviation < 0.03,
                f"the table of {table} begins with a deviation of {deviation:.2g}, "
                "not 0.02",
            )


def every_weight_learns(gpt):
    model = made(gpt)
    model(TOKENS).square().sum().backward()
    for name, weight in model.named_parameters():
        used = weight.grad is not None and bool(weight.grad.abs().sum() > 0)
        expect(used, f"{name} gets no gradient: it takes no part in the scores")


EXERCISE = Exercise(
    title="A small GPT, defined",
    chapter=12,
    week=2,
    symbol="folio.learn.reference.small_gpt:SmallGPT",
    given=("Block", "Norm"),
    task="""
    The whole model. Embed tokens and add learned positions, go through the blocks,
    norm, and score every token of the vocabulary. The head is tied to the embedding.
    `Block(d_model, n_heads, max_seq_len)` and `Norm(width)` are given; embeddings begin
    with a deviation of 0.02.
    """,
    hints=(
        "super().__init__(), then two nn.Embedding, a nn.ModuleList of blocks, a Norm, "
        "and a nn.Linear without bias.",
        "x = self.tokens(tokens) + self.positions(torch.arange(T)).",
        "self.head.weight = self.tokens.weight ties; nn.init.normal_(..., std=0.02).",
    ),
    checks=(
        scores_for_every_token_at_every_place,
        it_must_not_look_ahead,
        it_knows_where_tokens_stand,
        layers_are_as_many_as_asked,
        the_head_is_the_embedding,
        it_begins_undecided,
        every_weight_learns,
    ),
    wrong=(
        Wrong("no positions", " + self.positions(places)", "", "add the positions"),
        Wrong(
            "a head of its own",
            "        self.head.weight = self.tokens.weight\n",
            "",
            "must share one",
        ),
        Wrong(
            "embeddings as large as torch makes them",
            "        nn.init.normal_(self.tokens.weight, std=0.02)\n",
            "",
            "knows nothing",
        ),
        Wrong("a head with a bias", "bias=False", "bias=True", "leave it out"),
        Wrong(
            "positions as large as torch makes them",
            "        nn.init.normal_(self.positions.weight, std=0.02)\n",
            "",
            "the table of 6 x 16",
        ),
        Wrong("blocks in a plain list", "nn.ModuleList(", "list(", "more weights"),
        Wrong(
            "the last norm is forgotten",
            "self.head(self.norm(x))",
            "self.head(x)",
            "norm.gain gets no gradient",
        ),
    ),
)
