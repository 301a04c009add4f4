"""What one request adds to its scores: right, its own affair, and never lost."""

import math
import random

import pytest
import torch

from engines import check_empty, engine_of, model_of, outcome
from folio.config import UserError
from folio.infer.request import Request
from folio.infer.sampling import GREEDY, Sampling
from folio.infer.steering import Steer, Steering

MODEL = model_of()


class Cycle:
    """A grammar that wants ids in turn, and remembers where it is."""

    def __init__(self, ids=(5, 6, 7), fails=None):
        self.ids, self.place, self.fails = ids, 0, fails

    def allowed(self):
        if self.place == self.fails:
            raise UserError("grammar: lost")
        mask = torch.zeros(64, dtype=torch.bool)  # more than there are tokens
        mask[self.ids[self.place % len(self.ids)]] = True
        return mask

    def accept(self, token):
        assert token == self.ids[self.place % len(self.ids)]
        self.place += 1


def ask(prompt, steering, most=12, **options):
    options = {"stop_ids": frozenset(), "sampling": GREEDY} | options
    return Request(prompt, most, steering=steering, **options)


def naive(prompt, steering, count):
    """Greedy, all read anew, penalties counted anew."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            scores = MODEL(torch.tensor([ids])).logits[0, -1].tolist()
            written = ids[len(prompt) :]
            for token in range(len(scores)):
                scores[token] += steering.bias.get(token, 0.0)
                if token in written:
                    scores[token] -= steering.presence_penalty
                    scores[token] -= written.count(token) * steering.frequency_penalty
            ids.append(max(range(len(scores)), key=scores.__getitem__))
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    "steering",
    [
        Steering({3: 4.0, 9: -100.0}),
        Steering(presence_penalty=2.0),
        Steering(frequency_penalty=1.3),
        Steering({3: 9.0}, presence_penalty=-1.0, frequency_penalty=2.0),
    ],
)
def test_against_a_count_that_is_made_anew(steering):
    for prompt in ([1, 2, 3], [3, 3, 3, 3]):
        [found] = engine_of(MODEL).submit(ask(prompt, steering, 20)).result()
        assert found.ids == naive(prompt, steering, 20)
    assert naive([1], steering, 20) != naive([1], Steering(), 20)


def test_tokens_of_the_prompt_do_not_count():
    steer = Steer(Steering(presence_penalty=1.0, frequency_penalty=1.0))
    scores = torch.zeros(4)
    assert torch.equal(steer(scores), scores)
    steer.accept(2)
    steer.accept(2)
    assert steer(scores).tolist() == [0, 0, -3, 0]
    assert scores.tolist() == [0, 0, 0, 0]


def test_alone_and_among_neighbors_it_is_the_same():
    chance = random.Random(0)
    steerings = [
        Steering(),
        Steering({4: 9.0}),
        Steering(frequency_penalty=2.0, presence_penalty=0.5),
        Steering(grammar=Cycle),
    ]
    requests = [
        ask(
            [i, 7, 9],
            chance.choice(steerings),
            15,
            sampling=chance.choice((GREEDY, Sampling(1.0), Sampling(0.7, top_k=5))),
            seed=i,
            n=chance.choice((1, 2)),
        )
        for i in range(16)
    ]
    wanted = [
        [outcome(c) for c in engine_of(MODEL).submit(r).result()] for r in requests
    ]
    engine = engine_of(MODEL, max_batch=7)
    handles = [engine.submit(r) for r in requests]
    engine.run()
    assert [[outcome(c) for c in h.completions] for h in handles] == wanted
    check_empty(engine)


def test_preemption_loses_neither_counts_nor_the_place_in_a_grammar():
    engine = engine_of(MODEL, pages=9, max_batch=6, chunk=32)
    steerings = [Steering(grammar=Cycle), Steering(frequency_penalty=0.7)]
    requests = [ask([i] * 20, steerings[i % 2], 42, seed=i) for i in range(6)]
    handles = [engine.submit(r) for r in requests]
    engine.run()
    assert engine.scheduler.preemptions > 1
    for request, handle in zip(requests, handles, strict=True):
        [wanted] = engine_of(MODEL).submit(request).result()
        assert outcome(handle.completions[0]) == outcome(wanted)
    assert handles[0].completions[0].ids == [5, 6, 7] * 14


def test_each_sample_has_a_grammar_of_its_own():
    handle = engine_of(MODEL).submit(ask([1], Steering(grammar=Cycle), 7, n=3))
    assert [c.ids for c in handle.result()] == [[5, 6, 7, 5, 6, 7, 5]] * 3


@pytest.mark.parametrize(
    ("steering", "told"),
    [
        (Steering(grammar=lambda: Cycle(fails=3)), "grammar: lost"),
        (Steering({5: -math.inf}, grammar=Cycle), "every token that the grammar"),
    ],
)
def test_what_goes_wrong_hits_that_sample_alone(steering, told):
    engine = engine_of(MODEL)
    others = [engine.submit(ask([i], Steering({3: 1.0}), 10)) for i in range(3)]
    bad = engine.submit(ask([9], steering, 10))
    engine.run()
    assert bad.completions[0].finish == "error"
    assert told in bad.completions[0].error
    assert [event.refused for event in bad.take()][-1]  # it was asked for
    for i, other in enumerate(others):
        [wanted] = engine_of(MODEL).submit(ask([i], Steering({3: 1.0}), 10)).result()
        assert outcome(other.completions[0]) == outcome(wanted)
    check_empty(engine)


def test_a_grammar_that_breaks_is_no_fault_of_who_asked():
    class Breaks(Cycle):
        def accept(self, token):
            raise ZeroDivisionError

    engine = engine_of(MODEL)
    bad = engine.submit(ask([9], Steering(grammar=Breaks), 10))
    engine.run()
    assert "ZeroDivisionError" in bad.completions[0].error
    assert not any(event.refused for event in bad.take())
    check_empty(engine)


def test_log_probs_are_those_of_the_steered_choice():
    [found] = engine_of(MODEL).submit(ask([1], Steering(grammar=Cycle), 4)).result()
    assert found.logprobs == [0.0] * 4  # there was no other


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"presence_penalty": math.nan}, "presence_penalty = nan"),
        ({"frequency_penalty": math.inf}, "frequency_penalty = inf"),
        ({"bias": {3: math.nan}}, "bias of token 3"),
        ({"bias": {3: math.inf}}, "bias of token 3"),
    ],
)
def test_what_is_no_number_is_refused(values, told):
    with pytest.raises(UserError, match=told):
        Steering(**values)
    assert not Steering()
    assert Steering({1: 0.0})
