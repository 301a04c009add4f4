"""The loop: batches pulled no earlier than needed, hooks called once an update."""

import pytest

from folio.config import UserError
from folio.objectives.next_token import next_token
from folio.training.hooks import due
from folio.training.loop import train
from helpers import assert_same, everything, losses, tiny_learner, tiny_stream


def test_it_makes_as_many_updates_in_all_as_asked():
    learner = tiny_learner()
    seen = []
    hooks = [
        lambda learner, metrics: seen.append((learner.step, metrics["loss"])),
        lambda learner, metrics: seen.append((learner.step, "second")),
    ]
    assert train(learner, tiny_stream(), next_token, steps=3, hooks=hooks) is learner
    assert [step for step, _ in seen] == [1, 1, 2, 2, 3, 3]
    assert [what for _, what in seen[1::2]] == ["second"] * 3
    train(learner, tiny_stream(), next_token, steps=3, hooks=hooks)
    assert len(seen) == 6  # they have been made already


def test_batches_are_pulled_no_earlier_than_needed():
    """A stream that samples from the model must see the newest one."""
    learner = tiny_learner()
    pulled_at = []

    def stream():
        source = tiny_stream()
        while True:
            pulled_at.append(learner.step)
            yield next(source)

    train(learner, stream(), next_token, steps=3, accumulate=2)
    assert pulled_at == [0, 0, 1, 1, 2, 2]


def test_in_two_parts_is_as_in_one():
    one, other = tiny_learner(), tiny_learner()
    train(one, tiny_stream(), next_token, steps=6, accumulate=2)
    stream = tiny_stream()
    train(other, stream, next_token, steps=2, accumulate=2)
    train(other, stream, next_token, steps=6, accumulate=2)
    assert_same(everything(one), everything(other))


def test_a_stream_that_ends_is_told():
    batches = [next(tiny_stream()) for _ in range(5)]
    with pytest.raises(UserError, match="the stream ended at step 2 of 9"):
        train(tiny_learner(), batches, next_token, steps=9, accumulate=2)


def test_hooks_see_the_model_after_the_update():
    learner, again = tiny_learner(), tiny_learner()
    kept = []
    train(
        learner,
        tiny_stream(),
        next_token,
        steps=2,
        hooks=[lambda learner, metrics: kept.append(everything(learner))],
    )
    losses(again, tiny_stream(), 1)
    assert_same(kept[0], everything(again))


def test_when_something_is_due():
    assert [s for s in range(9) if due(s, 3, last=8)] == [0, 3, 6, 8]
    assert not any(due(s, 0, last=8) for s in range(9))
