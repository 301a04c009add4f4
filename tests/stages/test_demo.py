"""The demo: whole recipes, a baseline that counts the same tokens, names of runs."""

from dataclasses import replace

import pytest

from folio.data import tales
from folio.stages import demo
from folio.stages.demo import SMOKE, TUNED, _free_folder, demo_recipe, results
from folio.stages.pretrain import pretrain
from tuned import make_parent


def test_the_smoke_test_is_the_same_run_only_shorter():
    full, smoke = demo_recipe(smoke=False, seed=3), demo_recipe(smoke=True, seed=3)
    assert smoke.model == full.model
    assert smoke.seed == full.seed == 3
    assert smoke.train.steps < full.train.steps / 10


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return make_parent(tmp_path_factory.mktemp("demo")).folder


@pytest.mark.parametrize("stage", TUNED)
def test_every_stage_has_a_recipe_that_is_whole(stage, parent):
    runs = dict.fromkeys(("pretrain", "sft", "reward"), parent)
    full = demo.tuned_recipe(stage, runs, seed=3)
    smoke = demo.tuned_recipe(stage, runs, 3, SMOKE)
    assert full.seed == smoke.seed == 3
    assert smoke.train.steps < full.train.steps / 10
    assert full.name == stage


def test_prompts_fit_the_world():
    recipe = demo_recipe(smoke=False, seed=1)
    words = set(" ".join(tales.documents(0, count=400)).replace(".", " ").split())
    for prompt in recipe.sample.prompts:
        assert set(prompt.replace(",", "").replace(".", "").split()) <= {
            word.strip(',"') for word in words
        }


def test_a_new_run_never_takes_an_old_folder(tmp_path):
    assert _free_folder(tmp_path, "demo").name == "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert _free_folder(tmp_path, "demo").name == "demo-3"


def test_results_put_the_model_beside_counting(tmp_path):
    recipe = demo_recipe(smoke=True, seed=1)
    recipe = replace(
        recipe,
        model=replace(recipe.model, d_model=16, n_layers=1),
        train=replace(recipe.train, steps=5, eval_every=5),
        data=replace(recipe.data, megabytes=0.3),
        sample=replace(recipe.sample, every=0),
    )
    run = pretrain(recipe, tmp_path / "run", say=lambda text: None)
    table = results(recipe, run)
    names, bits = [row[0] for row in table["rows"]], [row[1] for row in table["rows"]]
    assert names[:4] == [f"{n}-gram, Kneser-Ney" for n in (2, 3, 4, 5)]
    assert bits[0] > bits[1] > bits[2] >= bits[3]
    assert bits[4] == round(run.read_info()["results"]["val_bits_per_byte"], 4)
