"""Not a number: seen before the optimizer steps, named, never saved."""

import json
import re

import pytest
import torch

from folio.objectives.next_token import next_token
from folio.stages import pretrain as stage
from folio.training.loop import train
from folio.training.nonfinite import NonFiniteError
from folio.training.snapshot import read_snapshot, snapshot_paths
from helpers import (
    assert_same,
    everything,
    losses,
    tiny_learner,
    tiny_model,
    tiny_recipe,
    tiny_stream,
)

BAD = [float("nan"), float("inf"), float("-inf")]


def bad_loss(value):
    def objective(model, batch):
        loss, metrics = next_token(model, batch)
        return loss + value, metrics

    return objective


def spoil(parameter, value: float) -> None:
    """One element of this parameter's gradient will be `value`, in every backward."""

    def hook(gradient):
        gradient = gradient.clone()
        gradient.view(-1)[0] = value
        return gradient

    parameter.register_hook(hook)


def attempt(learner, objective=next_token) -> str:
    """The message of an update that must fail and change nothing."""
    stream = tiny_stream()
    before = everything(learner)
    with pytest.raises(NonFiniteError) as caught:
        learner.update([next(stream), next(stream)], objective)
    assert_same(everything(learner), before)
    return str(caught.value)


@pytest.mark.parametrize("value", BAD)
def test_a_bad_loss_stops_before_the_step(value):
    learner = tiny_learner()
    losses(learner, tiny_stream(), 3)
    message = attempt(learner, bad_loss(value))
    assert message.startswith(f"step 3: loss {value}")
    assert "the weights were not touched" in message
    assert "the loss itself overflowed" in message
    assert "\n" not in message


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(
    "name", ["blocks.0.mlp.up.weight", "blocks.1.attention.query.weight", "norm.gain"]
)
def test_one_bad_gradient_is_named(value, name):
    """Not after clipping, which would spread one NaN over all of them."""
    learner = tiny_learner()
    losses(learner, tiny_stream(), 1)
    spoil(dict(learner.model.named_parameters())[name], value)
    message = attempt(learner)
    assert f"going backward, in the gradient of {name};" in message


@pytest.mark.parametrize("value", BAD)
def test_a_bad_weight_is_named(value):
    learner = tiny_learner()
    with torch.no_grad():
        learner.model.blocks[1].mlp.down.weight[2, 3] = value
    assert "the weight blocks.1.mlp.down.weight;" in attempt(learner)


def test_the_first_layer_whose_output_is_bad_is_named():
    learner = tiny_learner()

    def overflow(module, inputs, output):
        return output * float("inf")

    learner.model.blocks[0].mlp.up.register_forward_hook(overflow)
    assert "the output of blocks.0.mlp.up;" in attempt(learner)


def test_bf16_and_fp16_stop_at_a_bad_loss_too():
    for precision in ("bf16", "fp16"):
        attempt(tiny_learner(precision=precision), bad_loss(float("nan")))


def test_skip_drops_the_update_and_stops_after_three_in_a_row():
    learner = tiny_learner(on_nonfinite="skip")
    stream = tiny_stream()
    losses(learner, stream, 2)
    before = everything(learner)
    for count in (1, 2):
        metrics = learner.update([next(stream)], bad_loss(float("nan")))
        assert metrics["loss"] != metrics["loss"]
        assert learner.skipped_in_a_row == count
    assert learner.step == 4  # skipped, not repeated: resuming skips it again
    assert_same(everything(learner), before)
    with pytest.raises(NonFiniteError):
        learner.update([next(stream)], bad_loss(float("nan")))


def test_a_good_step_forgives_two_bad_ones():
    learner = tiny_learner(on_nonfinite="skip")
    stream = tiny_stream()
    for _ in range(4):
        for _ in range(2):
            learner.update([next(stream)], bad_loss(float("inf")))
        losses(learner, stream, 1)
        assert learner.skipped_in_a_row == 0
    assert learner.step == 12


def test_what_follows_a_skip_is_as_if_it_had_not_been_tried():
    one, other = (tiny_learner(on_nonfinite="skip") for _ in range(2))
    for learner in (one, other):
        losses(learner, tiny_stream(), 2)
    stream = tiny_stream()
    one.update([next(stream)], bad_loss(float("nan")))
    other.step += 1
    for learner in (one, other):
        losses(learner, tiny_stream(), 2)
    assert_same(everything(one), everything(other))


def test_an_fp16_overflow_lowers_the_scale_and_goes_on():
    learner = tiny_learner(precision="fp16")
    learner.scaler.value = 2.0**40
    before = everything(learner)
    stream = tiny_stream()
    losses(learner, stream, 3)
    assert learner.scaler.value == 2.0**37
    assert_same(everything(learner), before)
    losses(learner, stream, 30)
    assert learner.scaler.value < 2.0**37
    assert learner.optimizer.state


def test_an_fp16_gradient_that_no_scale_can_mend_stops():
    """At scale 1 an overflow is the model's own: going on would skip for ever."""
    learner = tiny_learner(precision="fp16")
    learner.scaler.value = 4.0
    spoil(learner.model.blocks[0].mlp.up.weight, float("nan"))
    stream = tiny_stream()
    losses(learner, stream, 2)
    assert learner.scaler.value == 1.0
    with pytest.raises(NonFiniteError, match=r"gradient of blocks\.0\.mlp\.up"):
        losses(learner, stream, 1)


# ---- in a run ------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_run_stops_and_every_snapshot_is_finite(tmp_path, monkeypatch, step):
    def objective(model, batch):
        loss, metrics = next_token(model, batch)
        calls.append(1)
        return (loss * float("nan") if len(calls) > 4 * step else loss), metrics

    calls: list[int] = []
    monkeypatch.setattr(stage, "next_token", objective)
    recipe = tiny_recipe(tmp_path, train={"keep": 9})
    with pytest.raises(NonFiniteError, match=f"^step {step}: loss nan"):
        stage.pretrain(recipe, tmp_path / "run", say=lambda line: None)
    paths = snapshot_paths(tmp_path / "run/snapshots")
    assert len(paths) == step
    for path in paths:
        saved = read_snapshot(path)
        for tensor in (*saved.model.values(), *saved.optimizer.values()):
            assert bool(torch.isfinite(tensor).all())


def test_weights_that_break_in_the_step_itself_are_not_saved(tmp_path):
    """A finite gradient and an absurd learning rate: caught before the disk."""
    recipe = tiny_recipe(
        tmp_path, optim={"lr": 3e38, "warmup": 0, "weight_decay": 10.0}
    )
    with pytest.raises(NonFiniteError, match="not finite") as caught:
        stage.pretrain(recipe, tmp_path / "run", say=lambda line: None)
    assert "was not saved" in str(caught.value)
    assert snapshot_paths(tmp_path / "run/snapshots") == []


def test_a_held_out_loss_of_nan_is_never_the_best(tmp_path, monkeypatch):
    values = iter([float("nan"), 3.0, float("nan")])
    monkeypatch.setattr(
        stage,
        "perplexity",
        lambda *args: {"val_loss": next(values), "val_perplexity": 1.0},
    )
    stage.pretrain(tiny_recipe(tmp_path), tmp_path / "run", say=lambda line: None)
    info = json.loads((tmp_path / "run/run.json").read_text())
    assert info["results"]["best_step"] == 8
    text = (tmp_path / "run/metrics.jsonl").read_text()
    assert text.count('"val_loss": null') == 2
    assert not re.search("NaN|Infinity", text)


def test_a_skipped_step_is_null_in_the_log_and_resumes_the_same(tmp_path):
    learner = tiny_learner(on_nonfinite="skip", model=tiny_model())
    bad = {2, 6}

    def objective(model, batch):
        loss, metrics = next_token(model, batch)
        return (loss * float("nan") if learner.step in bad else loss), metrics

    train(learner, tiny_stream(), objective, steps=8)
    assert learner.step == 8
    assert all(bool(torch.isfinite(t).all()) for t in everything(learner).values())
