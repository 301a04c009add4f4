"""Each option is felt: without it, a model no longer computes what theirs does.

So the agreement in test_families.py is not the agreement of parts that do nothing.
"""

import dataclasses

import pytest
import torch

from folio.model.config import RopeScaling
from folio.model.decoder import Decoder
from parity.reference import imported, some_tokens, their_logits

# A case, and what is taken away from our configuration of it
WITHOUT = [
    ("gpt2: large eps", {"norm_eps": 1e-5}),
    ("gpt2: exact gelu", {"mlp": "gelu_tanh"}),
    ("gpt2: plain", {"mlp": "gelu"}),
    ("gpt2: relu2", {"mlp": "gelu"}),
    ("gpt2: unscaled", {"attention_scale": None}),
    ("gpt2: untied", {"tie_embeddings": True}),
    ("gpt2: plain", {"positions": "none"}),
    ("llama: plain", {"positions": "none"}),
    ("llama: plain", {"rope_fraction": 0.5}),
    ("llama: three layers, large eps", {"norm_eps": 1e-5}),
    ("llama: biases", {"qkv_bias": False}),
    ("llama: biases", {"bias": False, "qkv_bias": True}),
    ("llama: geglu", {"mlp": "swiglu"}),
    ("llama: small theta", {"rope_theta": 10_000.0}),
    ("llama: large theta", {"rope_theta": 10_000.0}),
    ("llama: linear", {"rope_scaling": None}),
    ("llama: llama3", {"rope_scaling": None}),
    ("llama: llama3, other turns", {"rope_scaling": RopeScaling("llama3", 8.0, 16)}),
    ("llama: yarn", {"rope_scaling": None}),
    ("llama: yarn", {"rope_scaling": RopeScaling("linear", 4.0)}),
    ("llama: yarn, magnitude", {"rope_scaling": RopeScaling("yarn", 4.0, 20)}),
    ("llama: yarn, two magnitudes", {"rope_scaling": RopeScaling("yarn", 4.0, 20)}),
    ("llama: yarn, other turns", {"rope_scaling": RopeScaling("yarn", 4.0, 20)}),
    ("mistral: window 5", {"window": 6}),
    ("mistral: window 5", {"window": 4}),
    ("mistral: window 5", {"sinks": 1}),
    ("mistral: heads that don't divide", {"window": None}),
    ("qwen2: plain", {"qkv_bias": False}),
    ("qwen2: windows above", {"attention_pattern": "wf"}),
    ("qwen2: windows in between", {"attention_pattern": "wf"}),
    ("qwen3: plain", {"qk_norm": False}),
    ("qwen3: windows above", {"attention_pattern": None}),
    ("mixtral: plain", {"experts.active": 1}),
    ("mixtral: three of eight", {"experts.renormalize": False}),
    ("mixtral: plain", {"experts.router": "sigmoid"}),
    ("qwen3_moe: three of eight", {"experts.active": 4}),
    ("qwen3_moe: not renormalized", {"experts.renormalize": True}),
    ("qwen3_moe: plain", {"experts.renormalize": False}),
    ("gemma: plain", {"scale_embeddings": False}),
    ("gemma: plain", {"mlp": "swiglu"}),
    ("gemma2: plain", {"post_norm": False}),
    ("gemma2: plain", {"attention_scale": None}),
    ("gemma2: plain", {"attention_softcap": None}),
    ("gemma2: plain", {"logit_softcap": None}),
    ("gemma2: plain", {"attention_pattern": "fw"}),
]


@pytest.mark.parametrize(("name", "change"), WITHOUT, ids=str)
@torch.no_grad()
def test_without_it_we_differ(name, change):
    model, _ = imported(name)
    parts = {key: value for key, value in change.items() if "." not in key}
    inner = {key.removeprefix("experts."): change[key] for key in change.keys() - parts}
    if inner:
        parts["experts"] = dataclasses.replace(model.config.experts, **inner)
    other = Decoder(dataclasses.replace(model.config, **parts)).eval()
    other.load_state_dict(model.state_dict(), strict=False)
    moved = (other(some_tokens()).logits - their_logits(name, torch.float32)).abs()
    two_gelus = {change.get("mlp"), model.config.mlp} == {"gelu", "gelu_tanh"}
    assert moved.max() > (5e-4 if two_gelus else 1e-2)  # GELUs are near one another


@pytest.mark.parametrize("name", ["gpt2: plain", "qwen3: plain", "gemma2: plain"])
@torch.no_grad()
def test_every_tensor_is_felt(name):
    """Every weight moved on by one place is seen in the logits."""
    model, _ = imported(name)
    wanted = their_logits(name, torch.float32)
    for key, weight in model.state_dict().items():
        kept = weight.clone()
        weight.copy_(kept.flatten().roll(1).view_as(kept))
        moved = (model(some_tokens()).logits - wanted).abs().max()
        weight.copy_(kept)
        if key.endswith("attention.key.bias") and model.config.positions == "learned":
            assert moved < 1e-3  # the same for all keys: softmax doesn't see it
        else:
            assert moved > 1e-2, key
