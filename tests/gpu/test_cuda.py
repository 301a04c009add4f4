"""The same promises on a CUDA device: equal numbers, learning, exact resume."""

import shutil

import pytest
import torch

from folio.infer.generate import generate
from folio.infer.sampling import GREEDY
from folio.model.config import gpt2_like, llama_like
from folio.model.decoder import Decoder
from folio.stages.pretrain import pretrain
from folio.training.snapshot import snapshot_paths
from helpers import assert_same_run, tiny_recipe, what_a_run_left

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SHAPE = {"vocab_size": 64, "d_model": 64, "n_layers": 2, "n_heads": 4}


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize("family", [gpt2_like, llama_like])
def test_logits_equal_those_of_the_cpu(family):
    torch.manual_seed(0)
    model = Decoder(family(max_seq_len=32, **SHAPE)).eval()
    tokens = torch.randint(64, (2, 32), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model(tokens).logits
        logits = model.cuda()(tokens.cuda()).logits.cpu()
    assert torch.allclose(logits, wanted, atol=1e-4)


def test_cached_generation_equals_the_cpus():
    torch.manual_seed(0)
    model = Decoder(llama_like(max_seq_len=48, **SHAPE)).eval()
    wanted = list(generate(model, [1, 2, 3], 40, sampling=GREEDY))
    assert list(generate(model.cuda(), [1, 2, 3], 40, sampling=GREEDY)) == wanted


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns_in_every_precision(tmp_path, precision):
    train = {"device": "cuda", "precision": precision, "steps": 60, "eval_every": 60}
    recipe = tiny_recipe(tmp_path, train=train, optim={"lr": 0.01})
    run = pretrain(recipe, tmp_path / "run", say=quiet)
    assert run.read_info()["results"]["val_loss"] < 2.6  # a guess costs ln 45 = 3.8


def test_resumed_equals_never_stopped(tmp_path):
    """Dropout draws from the device's own generator, which the snapshot holds."""
    recipe = tiny_recipe(tmp_path, train={"device": "cuda", "keep": 99})
    pretrain(recipe, tmp_path / "whole", say=quiet)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for path in snapshot_paths(tmp_path / "cut/snapshots")[5:]:
        shutil.rmtree(path)
    pretrain(recipe, tmp_path / "cut", resume=True, say=quiet)
    whole, cut = (what_a_run_left(tmp_path / name) for name in ("whole", "cut"))
    assert_same_run(cut, whole)
