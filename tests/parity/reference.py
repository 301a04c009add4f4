"""transformers' models with large random weights, exact in fp64 too; and ours."""

import copy
import functools
import json
import tempfile
from pathlib import Path
from unittest import mock

import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from folio.hub.convert import config_from_hf, tensors_from_hf
from folio.model.decoder import Decoder
from folio.model.store import load_tensors
from parity.cases import VOCAB, their_config


@functools.cache
def their_model(name: str):
    """A model in fp32, all of whose weights matter: gains and biases are random too."""
    model = transformers.AutoModelForCausalLM.from_config(
        their_config(name),
        attn_implementation="eager",
        experts_implementation="eager",
        dtype=torch.float32,
    )
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return model.eval()


def some_tokens(rows: int = 2, length: int = 40) -> torch.Tensor:
    return torch.randint(
        VOCAB, (rows, length), generator=torch.Generator().manual_seed(1)
    )


@functools.cache
@torch.no_grad()
def their_logits(name: str, dtype: torch.dtype) -> torch.Tensor:
    if dtype == torch.float64:
        with exact_softmax():
            return in_fp64(their_model(name))(some_tokens()).logits
    return their_model(name)(some_tokens()).logits


def in_fp64(model):
    """A copy of their model in fp64 throughout: their RMSNorm rounds to fp32."""
    model = copy.deepcopy(model).double()
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child).__name__.endswith("RMSNorm"):
                setattr(parent, name, _exact_norm(child))
    return model


def _exact_norm(theirs: nn.Module) -> nn.RMSNorm:
    gemma = type(theirs).__name__.startswith("Gemma")
    eps = theirs.eps if gemma else theirs.variance_epsilon
    norm = nn.RMSNorm(theirs.weight.shape, eps=eps, dtype=torch.float64)
    norm.weight = nn.Parameter(theirs.weight + 1 if gemma else theirs.weight)
    return norm


def exact_softmax():
    """Their eager attention asks for a softmax in fp32; don't round fp64 to it."""
    rounding = nn.functional.softmax

    def exact(x, dim=None, dtype=None, **rest):
        if x.dtype == torch.float64 and x.dim() == 4:  # scores, not routers
            dtype = None
        return rounding(x, dim=dim, dtype=dtype, **rest)

    return mock.patch.object(nn.functional, "softmax", exact)


@functools.cache
def _workplace() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@functools.cache
def their_folder(name: str) -> Path:
    """What transformers writes for the model, config.json and model.safetensors."""
    folder = Path(_workplace().name) / name.replace(": ", "-").replace(" ", "_")
    their_model(name).save_pretrained(folder)
    return folder


@functools.cache
def imported(name: str):
    """Our model, filled from the folder that they wrote, and its family."""
    folder = their_folder(name)
    config, family = config_from_hf(json.loads((folder / "config.json").read_text()))
    model, files = Decoder(config), load_file(folder / "model.safetensors")
    load_tensors(model, tensors_from_hf(family, config, files))
    return model.eval(), family
