"""Anything that can happen, in any order: pages stay whole, others are not touched."""

import random

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import folio.infer.engine as engine_module
from engines import (
    check_empty,
    check_pages,
    engine_of,
    model_of,
    outcome,
    random_request,
)
from folio.infer.request import Request
from folio.infer.sampling import GREEDY, Sampling

MODEL = model_of(n_layers=1, d_model=16)
FAULTS = (
    RuntimeError("injected"),
    MemoryError("injected"),
    torch.OutOfMemoryError("x"),
)
PLACES = ("hidden", "choose", "clear", "read")
known: dict = {}


def alone(request: Request) -> list[tuple]:
    """What the request gets by itself; asked once."""
    if request not in known:
        handle = engine_of(MODEL).submit(request)
        known[request] = [outcome(sample) for sample in handle.result()]
    return known[request]


def freeze(request: Request) -> Request:
    """The same with a prompt that can be the key of a dictionary."""
    fields = dict(vars(request), prompt=tuple(request.prompt))
    return Request(**fields)


class Broken:
    """While it lasts, a part of the step fails: every call, or those after `late`."""

    def __init__(self, engine, place: str, error: Exception, late: int = 0):
        target = {
            "hidden": (engine.model, "hidden"),
            "choose": (engine_module, "choose_tokens"),
            "clear": (engine.reader.store, "clear"),
            "read": (engine.model, "read"),
        }
        self.owner, self.name = target[place]
        self.error, self.late, self.hits = error, late, 0

    def __enter__(self):
        self.real = getattr(self.owner, self.name)

        def fails(*arguments):
            self.late -= 1
            if self.late < 0:
                self.hits += 1
                raise self.error
            return self.real(*arguments)

        setattr(self.owner, self.name, fails)
        return self

    def __exit__(self, *_):
        if self.owner is engine_module:
            setattr(self.owner, self.name, self.real)
        else:
            delattr(self.owner, self.name)


class EngineMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.engine = engine_of(MODEL, pages=10, max_batch=3, chunk=32)
        self.asked: list[tuple[Request, object]] = []

    @rule(seed=st.integers(0, 40))
    def submit(self, seed):
        request = freeze(random_request(random.Random(seed), longest=20))
        self.asked.append((request, self.engine.submit(request)))

    @rule(count=st.integers(1, 12))
    def step(self, count):
        for _ in range(count):
            self.engine.step()

    @rule(which=st.integers(0, 50))
    def cancel(self, which):
        if self.asked:
            _, handle = self.asked[which % len(self.asked)]
            handle.cancel()
            assert handle.done

    @rule(
        place=st.sampled_from(PLACES),
        error=st.sampled_from(FAULTS),
        late=st.integers(0, 1),
    )
    def step_with_a_fault(self, place, error, late):
        with Broken(self.engine, place, error, late):
            self.engine.step()

    @rule()
    def step_interrupted(self):
        with Broken(self.engine, "hidden", KeyboardInterrupt()) as fault:
            try:
                self.engine.step()
            except KeyboardInterrupt:
                assert fault.hits

    @rule()
    def forget(self):
        self.engine.forget()

    @invariant()
    def pages_are_whole(self):
        check_pages(self.engine)

    def teardown(self):
        self.engine.run()
        check_empty(self.engine)
        for request, handle in self.asked:
            assert handle.done
            for wanted, sample in zip(alone(request), handle.completions, strict=True):
                if sample.finish in ("cancelled", "error"):
                    count = len(sample.ids)
                    assert sample.ids == wanted[0][:count]
                    assert (sample.error is not None) == (sample.finish == "error")
                else:
                    assert outcome(sample) == wanted
            events = handle.take()
            ends = [event.index for event in events if event.finish is not None]
            assert sorted(ends) == list(range(request.n))


EngineMachine.TestCase.settings = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=20,
    stateful_step_count=25,
)
TestEngineMachine = EngineMachine.TestCase


@pytest.mark.parametrize("place", PLACES)
def test_a_fault_fails_its_batch_alone_and_the_engine_goes_on(place):
    engine = engine_of(MODEL, chunk=16)
    decoding = engine.submit(Request((1,), 30, GREEDY))
    engine.step()
    reading = engine.submit(Request(tuple(range(40)), 5, GREEDY))
    later = Request((3, 4), 9, GREEDY)
    with Broken(engine, place, RuntimeError("injected")) as fault:
        engine.step()
    assert fault.hits
    waiting = engine.submit(later)
    engine.run()
    assert decoding.completions[0].finish == "error"
    assert decoding.completions[0].error == "RuntimeError: injected"
    spared = place in ("choose", "read")  # its chunk was not the last: nothing chosen
    assert reading.completions[0].finish == ("length" if spared else "error")
    assert outcome(waiting.completions[0]) == alone(later)[0]
    check_empty(engine)


def test_of_two_calls_only_the_failing_one_fails():
    engine = engine_of(MODEL, chunk=16)
    decoding = engine.submit(Request((1,), 30, GREEDY))
    engine.step()
    reading = engine.submit(Request(tuple(range(40)), 5, GREEDY))
    with Broken(engine, "hidden", RuntimeError("injected"), late=1):
        engine.step()
    engine.run()
    assert decoding.completions[0].finish == "length"
    assert reading.completions[0].finish == "error"
    check_empty(engine)


def test_an_error_of_generate_is_raised_and_the_others_are_cancelled():
    engine = engine_of(MODEL)
    with (
        Broken(engine, "hidden", RuntimeError("injected")),
        pytest.raises(RuntimeError, match="injected"),
    ):
        engine.generate([[1], [2]], max_new_tokens=3)
    check_empty(engine)
    assert engine.generate([[1]], max_new_tokens=3)[0].finish == "length"


def test_scores_that_are_no_numbers_fail_one_request_and_harm_no_later_one():
    model = model_of()
    engine = engine_of(model, pages=8)
    with torch.no_grad():
        model.embedding.weight[60] = float("nan")
    later = Request([1, 2, 3], 20, GREEDY)
    bad = engine.submit(Request([1, 60, 3], 5))
    beside = engine.submit(later)
    engine.run()
    assert bad.completions[0].finish == "error"
    assert bad.completions[0].error == "the model's scores are not numbers"
    wanted = outcome(engine_of(model).submit(later).result()[0])
    assert outcome(beside.completions[0]) == wanted
    for _ in range(8):  # every page has been the bad one's by now
        assert outcome(engine.submit(later).result()[0]) == wanted


def test_a_tokenizer_that_fails_fails_its_request():
    engine = engine_of(MODEL)
    bad, good = (engine.submit(Request((1,), 5, GREEDY)) for _ in range(2))
    bad.sequences[0].stop.push = None
    bad.sequences[0].decoder = type(
        "Broken", (), {"push": lambda self, id: 1 / 0, "flush": lambda self: ""}
    )()
    bad.sequences[0].stop.push = lambda text: text
    engine.run()
    assert bad.completions[0].finish == "error"
    assert "ZeroDivisionError" in bad.completions[0].error
    assert good.completions[0].finish == "length"
    check_empty(engine)


@pytest.mark.parametrize("place", ["clear", "hidden", "read", "choose"])
def test_an_interrupted_step_is_repeated_as_if_nothing_had_been(place, monkeypatch):
    engine = engine_of(MODEL)
    store = engine.reader.store
    for tensor in (store.keys, store.values, store.positions):
        tensor[..., 1:, :] = 1  # what others have left in the pages
    request = Request((1, 2, 3), 20, Sampling(1.0), seed=4)
    handle = engine.submit(request)
    for _ in range(3):
        if place == "choose":  # chances are drawn by then
            real = engine_module.choose_tokens

            def late(*arguments, real=real):
                real(*arguments)
                raise KeyboardInterrupt

            monkeypatch.setattr(engine_module, "choose_tokens", late)
            with pytest.raises(KeyboardInterrupt):
                engine.step()
            monkeypatch.setattr(engine_module, "choose_tokens", real)
        else:
            fault = Broken(engine, place, KeyboardInterrupt())
            with fault, pytest.raises(KeyboardInterrupt):
                engine.step()
        engine.step()
    assert [outcome(s) for s in handle.result()] == alone(request)
    check_empty(engine)
