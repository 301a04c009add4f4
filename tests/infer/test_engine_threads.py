"""The engine among threads: who asks, who steps, who waits, who listens."""

import threading

from engines import check_empty, engine_of, model_of
from folio.infer.request import Request


def test_requests_from_many_threads_while_another_steps():
    model = model_of()
    engine = engine_of(model, pages=20, max_batch=4)
    wanted = [
        [c.ids for c in engine_of(model).submit(Request([i], 10, seed=i)).result()]
        for i in range(12)
    ]
    found, leaving = [None] * 12, threading.Event()

    def serve():
        while not leaving.is_set():
            if not engine.step():
                engine.wait(0.05)

    def ask(i):
        doomed = engine.submit(Request([i], 50))
        handle = engine.submit(Request([i], 10, seed=i))
        doomed.cancel()
        events = list(handle)
        found[i] = [[e.token.id for e in events]]
        assert doomed.done

    threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(12)]
    server = threading.Thread(target=serve, daemon=True)
    server.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    leaving.set()
    server.join(10)
    assert not server.is_alive()
    assert found == wanted
    check_empty(engine)


def test_no_lock_is_held_while_the_model_runs():
    engine = engine_of(model_of())
    first = engine.submit(Request([1], 5))
    hidden, done = engine.model.hidden, []

    def slow(tokens, positions, caches):
        other = threading.Thread(
            target=lambda: (
                done.append(engine.submit(Request([2], 1))),
                first.cancel(),
            ),
            daemon=True,
        )
        other.start()
        other.join(10)
        assert not other.is_alive()
        engine.model.hidden = hidden
        return hidden(tokens, positions, caches)

    engine.model.hidden = slow
    engine.step()
    assert first.result()[0].finish == "cancelled"
    assert [e.finish for e in first.take()] == ["cancelled"]  # and nothing after it
    assert first.completions[0].ids == []
    assert done[0].result()[0].finish == "length"
    check_empty(engine)


def test_waiting_for_work_ends_when_there_is_some_or_it_is_closed():
    engine = engine_of(model_of())
    assert not engine.wait(0.01)
    handle = engine.submit(Request([1], 3))
    assert engine.wait(0.01)
    handle.result()
    assert not engine.wait(0.01)
    server = threading.Thread(target=engine.wait, daemon=True)
    server.start()
    engine.close()
    server.join(10)
    assert not server.is_alive()


def test_listeners_are_called_and_one_that_fails_is_cancelled():
    engine = engine_of(model_of())
    heard = []

    def fails(handle):
        raise OSError("gone")

    engine.submit(Request([1], 3), notify=lambda handle: heard.extend(handle.take()))
    broken = engine.submit(Request([1], 30), notify=fails)
    engine.run()
    assert len(heard) == 3
    assert broken.completions[0].finish == "cancelled"
    assert len(broken.completions[0].ids) == 1
    check_empty(engine)
