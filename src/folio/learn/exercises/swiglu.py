"""Exercise: a gated feed-forward part."""

import torch
import torch.nn.functional as F

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import normal, same


def part(**changes):
    from folio.model.config import ModelConfig
    from folio.model.mlp import GatedMLP

    torch.manual_seed(0)
    return GatedMLP(ModelConfig(vocab_size=1, d_model=8, d_ff=12, **changes))


def no_gate_no_output(forward):
    mlp = part()
    torch.nn.init.zeros_(mlp.gate.weight)
    got = forward(mlp, normal(1, 2, 8)).detach()
    same(got, torch.zeros(1, 2, 8), "silu(0) is 0: a closed gate lets nothing through")


def the_activation_bends_the_gate_only(forward):
    mlp, x = part(), normal(2, 3, 8)
    wanted = (F.silu(x @ mlp.gate.weight.T) * (x @ mlp.up.weight.T)) @ mlp.down.weight.T
    same(forward(mlp, x), wanted, "down(silu(gate(x)) * up(x))")


def each_token_by_itself(forward):
    mlp, x = part(), normal(1, 3, 8)
    same(forward(mlp, x)[:, 1:], forward(mlp, x[:, 1:]), "tokens don't meet here")


def other_activations_are_possible(forward):
    mlp, x = part(mlp="geglu"), normal(1, 2, 8)
    gate = F.gelu(x @ mlp.gate.weight.T, approximate="tanh")
    wanted = (gate * (x @ mlp.up.weight.T)) @ mlp.down.weight.T
    same(forward(mlp, x), wanted, "self.activation may be another than silu")


EXERCISE = Exercise(
    title="SwiGLU",
    chapter=20,
    week=4,
    symbol="folio.model.mlp:GatedMLP.forward",
    task="""
    A feed-forward part in which one half gates the other: the gate goes through
    `self.activation`, is multiplied number by number with what `self.up` gives, and
    `self.down` brings the product back to the width of the model. The three linear
    layers are self.gate, self.up and self.down.
    """,
    hints=(
        "Both self.gate(x) and self.up(x) are (B, T, F).",
        "Only one of them goes through self.activation.",
        "self.down(self.activation(...) * ...)",
    ),
    checks=(
        no_gate_no_output,
        the_activation_bends_the_gate_only,
        each_token_by_itself,
        other_activations_are_possible,
    ),
    wrong=(
        Wrong(
            "the wrong half is bent",
            "self.activation(self.gate(x)) * self.up(x)",
            "self.gate(x) * self.activation(self.up(x))",
            "down(silu(gate(x)) * up(x))",
        ),
        Wrong("added", ") * self.up", ") + self.up", "a closed gate"),
        Wrong(
            "a sigmoid gate, as in GLU",
            "self.activation(self.gate(x))",
            "self.gate(x).sigmoid()",
            "a closed gate",
        ),
        Wrong("never narrowed", "self.down(", "(", "wrong shape"),
    ),
)
