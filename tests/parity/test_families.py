"""Every family computes what transformers computes, in and out again.

transformers' RMSNorm and softmax round to fp32 even in fp64; the reference has them
replaced there (see reference.py). Angles of rotary positions are fp32 in both.
"""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from folio.hub.convert import (
    config_from_hf,
    config_to_hf,
    tensors_from_hf,
    tensors_to_hf,
)
from folio.infer.generate import generate
from folio.infer.sampling import GREEDY
from folio.model.decoder import Decoder
from folio.model.store import load_tensors, model_tensors
from parity.cases import NAMES
from parity.reference import (
    imported,
    some_tokens,
    their_folder,
    their_logits,
    their_model,
)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_there_are_enough_cases():
    assert len(NAMES) >= 60


@torch.no_grad()
def test_logits_fp32(name):
    wanted = their_logits(name, torch.float32)
    assert wanted.std() > 0.4
    ours, _ = imported(name)
    assert (ours(some_tokens()).logits - wanted).abs().max() < 1e-4


@torch.no_grad()
def test_logits_fp64(name):
    wanted = their_logits(name, torch.float64)
    model, family = imported(name)
    ours = Decoder(model.config).double().eval()
    files = load_file(their_folder(name) / "model.safetensors")
    files = {key: tensor.double() for key, tensor in files.items()}
    load_tensors(ours, tensors_from_hf(family, model.config, files))
    assert (ours(some_tokens()).logits - wanted).abs().max() < 1e-6


def test_in_and_out_and_in_again(name):
    """Configuration and weights come back the same, bit for bit."""
    model, family = imported(name)
    values = json.loads(json.dumps(config_to_hf(model.config, family)))
    config, again = config_from_hf(values)
    assert (config, again) == (model.config, family)
    weights = tensors_from_hf(family, config, tensors_to_hf(family, model))
    wanted = model_tensors(model)
    assert weights.keys() == wanted.keys()
    assert all(torch.equal(weights[key], wanted[key]) for key in wanted)


@torch.no_grad()
def test_export_loads_in_transformers(name, tmp_path):
    """In the family that we choose ourselves, with no key missing or unexpected."""
    model, _ = imported(name)
    values = config_to_hf(model.config)
    _, family = config_from_hf(values)
    (tmp_path / "config.json").write_text(json.dumps(values))
    save_file(
        tensors_to_hf(family, model),
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
        local_files_only=True,
    )
    assert type(theirs).__name__ == family.architecture
    assert not any(report.values()), report
    found = theirs.eval()(some_tokens()).logits
    assert (found - their_logits(name, torch.float32)).abs().max() < 1e-5


@torch.no_grad()
def test_greedy_text(name):
    prompt = [3, 1, 4, 1, 5]
    wanted = their_model(name).generate(
        torch.tensor([prompt]),
        do_sample=False,
        max_new_tokens=64,
        # Their cache keeps the last window - 1 keys as [-0:], which is all of them
        use_cache=not name.endswith("window 1"),
    )
    ours, _ = imported(name)
    found = list(generate(ours, prompt, 64, sampling=GREEDY))
    assert len(found) == 64
    assert found == wanted[0, len(prompt) :].tolist()
