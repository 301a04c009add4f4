"""Exercise: which weights shrink."""

from torch import nn

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import equal, expect


class Tiny(nn.Module):
    """A tied head, a norm, a bias, and a part that is frozen."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.frozen = nn.Linear(4, 4, bias=False).requires_grad_(False)


def found(groups, decayed: bool) -> list[str]:
    made = groups(Tiny(), 0.1)
    chosen = [g for g in made if bool(g["weight_decay"]) == decayed]
    return sorted(name for group in chosen for name in group["names"])


def matrices_shrink(groups):
    wanted = ["embedding.weight", "linear.weight"]
    equal(found(groups, True), wanted, "matrices shrink, once each, if they learn")


def vectors_do_not(groups):
    wanted = ["linear.bias", "norm.bias", "norm.weight"]
    equal(found(groups, False), wanted, "biases and norms must not shrink")


def decay_is_what_was_asked_for(groups):
    decays = sorted({group["weight_decay"] for group in groups(Tiny(), 0.1)})
    equal(decays, [0.0, 0.1], "two groups: decay 0.1 and decay 0.0")


def names_and_parameters_belong_together(groups):
    model = Tiny()
    known = dict(model.named_parameters())
    for group in groups(model, 0.1):
        pairs = zip(group["names"], group["params"], strict=True)
        right = all(known[name] is parameter for name, parameter in pairs)
        expect(right, "`names` and `params` must be in the same order")


EXERCISE = Exercise(
    title="Which weights shrink",
    chapter=15,
    place=2,
    week=3,
    symbol="folio.optim.groups:decay_groups",
    task="""
    Sort a model's parameters into two groups, each {"params": [...], "names": [...],
    "weight_decay": ...}: matrices get the decay, vectors (biases, gains of norms) none.
    Leave out what isn't trained. (`rates` may be left aside.)
    """,
    hints=(
        "model.named_parameters() gives names and parameters, a tied one once.",
        "parameter.dim() tells matrices from vectors; names don't.",
        "if parameter.requires_grad: put it where parameter.dim() >= 2 says.",
    ),
    checks=(
        matrices_shrink,
        vectors_do_not,
        decay_is_what_was_asked_for,
        names_and_parameters_belong_together,
    ),
    wrong=(
        Wrong("everything shrinks", "parameter.dim() >= 2", "True", "matrices shrink"),
        Wrong(
            "by its name",
            "parameter.dim() >= 2",
            'name.endswith("weight")',
            "matrices shrink",
        ),
        Wrong(
            "what is frozen, too",
            "if parameter.requires_grad:",
            "if True:",
            "if they learn",
        ),
        Wrong(
            "vectors shrink instead",
            "weight_decay if decayed else 0.0",
            "0.0 if decayed else weight_decay",
            "matrices shrink",
        ),
    ),
)
