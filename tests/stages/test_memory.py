"""Memory that ends is one line, with what to lower."""

import pytest
import torch

from folio.config import UserError
from folio.model.config import ModelConfig
from folio.stages.memory import told_if_memory_ends, what_to_lower
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe, TrainRecipe
from folio.stages.tuning import GRPORecipe
from folio.training.learner import Learner
from helpers import tiny_recipe

ALLOCATOR = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"
CONFIG = ModelConfig(vocab_size=1000, d_model=256, n_layers=8, max_seq_len=512)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError(ALLOCATOR), torch.OutOfMemoryError("CUDA out of")],
)
def test_it_is_known_in_all_its_words(error):
    recipe = PretrainRecipe(model=CONFIG)
    wanted = "out of memory: 16 sequences of 512 tokens"
    with (
        pytest.raises(UserError, match=wanted),
        told_if_memory_ends(recipe, CONFIG),
    ):
        raise error


def test_other_errors_stay_what_they_are():
    recipe = PretrainRecipe(model=CONFIG)
    with (
        pytest.raises(RuntimeError, match="shapes"),
        told_if_memory_ends(recipe, CONFIG),
    ):
        raise RuntimeError("shapes")


def test_what_is_advised_helps_by_the_planners_figures():
    said = what_to_lower(PretrainRecipe(model=CONFIG), CONFIG)
    assert "--train.batch 8 --train.accumulate 2: " in said
    assert "--train.checkpoint_layers true: " in said
    sizes = [
        float(word)
        for word in said.replace("GB", " ").split()
        if "." in word and word.replace(".", "").isdigit()
    ]
    assert len(sizes) == 3
    assert max(sizes[1:]) < sizes[0]


def test_what_is_small_already_gets_shorter_texts():
    train = TrainRecipe(batch=1, checkpoint_layers=True)
    recipe = PretrainRecipe(model=CONFIG, train=train)
    assert "--train.length 256: " in what_to_lower(recipe, CONFIG)


def test_rollouts_have_flags_of_their_own():
    said = what_to_lower(GRPORecipe(parent="run", model=CONFIG), CONFIG)
    assert said == "raise --train.accumulate, or lower --rollout.prompts"


def test_a_run_says_it_and_is_marked_failed(tmp_path, monkeypatch):
    def update(self, batches, objective):
        raise RuntimeError(ALLOCATOR)

    monkeypatch.setattr(Learner, "update", update)
    with pytest.raises(UserError, match="out of memory: "):
        pretrain(tiny_recipe(tmp_path), tmp_path / "run", say=len)
    assert '"status": "failed"' in (tmp_path / "run/run.json").read_text()
