"""The thread that owns the models: who may ask it what, and what it survives."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
import torch

from engines import check_empty, engine_of, model_of
from folio.config import UserError
from folio.infer.request import Request
from folio.infer.sampling import GREEDY
from folio.infer.worker import Worker
from helpers import wait_for


@pytest.fixture
def told():
    return []


@pytest.fixture
def worker(told):
    engines = engine_of(model_of()), engine_of(model_of(1))
    with Worker(*engines, say=told.append) as worker:
        yield worker
    for engine in engines:
        check_empty(engine)


def test_requests_go_to_the_engine_they_name(worker):
    for engine, seed in ((None, 0), (worker.engines[0], 0), (worker.engines[1], 1)):
        found = worker.submit(Request([1, 2], 8, GREEDY), engine=engine).result()
        wanted = engine_of(model_of(seed)).submit(Request([1, 2], 8, GREEDY)).result()
        assert found[0].ids == wanted[0].ids


def test_only_its_thread_steps(worker):
    """Whoever waits for a result would otherwise drive the engine."""
    engine, steppers = worker.engines[0], set()
    real = engine.reader.read

    def read(batch):
        steppers.add(threading.current_thread().name)
        return real(batch)

    engine.reader.read = read
    handles = [worker.submit(Request([i], 9)) for i in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda handle: handle.result(), handles))
    assert steppers == {"engine"}


def test_jobs_run_on_its_thread_without_gradients(worker):
    def job():
        return threading.current_thread().name, torch.is_grad_enabled()

    assert worker.call(job).result(10) == ("engine", False)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit()])
def test_errors_of_jobs_belong_to_who_asked(worker, error):
    def job():
        raise error

    with pytest.raises(type(error)):
        worker.call(job).result(10)
    assert worker.alive
    assert worker.call(lambda: 3).result(10) == 3
    assert worker.faults == 0


def test_jobs_come_between_steps_and_hold_nobody_up_for_long(worker):
    handle = worker.submit(Request([1], 60, stop_ids=frozenset()))
    places = [
        worker.call(lambda: len(handle.completions[0].ids)).result(10)
        for _ in range(10)
    ]
    assert places == sorted(places)
    assert places[-1] < 60  # or the text was written first
    assert len(handle.result()[0].ids) == 60


def test_a_job_that_was_cancelled_is_not_done(worker):
    go, done = threading.Event(), []
    first = worker.call(lambda: go.wait(10))
    second = worker.call(lambda: done.append(1))
    assert second.cancel()
    go.set()
    first.result(10)
    worker.call(lambda: None).result(10)
    assert not done


def test_an_error_in_one_engine_ends_its_requests_and_no_others(worker, told):
    broken, sound = worker.engines
    go = threading.Event()
    worker.call(lambda: go.wait(10))
    bad = worker.submit(Request([1], 9))
    good = worker.submit(Request([1], 9), engine=sound)
    real, calls = broken.scheduler.plan, []

    def plan():
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("injected")
        return real()

    broken.scheduler.plan = plan
    go.set()
    assert bad.result()[0].error == "RuntimeError: injected"
    assert good.result()[0].finish == "length"
    assert worker.submit(Request([1], 9)).result()[0].finish == "length"
    assert worker.faults == 1
    assert "injected" in told[0]


def test_an_engine_that_stays_broken_is_not_asked_again_and_again(worker, told):
    worker.engines[0].scheduler.plan = None
    assert worker.submit(Request([1], 9)).result()[0].finish == "error"
    for _ in range(20):  # each time it looks after the engines, too
        worker.call(lambda: None).result(10)
    assert worker.faults < 60
    del worker.engines[0].scheduler.plan
    assert worker.submit(Request([1], 9)).result()[0].finish == "length"


def test_closing_cancels_what_is_left_and_takes_no_more():
    engine = engine_of(model_of())
    worker = Worker(engine, say=lambda text: None)
    go, entered = threading.Event(), threading.Event()

    def held():
        entered.set()
        go.wait(10)

    worker.call(held)
    entered.wait(10)
    handle, job = worker.submit(Request([1], 50)), worker.call(lambda: 1)
    closing = threading.Thread(target=worker.close)
    closing.start()
    assert handle.result()[0].finish == "cancelled"
    go.set()
    closing.join(10)
    assert not worker.alive
    with pytest.raises(CancelledError):
        job.result(10)
    with pytest.raises(UserError, match="closed"):
        worker.submit(Request([1], 5))
    with pytest.raises(UserError, match="closed"):
        worker.call(lambda: 1)
    worker.close()  # again
    check_empty(engine)


def test_a_job_left_while_it_closes_is_not_waited_for_in_vain():
    worker = Worker(engine_of(model_of()), say=lambda text: None)
    queue = worker._jobs

    class Late:
        """It closes between the question whether it has and the queue."""

        def put(self, item):
            worker._jobs = queue
            worker.close()
            queue.put(item)

    worker._jobs = Late()
    with pytest.raises(CancelledError):
        worker.call(lambda: 1).result(10)


def test_it_sleeps_when_there_is_nothing_to_do(worker):
    worker.submit(Request([1], 3)).result()
    wait_for(lambda: worker.steps >= 3)
    calls = []
    real = worker.engines[0].scheduler.plan
    worker.engines[0].scheduler.plan = lambda: calls.append(1) or real()
    assert not threading.Event().wait(0.1)
    assert len(calls) < 3
