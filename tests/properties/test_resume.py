"""Resumed = never stopped, for any learner, cut anywhere, any number of times."""

import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.objectives.next_token import next_token
from folio.training.loop import train
from folio.training.snapshot import newest_snapshot, restore, save_snapshot
from helpers import assert_same, everything, tiny_learner, tiny_model, tiny_stream

STEPS = 8

LEARNERS = st.fixed_dictionaries(
    {
        "precision": st.sampled_from(["fp32", "bf16", "fp16"]),
        "dropout": st.sampled_from([0.0, 0.3]),
        "accumulate": st.sampled_from([1, 4]),
        "tie_embeddings": st.booleans(),
        "positions": st.sampled_from(["learned", "rotary", "sinusoidal"]),
    }
)


def fresh(options: dict):
    """(learner, stream) as they are at the start of a process."""
    shape = {key: options[key] for key in ("dropout", "tie_embeddings", "positions")}
    model = tiny_model(n_layers=1, **shape)
    precision = options["precision"]
    learner = tiny_learner(model=model, precision=precision, on_nonfinite="skip")
    return learner, tiny_stream(order="epoch")


@settings(max_examples=15, derandomize=True, deadline=None)
@given(options=LEARNERS, cuts=st.sets(st.integers(1, STEPS - 1), max_size=3))
def test_resumed_equals_never_stopped(options, cuts):
    seen: list[list[dict]] = [[], []]

    def note(which):
        return [lambda learner, metrics: seen[which].append(metrics)]

    def go_on(learner, stream, steps, which):
        train(
            learner,
            stream,
            next_token,
            steps=steps,
            accumulate=options["accumulate"],
            hooks=note(which),
        )

    learner, stream = fresh(options)
    go_on(learner, stream, STEPS, 0)
    expected, drawn = everything(learner), torch.rand(2)

    with tempfile.TemporaryDirectory() as name:
        learner, stream = fresh(options)
        for cut in sorted(cuts):
            go_on(learner, stream, cut, 1)
            save_snapshot(Path(name), learner, {"stream": stream.state_dict()})
            learner, stream = fresh(options)
            torch.manual_seed(cut)
            snapshot = newest_snapshot(Path(name))
            restore(snapshot, learner)
            stream.load_state_dict(snapshot.state["stream"])
        go_on(learner, stream, STEPS, 1)
    assert_same(everything(learner), expected)
    assert torch.equal(torch.rand(2), drawn)
    assert repr(seen[0]) == repr(seen[1])  # repr: NaN is not equal to itself
