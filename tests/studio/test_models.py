"""Loaded models: one thread each, read again when newer, let go when unused."""

import os
import shutil
import threading

import torch

from folio.infer.inspect import attention_patterns
from folio.studio import models as models_module
from folio.studio.models import Models, kept_step
from folio.training.run import Run
from folio.training.snapshot import save_snapshot
from helpers import tiny_learner
from studio.made_runs import make_run


def test_a_model_is_loaded_once_and_computes_on_its_own_thread(studio):
    loaded = studio.load("base")
    assert studio.load("base") is loaded
    names = {loaded.compute(lambda: threading.current_thread().name) for _ in range(3)}
    assert names == {"engine"}
    assert loaded.compute(torch.is_grad_enabled) is False


def test_newer_weights_are_read_again_and_the_old_thread_ends(tmp_path):
    models, folder = Models("cpu"), make_run(tmp_path / "run")
    first = models.of(folder)
    os.utime(Run(folder).model / "model.safetensors", ns=(1 << 62, 1 << 62))
    second = models.of(folder)
    assert second is not first
    assert not first.worker.alive
    models.close()
    assert not second.worker.alive


def test_the_model_longest_unused_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(models_module, "MOST_MODELS", 2)
    models = Models("cpu")
    folders = [make_run(tmp_path / name) for name in "abc"]
    a, b = models.of(folders[0]), models.of(folders[1])
    models.of(folders[0])
    models.of(folders[2])
    assert a.worker.alive
    assert not b.worker.alive
    models.close()


def test_attention_goes_through_the_snapshots_of_a_run(tmp_path):
    folder = make_run(tmp_path / "run")
    models = Models("cpu")
    loaded = models.of(folder)
    learner = tiny_learner(model=type(loaded.model)(loaded.model.config))
    for step in (2, 5):
        learner.step = step
        save_snapshot(Run(folder).snapshots, learner, {})
    found = loaded.attention_over_steps([1, 2, 3])
    assert list(found) == [2, 5, 7]
    expected = attention_patterns(learner.model, [1, 2, 3])
    torch.testing.assert_close(found[5], expected)
    shutil.rmtree(Run(folder).snapshots)
    assert list(loaded.attention_over_steps([1])) == [7]
    models.close()


def test_the_step_of_the_kept_weights_is_the_best_one(tmp_path):
    folder = make_run(tmp_path / "run")
    assert kept_step(folder) == 7
    Run(folder).update_info(results={"best_step": 4})
    assert kept_step(folder) == 4
    Run(folder).info.unlink()
    assert kept_step(folder) == 0
